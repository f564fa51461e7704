"""Garages and their customers, as end-to-end tests play them.

Each test opens a garage of its own, so that tests share a system.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID, uuid4

import yaml

from deploy.cli.load import load_into
from libs.common.clock import utc_now
from libs.common.ids import bridge_message_id
from tests.support.command import environment, transom_of
from tests.support.sandbox import ROOT
from tests.support.system import DAY, System

TEMPLATE = {
    "name": "appointment_reminder",
    "language": "en_GB",
    "category": "UTILITY",
    "parameter_format": "NAMED",
    "status": "APPROVED",
    "body": "Hi {{customer_name}}, see you at {{appointment_time}}.",
}
FILLED = {"name": TEMPLATE["name"], "language": TEMPLATE["language"]} | {
    "parameters": {"customer_name": "Kim", "appointment_time": "10:30"}
}
LATE = DAY + 3600
"""Seconds ago that a customer wrote whose window is closed."""
_phones = count(10_000)


def a_phone() -> str:
    """A phone number that no other test of this run has."""
    return f"+4477009{next(_phones):05}"


@dataclass(frozen=True, slots=True)
class Garage:
    """One organisation with one number, known to the database and to Meta."""

    system: System
    name: str
    org_id: str = field(default_factory=lambda: f"garage-{secrets.token_hex(4)}")
    phone_number_id: str = field(default_factory=lambda: f"106{secrets.randbelow(10**12):012}")
    waba_id: str = field(default_factory=lambda: f"206{secrets.randbelow(10**12):012}")
    display_number: str = field(default_factory=a_phone)
    sms_number: str = field(default_factory=a_phone)

    def customer(self, phone: str | None = None) -> "Customer":
        """A customer who has not written yet."""
        customer = Customer(self, phone or a_phone())
        self.system.private |= {customer.phone, customer.phone.lstrip("+")}
        return customer

    async def customer_who_wrote(self, ago: float = 0.0) -> "Customer":
        """A customer who wrote so many seconds ago and has a conversation."""
        customer = self.customer()
        await customer.writes(ago=ago)
        return customer


async def a_garage(system: System, name: str = "AcmeMotors", **org: Any) -> Garage:
    """Load a garage through the load file, register its number and templates at Meta.

    ``org`` are further fields of the file.
    """
    garage = Garage(system, name)
    entry: dict[str, Any] = {
        "org_id": garage.org_id,
        "name": name,
        "sms_number": garage.sms_number,
        "sms_active": True,
        "numbers": [
            {
                "phone_number_id": garage.phone_number_id,
                "waba_id": garage.waba_id,
                "display_number": garage.display_number,
            }
        ],
        "templates": [TEMPLATE],
    }
    price = {"from": "2026-01-01", "channel": "sms", "category": "sms", "country": "GB", "currency": "GBP"}
    file = system.folder / f"{garage.org_id}.yaml"
    file.write_text(yaml.safe_dump({"orgs": [entry | org], "rate_card": [price | {"price": "0.04"}]}))
    if system.code == ROOT:
        await load_into(system.servers.postgres_dsn, file)
    else:
        await transom_of(system.code, "load", str(file), env=environment(POSTGRES_DSN=system.servers.postgres_dsn))
    for template in (entry | org)["templates"]:  # first: with its number an account is known, and may be read
        await system.sandbox.template(**{**template, "waba_id": garage.waba_id})
    await system.sandbox.number(garage.phone_number_id, waba_id=garage.waba_id, display_number=garage.display_number)
    return garage


@dataclass(slots=True)
class Customer:
    """One customer of one garage: what he does, what is meant for him, what he got."""

    garage: Garage
    phone: str
    conversation_id: str = ""

    @property
    def system(self) -> System:
        return self.garage.system

    async def writes(self, text: str = "Is my car ready?", *, ago: float = 0.0, **fields: Any) -> Mapping[str, Any]:
        """The customer writes on WhatsApp. Returns the inbound event that was published of it."""
        self.system.private.add(text)
        wrote = await self.system.sandbox.customer_writes(
            self.garage.phone_number_id, self.phone, text=text, age=ago, **fields
        )
        record = await self.system.published.one("inbound.messages.v1", provider_id=wrote["wamid"])
        self.conversation_id = record.event["conversation_id"]
        return record.event

    def intent(self, text: str = "Your Golf is ready.", *, actor: str = "ai", **fields: Any) -> dict[str, Any]:
        """A message for him; ``fields`` replace those of the intent."""
        self.system.private.add(text)
        staff = actor == "staff"
        who = {"kind": actor, "user_id": "u-7" if staff else None, "capabilities": ["messages.send"] if staff else []}
        return {
            "type": "outbound.intent.v1",
            "intent_id": str(uuid4()),
            "org_id": self.garage.org_id,
            "conversation_id": self.conversation_id,
            "actor": who,
            "content": {"kind": "text", "text": text},
            "created_at": utc_now().isoformat(),
        } | fields

    def first_contact(self, **fields: Any) -> dict[str, Any]:
        """An intent for the customer by phone number, without a conversation."""
        to = {"phone_number_id": self.garage.phone_number_id, "phone": self.phone}
        return {name: value for name, value in self.intent(to=to, **fields).items() if name != "conversation_id"}

    async def is_sent(self, text: str = "Your Golf is ready.", **fields: Any) -> str:
        """Publish an intent for the customer. Returns its id."""
        (intent_id,) = await self.system.intend(self.intent(text, **fields))
        return intent_id

    async def whatsapps(self) -> list[dict[str, Any]]:
        """What Meta sent him, from whomever."""
        return [sent for sent in await self.system.sandbox.messages() if sent["to"] == self.phone]

    async def texts(self) -> list[str]:
        """The SMS he got."""
        sent = await self.system.sandbox.sms()
        return [sms["message"]["body"] for sms in sent if sms["message"]["to"] == self.phone]

    async def thread(self) -> list[tuple[str, str, str, str | None]]:
        """His conversation as stored: direction, channel, status, reason; in its order."""
        rows = await self.system.rows(
            "select direction, channel, status, reason from messages where org_id = $1"
            " and conversation_id = $2::uuid order by sequence",
            self.garage.org_id,
            self.conversation_id,
        )
        return [(row["direction"], row["channel"], row["status"], row["reason"]) for row in rows]


def bridge_of(intent_id: str) -> str:
    """The id of the bridge SMS that stands in for an intent."""
    return str(bridge_message_id(UUID(intent_id)))
