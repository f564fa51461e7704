"""What the bench sends: webhooks, their records, intents and commands for the seeded conversations. Pure.

Conversation number ``n`` is known by its number alone: ids, phone and business number follow from it, here and in
``seed``'s SQL alike.
"""

import base64
import hashlib
import hmac
import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from uuid import UUID

import orjson

from libs.common.bridge.portal_keys import PurposeKeys
from libs.common.pages.cookies import as_text, cookie_name
from libs.common.portal_host import PortalOrigin

ORGS = 100
SECRET = "bench-app-secret"  # signs webhooks on this machine only
TWILIO_ACCOUNT = "AC" + "0" * 32
PORTAL = PortalOrigin("https", "portal.example")
PORTAL_KEYS = "the-portal-keys-of-a-bench-on-this-machine"  # they open its own sessions only
READERS = 100
"""How many conversations have a session in the portal."""


def org_id(n: int) -> str:
    return f"org-{n % ORGS}"


def number_id(n: int) -> str:
    return f"1064{n % ORGS:011d}"


def waba_id(n: int) -> str:
    return f"2064{n % ORGS:011d}"


def conversation_id(n: int) -> str:
    return f"01930000-0000-7000-8000-{n:012x}"


def wa_id(n: int) -> str:
    """A mobile number. Behind +44 70 are personal ones, to which no SMS goes."""
    return f"4474{n:08d}"


def bsuid(n: int) -> str:
    return f"GB.{n:020d}"


def wamid(n: int, one: str) -> str:
    """Meta's id of a message to or from this customer. As Meta's do, it begins with the customer and ends by chance."""
    return "wamid." + base64.b64encode(f"{wa_id(n)}{hashlib.md5(one.encode()).hexdigest()}".encode()).decode()


def new_id(at: datetime) -> UUID:
    """A UUIDv7: ids of the same time lie together in an index."""
    millis, chance = int(at.timestamp() * 1000), random.getrandbits(74)
    return UUID(int=millis << 80 | 7 << 76 | chance >> 62 << 64 | 2 << 62 | chance & (1 << 62) - 1)


ACTIVE = 1_000
"""How many conversations a load touches, however many are stored: else a larger population would also be another load.
"""


def rounds(population: int, count: int, seed: int, active: int = ACTIVE) -> Iterator[int]:
    """``count`` times one of ``active`` conversations, which lie all over the population; one comes again only after
    all others.
    """
    chance = random.Random(seed)
    chosen = chance.sample(range(population), min(population, active))
    while count > 0:
        turn = chance.sample(chosen, min(len(chosen), count))
        yield from turn
        count -= len(turn)


def reader(r: int, population: int) -> int:
    """The conversation of reader number ``r``: they lie all over the population."""
    return r * population // READERS


def session_id(r: int) -> bytes:
    """What the reader's cookie carries."""
    return hashlib.sha256(f"reader {r}".encode()).digest()


def session_hash(r: int) -> bytes:
    """What ``portal_sessions`` has of it."""
    return PurposeKeys([PORTAL_KEYS.encode()], "sessions").hash(session_id(r))


def reader_headers(r: int) -> dict[str, str]:
    """What the reader's browser sends with every request."""
    return {
        "Host": PORTAL.host,
        "Cookie": f"{cookie_name('session', PORTAL)}={as_text(session_id(r))}",
        "Accept-Language": "en-GB,en;q=0.9",
    }


def page_request(r: int) -> bytes:
    """A whole HTTP request for the reader's conversation."""
    headers = "".join(f"{name}: {value}\r\n" for name, value in reader_headers(r).items())
    return f"GET /conversation HTTP/1.1\r\n{headers}\r\n".encode()


def message(n: int, wamid: str, at: datetime) -> dict[str, object]:
    """A customer's text as Meta writes it."""
    return {
        "from": wa_id(n),
        "from_user_id": bsuid(n),
        "id": wamid,
        "timestamp": str(int(at.timestamp())),
        "type": "text",
        "text": {"body": "Is my car ready? I could come by this afternoon."},
    }


def contact(n: int) -> dict[str, object]:
    return {"profile": {"name": "Kim"}, "wa_id": wa_id(n), "user_id": bsuid(n)}


def webhook(n: int, wamid: str, at: datetime) -> bytes:
    """The body of one webhook with one message."""
    value: dict[str, object] = {
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": f"4477{n % ORGS:08d}", "phone_number_id": number_id(n)},
        "contacts": [contact(n)],
        "messages": [message(n, wamid, at)],
    }
    return orjson.dumps(
        {
            "object": "whatsapp_business_account",
            "entry": [{"id": waba_id(n), "changes": [{"field": "messages", "value": value}]}],
        }
    )


def status(n: int, wamid: str, word: str, at: datetime, callback: str | None) -> dict[str, object]:
    """A status of a message to the customer of conversation ``n``, priced where Meta prices it."""
    found: dict[str, object] = {
        "id": wamid,
        "status": word,
        "timestamp": str(int(at.timestamp())),
        "recipient_id": wa_id(n),
        "recipient_user_id": bsuid(n),
    }
    if callback is not None:
        found["biz_opaque_callback_data"] = callback
    if word in ("sent", "delivered"):
        found["pricing"] = {"billable": True, "pricing_model": "PMP", "type": "regular", "category": "service"}
    return found


