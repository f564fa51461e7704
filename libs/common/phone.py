"""Phone numbers as Transom keeps them: E.164 with the plus sign. Pure.

Meta's ``wa_id`` is the same number without the plus; ``wa.me`` links want the digits alone. A send to Meta without the plus would get the business
number's country code put before it and may reach a stranger.
"""

import re

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_TRUNK = re.compile(r"\(\s*0\s*\)")  # "+44 (0)7700 …": what is dialled at home only
_DECORATION = re.compile(r"[\s().\-\u00a0]")


def normalise(raw: object) -> str | None:
    """``+447700900999`` from a number written with spaces, dashes, brackets, a (0) or a leading 00; None when it is not international."""
    if not isinstance(raw, str):
        return None
    bare = _DECORATION.sub("", _TRUNK.sub("", raw))
    if bare.startswith("00"):
        bare = "+" + bare[2:]
    return bare if _E164.fullmatch(bare) else None


def from_wa_id(wa_id: object) -> str | None:
    """The phone number behind a ``wa_id`` (digits without a plus); None for a BSUID or anything else."""
    if not isinstance(wa_id, str) or not wa_id.isascii() or not wa_id.isdigit():
        return None
    return normalise("+" + wa_id)


def digits(phone: str) -> str:
    """The digits alone, as ``wa.me`` and Vonage want them."""
    return "".join(c for c in phone if c.isascii() and c.isdigit())
