"""Builders of Meta's webhooks, valid by default, and Meta's way of signing them."""

import hashlib
import hmac
import json
from datetime import datetime
from typing import Any
from uuid import uuid4

NUMBER, WABA = "106400000000001", "206400000000001"
WA_ID, BSUID = "447700900999", "GB.13491208655302741918"


def sign(body: bytes, secret: bytes) -> str:
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def a_wamid() -> str:
    return f"wamid.{uuid4().hex}"


def a_message(at: Any, text: str | None = "Is my car ready?", **more: Any) -> dict[str, Any]:
    """A customer's text; ``None`` for a name leaves it out."""
    timestamp = str(int(at.timestamp())) if isinstance(at, datetime) else at
    message = {"from": WA_ID, "id": a_wamid(), "timestamp": timestamp, "type": "text", "text": {"body": text}} | more
    return {name: value for name, value in message.items() if value is not None}


def a_contact(wa_id: str | None = WA_ID, bsuid: str | None = None, name: str = "Kim") -> dict[str, Any]:
    contact = {"profile": {"name": name}, "wa_id": wa_id, "user_id": bsuid}
    return {key: value for key, value in contact.items() if value is not None}


def a_status(provider_id: str, status: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {"id": provider_id, "status": status, "timestamp": str(int(at.timestamp())), "recipient_id": WA_ID} | more


OUR_NUMBER = "447700900123"


def an_echo(at: datetime, text: str | None = "It is ready.", **more: Any) -> dict[str, Any]:
    """What staff wrote to the customer in the WhatsApp Business app; ``None`` for a name or the text leaves it out."""
    echo = {
        "from": OUR_NUMBER,
        "to": WA_ID,
        "id": a_wamid(),
        "timestamp": str(int(at.timestamp())),
        "type": "text",
        "text": None if text is None else {"body": text},
    } | more
    return {name: value for name, value in echo.items() if value is not None}


def of_echoes(*echoes: dict[str, Any], contacts: Any = None, number: str = NUMBER) -> dict[str, Any]:
    """One webhook with these echoes."""
    of_whom = {} if contacts is None else {"contacts": contacts}
    return a_webhook(a_value(number=number, **of_whom, message_echoes=list(echoes)), field="smb_message_echoes")


def a_value(*, number: str | None = NUMBER, **parts: Any) -> dict[str, Any]:
    metadata = {"display_phone_number": OUR_NUMBER} | ({} if number is None else {"phone_number_id": number})
    return {"messaging_product": "whatsapp", "metadata": metadata} | parts


def a_webhook(*values: dict[str, Any], field: str = "messages") -> dict[str, Any]:
    changes = [{"field": field, "value": value} for value in values]
    return {"object": "whatsapp_business_account", "entry": [{"id": WABA, "changes": changes}]}


def of_messages(*messages: dict[str, Any], number: str = NUMBER, contacts: Any = None) -> dict[str, Any]:
    """One webhook with these messages."""
    return a_webhook(
        a_value(number=number, contacts=[a_contact()] if contacts is None else contacts, messages=list(messages))
    )


def as_body(webhook: Any) -> bytes:
    """As Meta writes it: ASCII, slashes escaped."""
    return json.dumps(webhook).replace("/", "\\/").encode()
