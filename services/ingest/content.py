"""The contents of Meta's messages, in the words of ``inbound.messages.v1``. Pure.

Rule 1: nothing that the customer said is lost. A message that is unknown, incomplete or of no content kind of ours
        becomes ``unsupported`` under Meta's own type, with Meta's own object as ``raw``. Facts beside the content (an
        ad, a product, that it was forwarded) are stored in it and published beside it (``BESIDE``).
Rule 2: only a customer's own message opens the window (``opens_window``). Notices of the system, edits, revocations,
        automatic answers and group messages do not. A reaction does where the setting says so, because Meta does not
        say.
"""

import json
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

from libs.common.directory.keywords import keyword_of
from libs.common.events.content import MAX_ID

MEDIA = frozenset({"image", "video", "audio", "document", "sticker"})
_FILES = MEDIA | {"voice"}
MAX_TYPE = 100
MAX_CONTACTS = 257

# Notices and changes of earlier messages; whether an edit or a revocation counts, Meta does not say.
_NOT_OPENING = frozenset({"system", "edit", "revoke"})

Content = dict[str, Any]


BESIDE = (
    *("referral", "forwarded", "frequently_forwarded", "referred_product", "voice", "keyword"),
    *("verified", "media", "incomplete"),
)
"""The facts that are stored in a content and published beside it. No content has fields of these names."""


def stored(message: Mapping[str, Any]) -> Content:
    """The stored form of a message: its content and the facts beside it."""
    content = content_of(message)
    return content | beside(message, content)


def published(content: Mapping[str, Any]) -> tuple[Content, Content]:
    """The published form of a stored content: the content itself, and the facts beside it."""
    if content.keys().isdisjoint(BESIDE):
        return dict(content), {}
    return (
        {name: value for name, value in content.items() if name not in BESIDE},
        {name: content[name] for name in BESIDE if name in content},
    )


def beside(message: Mapping[str, Any], content: Content) -> Content:
    """The ad that led to the message, the product it asks about, whether it was forwarded or spoken or is a keyword."""
    found: Content = {}
    if isinstance(referral := message.get("referral"), dict) and referral:
        found["referral"] = referral
    context = message.get("context")
    if isinstance(context, dict):
        often = context.get("frequently_forwarded") is True
        if often or context.get("forwarded") is True:
            found["forwarded"] = True
        if often:
            found["frequently_forwarded"] = True
        if isinstance(product := context.get("referred_product"), dict) and product:
            found["referred_product"] = product
    match message.get("audio") or message.get("voice"):
        case {"voice": True}:
            found["voice"] = True
    match content:
        case {"kind": "text" | "button", "text": str(text)} if keyword := keyword_of(text):
            found["keyword"] = keyword
    return found


def content_of(message: Mapping[str, Any]) -> Content:
    """One of the inbound contents of ``libs.common.events.content``, as plain JSON."""
    kind = type_of(message)
    read = _CONTENTS.get(kind)
    inner = message.get(kind)
    if read is None or not inner or (kind in _FILES and message.get("errors")):
        return _unsupported(kind, message)  # a file that failed at Meta has errors that say why; its caption stays
    content = read(kind, inner)
    if content is not None and kind == "contacts" and isinstance(origin := message.get("origin"), str):
        content["origin"] = origin
    return content or _unsupported(kind, message)


def opens_window(message: Mapping[str, Any], *, reaction_opens: bool) -> bool:
    """Whether Meta starts the customer's 24 hours anew for this message."""
    kind = type_of(message)
    if message.get("group_id") or kind in _NOT_OPENING:
        return False
    if kind == "reaction":
        return reaction_opens
    inner = message.get(kind)
    if (
        kind == "interactive"
        and isinstance(inner, dict)
        and isinstance(reply := inner.get("call_permission_reply"), dict)
    ):
        return reply.get("response_source") == "user_action"
    if kind == "unsupported" and isinstance(inner, dict):
        return type_of(inner) not in _NOT_OPENING
    return True


def reply_to(message: Mapping[str, Any]) -> str | None:
    """The provider id of the message that this one answers."""
    context = message.get("context")
    provider_id = context.get("id") if isinstance(context, dict) else None
    return provider_id if isinstance(provider_id, str) and 0 < len(provider_id) <= MAX_ID else None


def type_of(message: Mapping[str, Any]) -> str:
    """Meta's own type of the message."""
    kind = message.get("type")
    return kind[:MAX_TYPE] if isinstance(kind, str) and kind else "unknown"


