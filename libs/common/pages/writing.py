"""What people may write in a field of a page, customers and staff alike. Pure."""

import re
import unicodedata
from typing import Literal

from libs.common.events.content import MAX_TEXT

TextFault = Literal["empty", "too_long", "characters"]

_LAYOUT = "\n\t"


def as_written(raw: str) -> str:
    """The text of the field, with the line ends that the person made: browsers send CR LF for each."""
    return raw.replace("\r\n", "\n").replace("\r", "\n")


def fault_of(text: str) -> TextFault | None:
    """Why this text cannot be sent; None when it can."""
    if len(text) > MAX_TEXT:
        return "too_long"
    if any(c not in _LAYOUT and unicodedata.category(c) in ("Cc", "Cs") for c in text):
        return "characters"
    return "empty" if not any(unicodedata.category(c) not in _INVISIBLE for c in text) else None


_INVISIBLE = ("Cc", "Cf", "Zs", "Zl", "Zp")


def form_id(raw: str | None) -> str | None:
    """The id of the form that was posted; None where it has none that can be one."""
    return raw if raw is not None and _FORM_ID.fullmatch(raw) else None


_FORM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