def statuses_webhook(found: Sequence[tuple[int, dict[str, object]]]) -> dict[str, object]:
    """One body with these statuses, each with the number of its conversation: an entry for each business number."""
    entries: dict[str, tuple[int, list[dict[str, object]], dict[str, dict[str, object]]]] = {}
    for n, one in found:
        _, statuses, contacts = entries.setdefault(number_id(n), (n, [], {}))
        statuses.append(one)
        contacts[wa_id(n)] = contact(n)
    return {
        "object": "whatsapp_business_account",
        "entry": [
            {"id": waba_id(n), "changes": [{"field": "messages", "value": _of_number(n, statuses, contacts)}]}
            for n, statuses, contacts in entries.values()
        ],
    }


def _of_number(n: int, statuses: list[dict[str, object]], contacts: dict[str, dict[str, object]]) -> dict[str, object]:
    metadata = {"display_phone_number": f"4477{n % ORGS:08d}", "phone_number_id": number_id(n)}
    return {
        "messaging_product": "whatsapp",
        "metadata": metadata,
        "contacts": list(contacts.values()),
        "statuses": statuses,
    }


def signed_request(host: str, body: bytes) -> bytes:
    """A whole HTTP request, signed as Meta signs."""
    digest = hmac.digest(SECRET.encode(), body, "sha256").hex()
    head = (
        f"POST /webhooks/meta HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length:"
        f" {len(body)}\r\n"
        f"X-Hub-Signature-256: sha256={digest}\r\n\r\n"
    )
    return head.encode() + body


def webhook_record(n: int, wamid: str, at: datetime) -> tuple[bytes, bytes]:
    """Key and value as the edge puts them on ``webhooks.v1``."""
    value = {
        "type": "webhook.meta.v1",
        "received_at": at.isoformat(),
        "waba_id": waba_id(n),
        "field": "messages",
        "phone_number_id": number_id(n),
        "item_kind": "message",
        "item": message(n, wamid, at),
        "contact": contact(n),
    }
    return f"{number_id(n)}:{wa_id(n)}".encode(), orjson.dumps(value)


def sms_record(n: int, sid: str, at: datetime) -> tuple[bytes, bytes]:
    """Key and value of a customer's SMS as the edge puts them on ``webhooks.v1``."""
    to, sender = f"+4478{n % ORGS:08d}", f"+{wa_id(n)}"
    form = {
        "MessageSid": sid,
        "AccountSid": TWILIO_ACCOUNT,
        "From": sender,
        "To": to,
        "Body": "Is my car ready? I could come by this afternoon.",
        "NumMedia": "0",
        "NumSegments": "1",
    }
    value = {
        "type": "webhook.twilio_sms.v1",
        "received_at": at.isoformat(),
        "form": form,
        "verified_account": TWILIO_ACCOUNT,
    }
    return f"{to}:{sender}".encode(), orjson.dumps(value)


def intent(n: int, intent_id: UUID | str, at: datetime) -> tuple[bytes, bytes]:
    """Key and value of an AI's reply."""
    value: dict[str, object] = {
        "type": "outbound.intent.v1",
        "intent_id": str(intent_id),
        "org_id": org_id(n),
        "conversation_id": conversation_id(n),
        "actor": {"kind": "ai", "user_id": None, "capabilities": []},
        "content": {"kind": "text", "text": "Your Golf is ready. You can pick it up until six this evening."},
        "channel": "auto",
        "fallback_template": None,
        "created_at": at.isoformat(),
        "expires_at": None,
    }
    return conversation_id(n).encode(), orjson.dumps(value)


def whatsapp_command(n: int, message_id: UUID, sequence: int, at: datetime) -> tuple[bytes, bytes]:
    """Key and value of the router's command for whatsapp_sender."""
    value = {
        "type": "outbound.whatsapp.v1",
        "message_id": str(message_id),
        "attempt": 1,
        "org_id": org_id(n),
        "conversation_id": conversation_id(n),
        "sequence": sequence,
        "route": "session",
        "phone_number_id": number_id(n),
        "to": f"+{wa_id(n)}",
        "recipient": bsuid(n),
        "content": {"kind": "text", "text": "Your Golf is ready. You can pick it up until six this evening."},
        "created_at": at.isoformat(),
        "expires_at": None,
    }
    return conversation_id(n).encode(), orjson.dumps(value)


def sms_command(n: int, message_id: UUID, sequence: int, at: datetime) -> tuple[bytes, bytes]:
    """Key and value of plain text on SMS."""
    value = {
        "type": "outbound.sms.v1",
        "message_id": str(message_id),
        "attempt": 1,
        "org_id": org_id(n),
        "conversation_id": conversation_id(n),
        "sequence": sequence,
        "route": "session",
        "from_number": f"+4478{n % ORGS:08d}",
        "to": f"+{wa_id(n)}",
        "text": "Your Golf is ready. You can pick it up until six this evening.",
        "created_at": at.isoformat(),
        "expires_at": None,
    }
    return conversation_id(n).encode(), orjson.dumps(value)
