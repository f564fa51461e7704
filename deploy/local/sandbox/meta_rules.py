"""Meta's rules for the body of a send, apart from the window. No I/O.

``judge`` answers with the message it understood, or with the refusal the Graph API gives.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from deploy.local.sandbox.meta_errors import refusal
from deploy.local.sandbox.numbers import dialled
from deploy.local.sandbox.schemas import Answer, Json
from deploy.local.sandbox.templates import Number, Templates

BSUID = re.compile(r"[A-Z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")
TEXT_MOST, CAPTION_MOST, CALLBACK_MOST, CONTACTS_MOST = 4096, 1024, 512, 257
BUTTONS_MOST, BUTTON_TITLE_MOST, ROWS_MOST = 3, 20, 10
INTERACTIVE = {
    "button", "list", "cta_url", "location_request_message", "flow", "product", "product_list", "catalog_message",
    "address_message", "voice_call", "call_permission_request", "request_contact_info",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SendRequest:
    """A message whose body Meta accepts."""

    input: str
    """The recipient exactly as the caller wrote it."""
    wa_id: str | None
    bsuid: str | None
    type: str
    free_form: bool
    category: str
    callback: str | None


def judge(body: Any, number: Number, templates: Templates) -> SendRequest | Answer:  # noqa: PLR0911  one return per rule
    """Read a body as Meta does: product, recipient, type, then the content of that type."""
    if not isinstance(body, dict):
        return refusal(100, "The request body must be a JSON object.")
    if body.get("messaging_product") != "whatsapp":
        return refusal(100, message="(#100) The parameter messaging_product is required.")
    callback = body.get("biz_opaque_callback_data")
    if callback is not None and (not isinstance(callback, str) or len(callback) > CALLBACK_MOST):
        return refusal(131009, f"biz_opaque_callback_data must be a string of at most {CALLBACK_MOST} characters.")
    recipient = _recipient(body, number)
    if isinstance(recipient, Answer):
        return recipient
    kind = body.get("type", "text")
    check = _CONTENT.get(kind) if isinstance(kind, str) else None
    if check is None and kind != "template":
        return refusal(131051, f"Message type {kind!s:.40} is not supported.")
    content: Any = body.get(kind)
    wanted: type[Any] = list if kind == "contacts" else dict
    if not isinstance(content, wanted):
        return refusal(131008, f"The parameter {kind} is required.")
    category = "service"
    if check is None:
        template = templates.judge(number.waba_id, content)
        if isinstance(template, Answer):
            return template
        category = template.category.lower()
    else:
        wrong = check(content)
        if wrong is not None:
            return wrong
    return SendRequest(*recipient, kind, kind != "template", category, callback)


def _recipient(body: Json, number: Number) -> tuple[str, str | None, str | None] | Answer:
    """What was asked for, with the digits dialled or the business-scoped id; ``to`` wins over ``recipient``."""
    to, bsuid = body.get("to"), body.get("recipient")
    if to:
        digits = dialled(str(to), number.digits)
        if digits is None:
            return refusal(131009, "Parameter value is not valid: to")
        return refusal(131021) if digits == number.digits else (str(to), digits, None)
    if bsuid:
        if not isinstance(bsuid, str) or BSUID.fullmatch(bsuid) is None:
            return refusal(131009, "Parameter value is not valid: recipient")
        return bsuid, None, bsuid
    return refusal(100, message="(#100) The parameter to is required.")


def _text(content: Json) -> Answer | None:
    text = content.get("body")
    if text is None:
        return refusal(100, message="(#100) The parameter text['body'] is required.")
    if not isinstance(text, str) or not text.strip():
        return refusal(131008, "Required parameter text['body'] is missing.")
    if len(text) > TEXT_MOST:
        return refusal(100, message=f"(#100) Param text['body'] must be at most {TEXT_MOST} characters long.")
    return None


def _media(content: Json) -> Answer | None:
    if bool(content.get("id")) == bool(content.get("link")):
        return refusal(131008, "Exactly one of id and link is required.")
    if len(str(content.get("caption", ""))) > CAPTION_MOST:
        return refusal(131009, f"A caption has at most {CAPTION_MOST} characters.")
    return None


def _audio(content: Json) -> Answer | None:
    return refusal(100, "Audio and stickers have no caption.") if "caption" in content else _media(content)


def _location(content: Json) -> Answer | None:
    for name, most in (("latitude", 90), ("longitude", 180)):
        try:
            value = float(content[name])
        except KeyError:
            return refusal(131008, f"Required parameter location['{name}'] is missing.")
        except (TypeError, ValueError):
            return refusal(131009, f"location['{name}'] is not a number.")
        if not -most <= value <= most:
            return refusal(131009, f"location['{name}'] is out of range.")
    return None


def _reaction(content: Json) -> Answer | None:
    if not content.get("message_id") or not isinstance(content.get("emoji"), str):
        return refusal(131008, "A reaction needs message_id and emoji.")
    return None


def _contacts(content: list[Any]) -> Answer | None:
    if not 1 <= len(content) <= CONTACTS_MOST:
        return refusal(131009, f"Between 1 and {CONTACTS_MOST} contacts.")
    for contact in content:
        if not isinstance(contact, dict) or not (contact.get("name") or {}).get("formatted_name"):
            return refusal(131008, "Every contact needs name['formatted_name'].")
    return None


def _interactive(content: Json) -> Answer | None:
    kind, action = content.get("type"), content.get("action")
    if kind not in INTERACTIVE:
        return refusal(131009, "Unknown interactive type.")
    if not isinstance(action, dict):
        return refusal(131008, "interactive['action'] is required.")
    if kind == "button":
        replies = [button.get("reply", {}) for button in action.get("buttons", [])]
        ids = [reply.get("id") for reply in replies]
        if not 1 <= len(replies) <= BUTTONS_MOST or len(set(ids)) != len(ids):
            return refusal(131009, "Between 1 and 3 buttons with ids of their own.")
        if any(not 1 <= len(str(reply.get("title", ""))) <= BUTTON_TITLE_MOST for reply in replies):
            return refusal(131009, "A button title has 1 to 20 characters.")
    if kind == "list":
        rows = [row for section in action.get("sections", []) for row in section.get("rows", [])]
        if not 1 <= len(rows) <= ROWS_MOST:
            return refusal(131009, "Between 1 and 10 rows in total.")
    return None


_CONTENT: dict[str, Callable[[Any], Answer | None]] = {
    "text": _text,
    "image": _media,
    "video": _media,
    "document": _media,
    "audio": _audio,
    "sticker": _audio,
    "location": _location,
    "reaction": _reaction,
    "contacts": _contacts,
    "interactive": _interactive,
}
