"""What a browser posts, within limits, and the ids that its cookies hold."""

import asyncio
import re
import secrets
from binascii import unhexlify
from collections.abc import Mapping

from starlette.requests import Request

from libs.common.pages.cookies import ID_BYTES

FEW_BYTES = 4 * 1024
"""Of a form without a text."""
USUAL_BYTES = 64 * 1024
"""Of a form with a text that can be sent: 4,096 characters take at most 49,152 bytes in it."""
MOST_BYTES = 512 * 1024
"""Of a form with a text. A longer one is given back to shorten it."""
LARGEST_BYTES = 7 * 1024 * 1024
"""Of the largest form: what the server takes of a request (``bounds``), less its head."""
FEW_FIELDS = 16
_ESCAPED = re.compile(rb"(?:%[0-9A-Fa-f]{2})+")
_FORM = "application/x-www-form-urlencoded"


async def form_of(request: Request, most_bytes: int, most_fields: int = FEW_FIELDS) -> Mapping[str, str] | None:
    """The fields of the form. None: it is larger than ``most_bytes``. Of a repeated field the last counts."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return {}
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            return None
    if len(body) <= USUAL_BYTES:  # a larger one is decoded by a thread
        return fields_of(bytes(body), most_fields)
    return await asyncio.to_thread(fields_of, bytes(body), most_fields)


def fields_of(body: bytes, most: int = FEW_FIELDS) -> Mapping[str, str]:
    """The fields that the body of a form has; none where there are more than ``most``.

    ``urllib.parse.parse_qs`` says the same, in a time that grows with the square of the length.
    """
    parts = body.split(b"&", most)
    if len(parts) > most:
        return {}
    return {_decoded(name): _decoded(value) for name, _, value in (part.partition(b"=") for part in parts if part)}


def _decoded(raw: bytes) -> str:
    return _ESCAPED.sub(_unescaped, raw.replace(b"+", b" ")).decode("utf-8", "replace")


def _unescaped(run: re.Match[bytes]) -> bytes:
    return unhexlify(run[0].replace(b"%", b""))


def fresh_id() -> bytes:
    """256 bits from the system's CSPRNG."""
    return secrets.token_bytes(ID_BYTES)
