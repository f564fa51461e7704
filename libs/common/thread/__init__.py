"""Conversations and their messages: rows, status machine, reasons of failures, what the portal shows, windows."""
