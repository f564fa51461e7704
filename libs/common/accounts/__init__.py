"""Accounts of providers: their pauses, and from when on silence of a provider proves something."""
