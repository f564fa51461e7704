"""The bridge: the slot of a conversation (type and rule, gate in Redis, rows in PostgreSQL), and codes of links."""