def _unsupported(kind: str, message: Mapping[str, Any]) -> Content:
    if kind == "unsupported":
        match message.get("unsupported"):
            case {"type": str(inner_type)} if inner_type:
                kind = inner_type[:MAX_TYPE]
    content: Content = {"kind": "unsupported", "type": kind}
    errors = message.get("errors")
    if isinstance(errors, list) and (objects := [error for error in errors if isinstance(error, dict)]):
        content["errors"] = objects
    raw = message.get(type_of(message))
    for place in (raw, message.get(kind), message):
        if isinstance(place, dict) and isinstance(caption := place.get("caption"), str) and caption:
            content.setdefault("caption", caption)
    if isinstance(raw, dict) and raw.keys() - {"type"}:
        content["raw"] = raw
    elif raw and not isinstance(raw, dict):
        content["raw"] = {"value": raw}
    return content


def _text(_kind: str, inner: Any) -> Content | None:
    body = inner.get("body") if isinstance(inner, dict) else None
    return {"kind": "text", "text": body} if isinstance(body, str) else None


def _media(kind: str, inner: Any) -> Content | None:
    match inner:
        case {"id": str() | int() as media_id} if media_id and not isinstance(media_id, bool):
            content: Content = {"kind": "audio" if kind == "voice" else kind, "media_id": str(media_id)}
            for name in ("mime_type", "sha256", "caption", "filename"):
                if isinstance(value := inner.get(name), str):
                    content[name] = value
            return content
    return None


def _location(_kind: str, inner: Any) -> Content | None:
    if not isinstance(inner, dict):
        return None
    latitude, longitude = _degrees(inner.get("latitude"), 90), _degrees(inner.get("longitude"), 180)
    if latitude is None or longitude is None:
        return None
    content: Content = {"kind": "location", "latitude": latitude, "longitude": longitude}
    for name in ("name", "address", "url"):
        if isinstance(value := inner.get(name), str):
            content[name] = value
    return content


def _contacts(_kind: str, inner: Any) -> Content | None:
    match inner:
        case [_, *_] if len(inner) <= MAX_CONTACTS and all(isinstance(card, dict) for card in inner):
            return {"kind": "contacts", "contacts": inner}
    return None


def _button(_kind: str, inner: Any) -> Content | None:
    match inner:
        case {"text": str(text)}:
            payload = inner.get("payload")
            return {"kind": "button", "text": text, "payload": payload if isinstance(payload, str) else None}
    return None


def _interactive(_kind: str, inner: Any) -> Content | None:
    if not isinstance(inner, dict):
        return None
    kind = inner.get("type")
    if not isinstance(kind, str) or not isinstance(chosen := inner.get(kind), dict):
        return None
    reply: Content = {"type": kind[:MAX_TYPE]}
    rest = dict(chosen)
    for ours, names in _REPLY_FIELDS:
        name = next((name for name in names if isinstance(chosen.get(name), str)), None)
        if name is not None:
            reply[ours] = rest.pop(name)
    if "response" not in reply and rest.get("response_json") is not None:
        # documented as a text that holds JSON, also seen as the JSON itself
        reply["response"] = json.dumps(rest.pop("response_json"), ensure_ascii=False)
    if rest := {name: value for name, value in rest.items() if value is not None}:
        reply["details"] = rest
    return {"kind": "interactive", "reply": reply}


def _order(_kind: str, inner: Any) -> Content | None:
    match inner:
        case {"product_items": [_, *_] as items} if all(isinstance(item, dict) for item in items):
            catalog, text = inner.get("catalog_id"), inner.get("text")
            content: Content = {
                "kind": "order",
                "catalog_id": None if catalog is None else str(catalog),
                "items": items,
            }
            return content | {"text": text} if isinstance(text, str) and text else content
    return None


_REPLY_FIELDS = (
    ("id", ("id",)),
    ("title", ("title", "name")),  # a flow's answer has a name
    ("description", ("description", "body")),
    ("response", ("response_json", "response")),
)


def _reaction(_kind: str, inner: Any) -> Content | None:
    match inner:
        case {"message_id": str(target)} if 0 < len(target) <= MAX_ID:
            emoji = inner.get("emoji")  # an emoji that is missing or empty takes the reaction back
            return {
                "kind": "reaction",
                "message_id": target,
                "emoji": emoji if isinstance(emoji, str) and emoji else None,
            }
    return None


def _degrees(value: Any, limit: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        degrees = float(value)
    except (ValueError, OverflowError):
        return None
    return degrees if isfinite(degrees) and abs(degrees) <= limit else None


_CONTENTS: dict[str, Callable[[str, Any], Content | None]] = {
    "text": _text,
    **dict.fromkeys((*MEDIA, "voice"), _media),
    "location": _location,
    "contacts": _contacts,
    "button": _button,
    "interactive": _interactive,
    "order": _order,
    "reaction": _reaction,
}
