"""What a browser keeps while somebody signs in: signed, and good for a while. Pure; the time is an argument.

Rule 1: a value is one of ours, or it is none: it is signed for its purpose, and ends ``LIFE`` after it was made.
Rule 2: it is no secret to the browser that has it, and nothing in it is one of ours.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Literal

import orjson

from libs.common.bridge.portal_keys import PurposeKeys

LIFE = timedelta(minutes=10)
Purpose = Literal["attempt", "choice"]
_MOST = 3_500
"""Characters of a value: a browser keeps 4,096 of a cookie with its name."""


class Seal:
    """Signs and reads."""

    def __init__(self, keys: PurposeKeys) -> None:
        self._keys = keys

    def close(self, purpose: Purpose, value: Mapping[str, Any], now: datetime) -> str:
        """The value as a cookie carries it."""
        body = urlsafe_b64encode(orjson.dumps({**value, "_": [purpose, int((now + LIFE).timestamp())]})).decode()
        return f"{body}.{urlsafe_b64encode(self._keys.hash(body.encode())).decode()}"

    def open(self, purpose: Purpose, sealed: str | None, now: datetime) -> Mapping[str, Any] | None:
        """The value; None where it is not one of ours for this purpose, or is over."""
        if sealed is None or len(sealed) > _MOST or not sealed.isascii():
            return None
        body, _, signature = sealed.partition(".")
        try:
            digest = urlsafe_b64decode(signature)
            if urlsafe_b64encode(digest).decode() != signature or not self._keys.made(body.encode(), digest):
                return None
            value: dict[str, Any] = orjson.loads(urlsafe_b64decode(body))
        except ValueError:
            return None
        made_for, ends_at = value.pop("_")
        return value if made_for == purpose and now.timestamp() < ends_at else None
