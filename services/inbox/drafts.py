"""What a person has typed and chosen, as the form of the composer posts it. Pure.

Rule 1: a form that is not whole is read as far as it goes. What it does not say is as if it were not chosen.
Rule 2: the values of a template count for that template alone: the page shows another one without them.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args
from uuid import UUID

import orjson

from libs.common.events.outbound import Channel
from libs.common.pages.writing import as_written, form_id
from services.inbox.picker import Choice

_VALUE = "f."
_CHANNELS: dict[str, Channel] = {one: one for one in get_args(Channel)}
MOST_SEARCH = 100


@dataclass(frozen=True, slots=True)
class Draft:
    """What the person has written and chosen so far.

    ``reply_to`` is the message that is quoted, ``edits`` the parked text that this one replaces. ``is_picking``: the
    picker is wanted although a text may be written. ``is_discarding``: the page asks whether to discard the text.
    ``twice`` is a message of unknown outcome that is to be sent again: the page asks before. ``seen`` is the newest
    sequence of the thread when the person began to write.
    """

    text: str = ""
    via: Channel | None = None
    reply_to: UUID | None = None
    edits: UUID | None = None
    is_picking: bool = False
    is_discarding: bool = False
    twice: UUID | None = None
    seen: int | None = None
    choice: Choice = field(default_factory=Choice)


def draft_of(form: Mapping[str, str]) -> Draft:
    """The draft that a form holds."""
    template = form.get("template") or form.get("shown") or None
    values = {name.removeprefix(_VALUE): as_written(value) for name, value in form.items() if name.startswith(_VALUE)}
    discard = form.get("discard")
    return Draft(
        text="" if discard == "yes" else as_written(form.get("text", "")),
        via=_CHANNELS.get(form.get("via", "")),
        reply_to=None if "unquote" in form else uuid_of(form.get("quote") or form.get("reply_to")),
        edits=None if discard == "yes" else uuid_of(form.get("edits")),
        is_picking=form.get("picking") == "1",
        is_discarding=discard == "ask",
        seen=_number(form.get("seen")),
        choice=Choice(
            search=form.get("tq", "").strip()[:MOST_SEARCH],
            language=form.get("tl", ""),
            template=template,
            values=values if values and template == form.get("shown") else None,
        ),
    )


def key_of(form: Mapping[str, str], content: Mapping[str, Any], channel: str) -> str | None:
    """The idempotency key of what this form sends; None where it has no id.

    The same form with the same content is one message, however often it is posted. An edited text is another one.
    """
    name = form_id(form.get("form"))
    if name is None:
        return None
    what = orjson.dumps([content, channel], option=orjson.OPT_SORT_KEYS)
    return f"form-{name}-{hashlib.sha256(what).hexdigest()[:32]}"


def uuid_of(raw: str | None) -> UUID | None:
    """The id in a field or a path; None where it is none."""
    try:
        return UUID(raw) if raw else None
    except ValueError:
        return None


def _number(raw: str | None) -> int | None:
    return int(raw) if raw is not None and raw.isascii() and raw.isdigit() and len(raw) <= 18 else None  # noqa: PLR2004
