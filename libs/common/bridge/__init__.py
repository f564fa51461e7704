"""The bridge: the slot of a conversation (type, Redis, SQL) and the codes of magic links."""
