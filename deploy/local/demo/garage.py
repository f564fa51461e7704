"""The garage of the demo: fresh ids for every run, so that runs on the same servers do not meet."""

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import yaml

CUSTOMER_PHONE = "+447700900999"
BUSINESS_PHONE = "+447700900123"
SMS_NUMBER = "+447700900001"
PORTAL_HOST = "tflow.link"
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
    org_id: str = field(default_factory=lambda: f"acme-{secrets.token_hex(3)}")
    phone_number_id: str = field(default_factory=lambda: _digits("106"))
    waba_id: str = field(default_factory=lambda: _digits("206"))
    customer_id: str = field(default_factory=lambda: str(uuid4()))

    def write(self, path: Path) -> Path:
        """The garage as a file for ``transom load``."""
        org = {
            "org_id": self.org_id,
            "name": "AcmeMotors",
            "sms_number": SMS_NUMBER,
            "sms_active": True,
            "portal_host": PORTAL_HOST,
            "numbers": [
                {"phone_number_id": self.phone_number_id, "waba_id": self.waba_id, "display_number": BUSINESS_PHONE}
            ],
            "customers": [{"customer_id": self.customer_id, "name": "Kim", "phone": CUSTOMER_PHONE}],
            "templates": [TEMPLATE],
        }
        price = {"from": "2026-10-01", "channel": "sms", "category": "sms", "country": "GB", "currency": "GBP"}
        card = [price | {"price": "0.04"}]
        path.write_text(yaml.safe_dump({"orgs": [org], "rate_card": card}, sort_keys=False))
        return path
