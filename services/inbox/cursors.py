"""Where the next page of a list begins, as an opaque text that the client gives back. Pure.

Rule 1: a cursor names the last row of its page by what the list is sorted by. So a page that comes later begins right
        behind that row, whatever has been written meanwhile.
Rule 2: a cursor is signed for one organisation and one list with its filter. For any other it is no cursor.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import orjson

from libs.common.bridge.portal_keys import PurposeKeys

_DIGEST = 32
MOST = 500
"""Characters of a cursor."""


class Cursors:
    """Writes and reads cursors."""

    def __init__(self, keys: PurposeKeys) -> None:
        self._keys = keys

    def write(self, scope: Sequence[str | None], place: Sequence[int | str | bool | datetime]) -> str:
        """The cursor behind ``place``. ``scope``: the organisation, the list, and each of its filters."""
        payload = orjson.dumps([one.isoformat() if isinstance(one, datetime) else one for one in place])
        return base64.urlsafe_b64encode(self._keys.hash(_signed(scope, payload)) + payload).rstrip(b"=").decode()

    def read(self, scope: Sequence[str | None], cursor: str) -> list[Any]:
        """The place that a cursor names. Raises ValueError for what is no cursor of this list."""
        if len(cursor) > MOST or not cursor.isascii():
            raise ValueError("this is no cursor")
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except binascii.Error:
            raise ValueError("this is no cursor") from None
        digest, payload = raw[:_DIGEST], raw[_DIGEST:]
        if not self._keys.made(_signed(scope, payload), digest):
            raise ValueError("this is no cursor of this list with these filters")
        place: list[Any] = orjson.loads(payload)
        return place


def _signed(scope: Sequence[str | None], payload: bytes) -> bytes:
    return orjson.dumps(list(scope)) + b"\n" + payload
