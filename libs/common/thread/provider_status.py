"""One status as its provider reported it.

``status`` is a word of ours; a word that is no ``DeliveryStatus`` moves no message.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from libs.common.faults import Fault
from libs.common.providers import Provider, ProviderChannel, fault_of


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """One status as its provider reported it.

    ``status`` is a word of ours; a word that is no ``DeliveryStatus`` moves no message. ``account`` scopes
    ``provider_id``: phone_number_id at Meta, the account sid at Twilio. ``at`` is the provider's clock.
    """

    channel: ProviderChannel
    provider: Provider
    account: str
    provider_id: str
    status: str
    at: datetime
    code: str | None = None
    callback: str | None = None
    item: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> tuple[str, str, str]:
        return self.provider, self.account, self.provider_id

    @property
    def fault(self) -> Fault:
        """What ``code`` means, by its provider's table."""
        return fault_of(self.provider, self.code)
