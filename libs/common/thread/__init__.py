"""Messages of a conversation: their states, what providers said of them, and what becomes of a window."""
