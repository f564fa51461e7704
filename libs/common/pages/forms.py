"""What a browser posts, within limits, and the ids that its cookies hold."""

import secrets
from collections.abc import Mapping
from urllib.parse import parse_qs

from starlette.requests import Request

from libs.common.pages.cookies import ID_BYTES

FEW_BYTES = 4 * 1024
"""Of a form without a text."""
MOST_BYTES = 512 * 1024
"""Of a form with a text: 4,096 characters take at most 49,152 bytes in it. A longer one is given back to shorten it."""
FEW_FIELDS = 16
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
    try:
        fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=most_fields)
    except ValueError:  # more fields than that
        return {}
    return {name: values[-1] for name, values in fields.items()}


def fresh_id() -> bytes:
    """256 bits from the system's CSPRNG."""
    return secrets.token_bytes(ID_BYTES)
