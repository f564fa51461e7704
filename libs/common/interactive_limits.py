"""What Meta takes of an interactive message: reply buttons, a list, a link, a request for the place. Pure.

Rule 1: a message beyond a limit is refused by Meta as a whole, so it is found before the call.
Rule 2: what is not known here is not judged: other types, further fields, links that are neither http nor https.

Source: https://developers.facebook.com/docs/whatsapp/cloud-api/messages/interactive-reply-buttons-messages,
interactive-list-messages, interactive-cta-url-messages and location-request-messages beside it. Texts are counted in
characters.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from libs.common.urls import is_url

FaultCode = Literal["missing", "too_long", "too_many", "duplicate", "format"]
"""``format``: a link that nobody can follow."""

MAX_HEADER = 60
MAX_BODY = 1024
MAX_LIST_BODY = 4096
MAX_FOOTER = 60
MAX_BUTTONS = 3
MAX_LABEL = 20
"""Of a reply button, of the button that opens a list, and of a link."""
MAX_BUTTON_ID = 256
MAX_SECTIONS = 10
MAX_ROWS = 10
"""Of all sections together."""
MAX_ROW_TITLE = 24
MAX_SECTION_TITLE = 24
MAX_ROW_ID = 200
MAX_DESCRIPTION = 72

_JUDGED = frozenset({"button", "list", "cta_url", "location_request_message"})
_MEDIA = ("image", "video", "document")


class Fault(NamedTuple):
    """What is wrong with a field, such as ``action.buttons.0.title``."""

    field: str
    code: FaultCode


def faults(interactive: Mapping[str, Any]) -> list[Fault]:
    """Everything for which Meta would refuse the message; nothing where it would take it."""
    kind = interactive.get("type")
    if not isinstance(kind, str) or not kind:
        return [Fault("type", "missing")]
    if kind not in _JUDGED:
        return []
    action, header = _object(interactive.get("action")), _object(interactive.get("header"))
    return [
        *_text("header.text", header.get("text"), MAX_HEADER, required=False),
        *(fault for media in _MEDIA for fault in _link(f"header.{media}.link", _object(header.get(media)).get("link"))),
        *_text(
            "body.text",
            _object(interactive.get("body")).get("text"),
            MAX_LIST_BODY if kind == "list" else MAX_BODY,
        ),
        *_text("footer.text", _object(interactive.get("footer")).get("text"), MAX_FOOTER, required=False),
        *(_of_buttons(action) if kind == "button" else ()),
        *(_of_list(action) if kind == "list" else ()),
        *(_of_link(action) if kind == "cta_url" else ()),
    ]


def _of_buttons(action: Mapping[str, Any]) -> Iterator[Fault]:
    buttons = _objects(action.get("buttons"))
    yield from _count("action.buttons", len(buttons), MAX_BUTTONS)
    replies = [_object(button.get("reply")) for button in buttons]
    for n, reply in enumerate(replies):
        yield from _text(f"action.buttons.{n}.id", reply.get("id"), MAX_BUTTON_ID)
        yield from _text(f"action.buttons.{n}.title", reply.get("title"), MAX_LABEL)
    for field in ("id", "title"):
        yield from _duplicates(f"action.buttons.{field}", [reply.get(field) for reply in replies])


def _of_list(action: Mapping[str, Any]) -> Iterator[Fault]:
    yield from _text("action.button", action.get("button"), MAX_LABEL)
    sections = _objects(action.get("sections"))
    yield from _count("action.sections", len(sections), MAX_SECTIONS)
    ids = list[object]()
    for n, section in enumerate(sections):
        yield from _text(
            f"action.sections.{n}.title", section.get("title"), MAX_SECTION_TITLE, required=len(sections) > 1
        )
        rows = _objects(section.get("rows"))
        for m, row in enumerate(rows):
            at = f"action.sections.{n}.rows.{m}"
            yield from _text(f"{at}.id", row.get("id"), MAX_ROW_ID)
            yield from _text(f"{at}.title", row.get("title"), MAX_ROW_TITLE)
            yield from _text(f"{at}.description", row.get("description"), MAX_DESCRIPTION, required=False)
        ids += [row.get("id") for row in rows]
    if sections:
        yield from _count("action.sections.rows", len(ids), MAX_ROWS)
    yield from _duplicates("action.sections.rows.id", ids)


def _of_link(action: Mapping[str, Any]) -> Iterator[Fault]:
    given = _object(action.get("parameters"))
    yield from _text("action.parameters.display_text", given.get("display_text"), MAX_LABEL)
    yield from _text("action.parameters.url", given.get("url"), None)
    yield from _link("action.parameters.url", given.get("url"))


def _text(field: str, text: object, most: int | None, *, required: bool = True) -> Iterator[Fault]:
    if not isinstance(text, str) or not text.strip():
        if required:
            yield Fault(field, "missing")
    elif most is not None and len(text) > most:
        yield Fault(field, "too_long")


def _link(field: str, link: object) -> Iterator[Fault]:
    if isinstance(link, str) and link.lower().startswith(("http://", "https://")) and not is_url(link):
        yield Fault(field, "format")


def _count(field: str, count: int, most: int) -> Iterator[Fault]:
    if count == 0:
        yield Fault(field, "missing")
    elif count > most:
        yield Fault(field, "too_many")


def _duplicates(field: str, values: list[object]) -> Iterator[Fault]:
    texts = [value for value in values if isinstance(value, str)]
    if len(set(texts)) < len(texts):
        yield Fault(field, "duplicate")


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [_object(one) for one in value] if isinstance(value, list) else []
