"""Callbacks of SMS providers as forms. Pure.

Rule 1: a form names no field twice. Providers do not, and a second value would be read by one program and signed by
        another.
Rule 2: known fields are used and have a shape each. Unknown ones are ignored: providers add fields without notice.
"""

import re
from collections.abc import Collection, Mapping
from urllib.parse import parse_qs

from libs.common import phone
from libs.common.errors import Undecodable

MAX_FIELDS = 200
MAX_TEXT = 10_000
"""Characters of a customer's SMS. Providers pass on 1,600 at most, and more from some networks."""

Shapes = Mapping[str, re.Pattern[str]]

ANY_TEXT = re.compile(rf"[\s\S]{{0,{MAX_TEXT}}}")
ADDRESS = re.compile(r"[^\x00-\x1f]{0,40}")
REFERENCE = re.compile(r"[^\x00-\x1f]{0,100}")


def read_form(body: bytes | bytearray) -> dict[str, str] | None:
    """The value of every field, blank ones too. None: no form of a provider, or one that names a field twice."""
    try:
        form = parse_qs(body.decode("ascii"), keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="replace")
    except ValueError:
        return None
    return {name: values[0] for name, values in form.items()} if all(len(v) == 1 for v in form.values()) else None


def known_fields(form: Mapping[str, str], shapes: Shapes) -> dict[str, str]:
    """The fields that are used."""
    return {name: form[name] for name in shapes if name in form}


def without_unreadable(form: Mapping[str, str], shapes: Shapes, spare: Collection[str]) -> dict[str, str]:
    """The form without those of the ``spare`` fields that hold what they cannot hold. The rest counts without them."""
    unread = {name for name in spare if name in shapes and not shapes[name].fullmatch(form.get(name, ""))}
    return {name: told for name, told in form.items() if name not in unread}


def check_shapes(form: Mapping[str, str], shapes: Shapes, reason: str) -> None:
    """Raise Undecodable where a field holds what it cannot hold, or too much."""
    wrong = [name for name, shape in shapes.items() if not shape.fullmatch(form.get(name, ""))]
    if wrong:
        raise Undecodable(reason, f"{', '.join(wrong[:5])}: it holds what it cannot hold, or too much")


def number_of(address: str) -> str | None:
    """E.164, from a number with or without its plus sign. None: a short code, a name or another channel's address.

    A plus sign that nobody escaped comes as a space.
    """
    bare = address.strip()
    without_plus = bare.isascii() and bare.isdigit() and not bare.startswith("00")
    return phone.normalise(f"+{bare}" if without_plus else bare)
