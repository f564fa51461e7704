"""The bridge: the slot of a conversation (type and rule, its gate in Redis, its rows in PostgreSQL) and the codes of magic links."""
