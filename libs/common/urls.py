"""Addresses of the web that anybody could fetch. Pure.

Rule 1: an address has a host, and a port from 1 to 65535 where it names one. It has no white space, no control
        characters (RFC 3986), and no U+FFFD, which stands where a character was lost.
Rule 2: what cannot be told from the address alone is not judged: whether the host exists, and what it answers.
"""

import re
from urllib.parse import urlsplit

_WHOLE = re.compile(r"https?://[^\s\x00-\x1f\x7f\ufffd]+", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Whether this is an http or https address that can be fetched."""
    if _WHOLE.fullmatch(text) is None:
        return False
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets without an IPv6 address, or a port that is none
        return False
