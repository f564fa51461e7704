"""What the page shows of a message's content. Pure.

Rule 1: every kind of content has words, also one that this build does not know.
Rule 2: a link is a link only where it is http or https, without a user name in it. Any other is text.
Rule 3: nothing of a provider is shown: no media id, no code, no payload, no id of a message.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

MAX_SHOWN = 4_096
"""Characters of one text on the page, as many as a business may write. A customer may write more in WhatsApp."""
MAX_LINES = 20
"""Contact cards, buttons and the like that one message shows."""
MAX_LINK = 2_048

_LINK = re.compile(
    r"https?://[^\s<>\"'`\\^{}|\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]+", re.IGNORECASE
)
_AFTER_LINK = ".,;:!?)]}»”…*_~"


def N_(message: str) -> str:  # noqa: N802 (the name by which gettext's tools find a message)
    """The message itself: it is translated where it is shown."""
    return message


@dataclass(frozen=True, slots=True)
class Entry:
    """What stands in a bubble. ``label`` and ``action`` are messages of the catalogue, the rest is the content's own.

    ``icon`` names a symbol of the page. ``name`` is a file's or a place's. ``link`` is where ``action`` leads.
    ``emoji`` is put into the label. ``options`` are lines under the text, such as buttons.
    """

    label: str | None = None
    icon: str | None = None
    name: str | None = None
    text: str | None = None
    link: str | None = None
    action: str = N_("Open the file")
    emoji: str | None = None
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """A run of text, or a link in it, whose address is its text."""

    text: str
    is_link: bool = False


def safe_link(address: Any) -> str | None:
    """The address where a browser may be sent: http or https with a host, and nobody's name in it."""
    if not isinstance(address, str) or len(address) > MAX_LINK or _LINK.fullmatch(address) is None:
        return None
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        return None
    return address if host and "@" not in parts.netloc else None


def pieces(text: str) -> Iterator[Piece]:
    """The text in its order, with its links apart. Joined, the pieces are the text."""
    done = 0
    for found in _LINK.finditer(text):
        address = found.group().rstrip(_AFTER_LINK)
        if safe_link(address) is None:
            continue
        if found.start() > done:
            yield Piece(text[done : found.start()])
        yield Piece(address, is_link=True)
        done = found.start() + len(address)
    if done < len(text):
        yield Piece(text[done:])


def entry_of(content: Mapping[str, Any]) -> Entry:
    """The entry of a stored content, inbound or outbound (``libs.common.events.content``)."""
    kind = content.get("kind")
    return _ENTRIES.get(kind if isinstance(kind, str) else "", _unknown)(content)


def _said(content: Mapping[str, Any]) -> Entry:
    return Entry(text=_text(content, "text"))


def _file(content: Mapping[str, Any]) -> Entry:
    label, icon = _FILES["voice" if content.get("voice") is True else content["kind"]]
    name, text = _text(content, "filename"), _text(content, "caption")
    return Entry(label, icon, name=name, text=text, link=safe_link(content.get("link")))


def _contacts(content: Mapping[str, Any]) -> Entry:
    return Entry(N_("Contact"), "person", options=tuple(_cards(content.get("contacts"))))


def _order(content: Mapping[str, Any]) -> Entry:
    return Entry(N_("Order"), "list", text=_text(content, "text"))


def _reaction(content: Mapping[str, Any]) -> Entry:
    if (emoji := _text(content, "emoji")) is None:
        return Entry(N_("Reaction taken back"))
    return Entry(N_("Reaction: %(emoji)s"), emoji=emoji[:64])


def _template(content: Mapping[str, Any]) -> Entry:
    text = _text(content, "text")
    return Entry(text=text) if text else Entry(N_("A message that can be read in WhatsApp"), "whatsapp")


def _unknown(content: Mapping[str, Any]) -> Entry:
    if content.get("erased") is True:
        return Entry(N_("This message was erased"), "file")
    return Entry(N_("A message that cannot be shown here"), "file", text=_text(content, "caption"))


_FILES = {
    "image": (N_("Photo"), "image"),
    "video": (N_("Video"), "image"),
    "audio": (N_("Audio"), "sound"),
    "voice": (N_("Voice message"), "sound"),
    "document": (N_("Document"), "file"),
    "sticker": (N_("Sticker"), "image"),
}


def _location(content: Mapping[str, Any]) -> Entry:
    link = None
    match content:
        case {"latitude": int() | float() as north, "longitude": int() | float() as east}:
            link = f"https://www.openstreetmap.org/?mlat={north:.6f}&mlon={east:.6f}#map=17/{north:.6f}/{east:.6f}"
    name, address = _text(content, "name"), _text(content, "address")
    return Entry(N_("Location"), "place", name=name, text=address, link=link, action=N_("Show on a map"))


def _cards(cards: Any) -> Iterator[str]:
    """Name and numbers of each contact card, one line a card."""
    for card in cards[:MAX_LINES] if isinstance(cards, list) else []:
        match card:
            case {"name": {"formatted_name": str(name)}}:
                pass
            case _:
                name = ""
        phones = card.get("phones") if isinstance(card, dict) else None
        numbers = [one.get("phone") for one in phones[:3] if isinstance(one, dict)] if isinstance(phones, list) else []
        if line := ", ".join([part for part in (name, *numbers) if isinstance(part, str) and part]):
            yield line[:300]


def _interactive(content: Mapping[str, Any]) -> Entry:
    match content:
        case {"reply": Mapping() as reply}:  # the customer's choice
            lines = [line for line in (_text(reply, "title"), _text(reply, "description")) if line]
            return Entry(text="\n".join(lines)) if lines else Entry(N_("A choice"), "list")
        case {"interactive": Mapping() as asked}:
            said = [_inner(asked, part) for part in ("header", "body", "footer")]
            text = "\n".join(line for line in said if line)
            options = tuple(_options(asked.get("action")))
            return Entry(
                None if text else N_("A question with answers to choose from"), text=text or None, options=options
            )
    return Entry(N_("A choice"), "list")


def _inner(asked: Mapping[str, Any], part: str) -> str | None:
    inner = asked.get(part)
    return _text(inner, "text") if isinstance(inner, Mapping) else None


def _options(action: Any) -> Iterator[str]:
    """Titles of the buttons, or of the rows of a list."""
    match action:
        case {"buttons": [*buttons]}:
            found = [button.get("reply") for button in buttons if isinstance(button, dict)]
        case {"sections": [*sections]}:
            rows = [section.get("rows") for section in sections if isinstance(section, dict)]
            found = [row for some in rows if isinstance(some, list) for row in some]
        case {"parameters": dict(parameters)}:
            found = [{"title": parameters.get("display_text")}]
        case _:
            found = []
    titles = [_text(one, "title") for one in found if isinstance(one, Mapping)]
    yield from [title for title in titles if title][:MAX_LINES]


def _text(content: Mapping[str, Any], name: str) -> str | None:
    """The text under the name, cut to what a page takes, or None where there is none to see."""
    value = content.get(name)
    if not isinstance(value, str) or not value.strip():
        return None
    return value if len(value) <= MAX_SHOWN else f"{value[:MAX_SHOWN]}…"


_ENTRIES: dict[str, Callable[[Mapping[str, Any]], Entry]] = {
    **dict.fromkeys(("text", "button"), _said),
    **dict.fromkeys(("image", "video", "audio", "document", "sticker"), _file),
    "location": _location,
    "contacts": _contacts,
    "interactive": _interactive,
    "order": _order,
    "reaction": _reaction,
    "template": _template,
}
