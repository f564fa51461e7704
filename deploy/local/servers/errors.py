"""What can go wrong with a server of this machine."""


class ServerError(Exception):
    """A server could not be had. The message is one line for a person: what failed and what to do about it."""
