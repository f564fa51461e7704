"""How far a server's clock and this host's are apart. Pure."""

TOLERATED_SECONDS = 5.0


def apart(asked: float, told: float, answered: float) -> float:
    """The least seconds between the clocks: the server read its own between question and answer, all unix seconds."""
    return max(asked - told, told - answered, 0.0)
