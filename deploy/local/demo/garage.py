"""The garages of the demo: fresh ids for every run, so that runs on the same servers do not meet."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from deploy.local.example import ORG

TEMPLATE = {
    "name": "appointment_reminder",
    "language": "en_GB",
    "category": "UTILITY",
    "parameter_format": "NAMED",
    "status": "APPROVED",
    "body": "Hi {{customer_name}}, see you at {{appointment_time}}.",
}


def _digits(prefix: str) -> str:
    return prefix + "".join(secrets.choice("0123456789") for _ in range(12))


@dataclass(frozen=True, slots=True)
class Garage:
    """A garage, its numbers and its one customer. Without ``portal_host`` its links are at the platform's address."""

    name: str
    customer: str
    customer_phone: str
    business_phone: str
    sms_number: str
    portal_host: str | None = None
    credit_exhausted: bool | None = None
    suffix: str = field(default_factory=lambda: secrets.token_hex(3))
    phone_number_id: str = field(default_factory=lambda: _digits("106"))
    waba_id: str = field(default_factory=lambda: _digits("206"))
    customer_id: str = field(default_factory=lambda: str(uuid4()))

    @property
    def org_id(self) -> str:
        return f"{self.name.lower()}-{self.suffix}"

    @property
    def entry(self) -> dict[str, Any]:
        """The garage as ``transom load`` takes it."""
        number = {
            "phone_number_id": self.phone_number_id,
            "waba_id": self.waba_id,
            "display_number": self.business_phone,
        }
        return {
            "org_id": self.org_id,
            "name": self.name,
            "sms_number": self.sms_number,
            "sms_active": True,
            "portal_host": self.portal_host,
            "country": "GB",
            "currency": "GBP",
            "credit_exhausted": self.credit_exhausted,
            "numbers": [number],
            "customers": [{"customer_id": self.customer_id, "name": self.customer, "phone": self.customer_phone}],
            "templates": [TEMPLATE],
        }


@dataclass(frozen=True, slots=True)
class Garages:
    """The four garages of the story."""

    acme: Garage = field(
        default_factory=lambda: Garage(
            "AcmeMotors", "Kim", "+447700900999", "+447700900123", "+447700900001", "tflow.link"
        )
    )
    bolt: Garage = field(
        default_factory=lambda: Garage("BoltGarage", "Sam", "+447700900998", "+447700900124", "+447700900002")
    )
    crown: Garage = field(
        default_factory=lambda: Garage("CrownAutos", "Alex", "+447700900997", "+447700900125", "+447700900003")
    )
    dusty: Garage = field(
        default_factory=lambda: Garage(
            "DustyCars", "Pat", "+447700900996", "+447700900126", "+447700900004", credit_exhausted=True
        )
    )

    @property
    def all(self) -> Sequence[Garage]:
        return self.acme, self.bolt, self.crown, self.dusty

    def write(self, path: Path, issuer: str | None) -> Path:
        """The garages as a file for ``transom load``. The people of ``issuer`` are those of the first garage."""
        price = {"from": "2026-10-01", "channel": "sms", "category": "sms", "country": "GB", "currency": "GBP"}
        sign_in = {} if issuer is None else {"sign_in": {"issuer": issuer, "tenant": ORG}}
        others = [one.entry for one in self.all[1:]]
        card = [
            price | {"price": "0.04"},
            price | {"channel": "whatsapp", "category": "utility", "price": "0.0159"},
        ]
        path.write_text(
            yaml.safe_dump({"orgs": [self.acme.entry | sign_in, *others], "rate_card": card}, sort_keys=False)
        )
        return path
