"""What Meta's messages hold, in the words of ``inbound.messages.v1``. Pure.

Rule 1: nothing is lost: what is unknown, incomplete or of no content kind of ours arrives as ``unsupported`` under Meta's own type.
Rule 2: only a customer's own message opens the window (``opens_window``): notices of the system, edits, revocations, automatic answers
        and group messages do not; a reaction does where the setting says so, because Meta does not say.
"""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

MEDIA = frozenset({"image", "video", "audio", "document", "sticker"})
MAX_TYPE = 100
MAX_CONTACTS = 257

# Notices and changes of earlier messages; whether an edit or a revocation counts, Meta does not say.
_NOT_OPENING = frozenset({"system", "edit", "revoke"})

Content = dict[str, Any]


def content_of(message: Mapping[str, Any]) -> Content:
    """One of the inbound contents of ``libs.common.events.content``, as plain JSON."""
    kind = type_of(message)
    if message.get("group_id"):
        return _unsupported("group", message)
    translate = _CONTENTS.get(kind)
    inner = message.get(kind)
    if translate is None or not inner:
        return _unsupported(kind, message)
    return translate(kind, inner) or _unsupported(kind, message)


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
        return inner.get("type") not in _NOT_OPENING
    return True


def reply_to(message: Mapping[str, Any]) -> str | None:
    """The provider id of the message that this one answers."""
    context = message.get("context")
    provider_id = context.get("id") if isinstance(context, dict) else None
    return provider_id if isinstance(provider_id, str) and provider_id else None


def type_of(message: Mapping[str, Any]) -> str:
    """Meta's own name for what it is."""
    kind = message.get("type")
    return kind[:MAX_TYPE] if isinstance(kind, str) and kind else "unknown"


def _unsupported(kind: str, message: Mapping[str, Any]) -> Content:
    if kind == "unsupported":
        match message.get("unsupported"):
            case {"type": str(told)} if told:
                kind = told[:MAX_TYPE]
    content: Content = {"kind": "unsupported", "type": kind}
    errors = message.get("errors")
    if isinstance(errors, list) and (told_errors := [error for error in errors if isinstance(error, dict)]):
        content["errors"] = told_errors
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
    for name in ("name", "address"):
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
    for ours, names in _REPLY_FIELDS:
        value = next((found for name in names if isinstance(found := chosen.get(name), str)), None)
        if value is not None:
            reply[ours] = value
    return {"kind": "interactive", "reply": reply}


_REPLY_FIELDS = (
    ("id", ("id",)),
    ("title", ("title", "name")),  # a flow's answer has a name
    ("description", ("description", "body")),
    ("response", ("response_json", "response")),
)


def _reaction(_kind: str, inner: Any) -> Content | None:
    match inner:
        case {"message_id": str(target)} if target:
            emoji = inner.get("emoji")  # left out or empty: the reaction was taken back
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
    "reaction": _reaction,
}
