"""The state of the sandbox; ``reset`` makes it as it was at the start."""

import random
from dataclasses import dataclass, field

from deploy.local.sandbox.accounts import MetaApp, SmsAccount, SmsNumber
from deploy.local.sandbox.behaviour import Behaviour
from deploy.local.sandbox.customers import Customers, Windows
from deploy.local.sandbox.faults import Faults
from deploy.local.sandbox.ledger import KEPT, Ledger
from deploy.local.sandbox.oidc import OidcClient, OidcState
from deploy.local.sandbox.signing import Secrets
from deploy.local.sandbox.templates import Number, Template, Templates
from deploy.local.sandbox.webhook_sender import WebhookSender


@dataclass(frozen=True, slots=True)
class Registered:
    numbers: tuple[Number, ...] = ()
    templates: tuple[Template, ...] = ()


@dataclass
class World:
    """The state of the providers. If no number is registered, every number id counts as one, for the bench."""

    secrets: Secrets
    start: Behaviour
    registered: Registered
    kept: int = KEPT
    """How many records each log of the ledger keeps."""
    oidc_client: OidcClient = field(default_factory=OidcClient)
    windows: Windows = field(default_factory=Windows)
    webhook_sender: WebhookSender = field(init=False)
    oidc: OidcState = field(default_factory=OidcState)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.start.seed)  # noqa: S311  faults and disorder are drawn here, no secret is
        self.webhook_sender = WebhookSender(lambda: self.behaviour, self.secrets, self.rng)
        self._begin()

    def _begin(self) -> None:
        self.behaviour = self.start
        self.rng.seed(self.start.seed)
        self.ledger = Ledger(self.kept)
        self.webhook_sender.log = self.ledger.webhooks
        self.customers, self.faults = Customers(), Faults(self.rng)
        self.numbers = {number.phone_number_id: number for number in self.registered.numbers}
        self.templates = Templates()
        for template in self.registered.templates:
            self.templates.put(template)
        self.sms_recipients: dict[str, str] = {}
        self.app, self.sms_account = MetaApp(), SmsAccount()
        self.sms_numbers: dict[str, SmsNumber] = {}
        self.oidc.begin()

    async def reset(self) -> None:
        """Drop everything since the start, outstanding webhooks included."""
        await self.webhook_sender.forget()
        self.faults.clear()
        self.windows.forget()
        self._begin()

    def number(self, number_id: str) -> Number | None:
        """The business number of this id, or None when Meta knows none."""
        found = self.numbers.get(number_id)
        if found is None and not self.numbers and number_id.isdigit():
            return Number(phone_number_id=number_id)
        return found

    def numbers_of(self, waba_id: str) -> list[Number] | None:
        """The business numbers of this account, or None when Meta knows no such account."""
        if not self.numbers:
            return [] if waba_id.isdigit() else None
        return [number for number in self.numbers.values() if number.waba_id == waba_id] or None

    def webhook_url(self, number: Number) -> str:
        return number.webhook_url or self.behaviour.webhook_url
