"""What each provider's codes mean: one table per provider, for answers and for statuses alike."""

from typing import Literal, NamedTuple, get_args

from libs.common.faults import Fault
from libs.common.providers import meta, twilio

Provider = Literal["meta", "twilio"]
"""Who carries a message. The channel is how it goes: two providers may serve one channel, and one provider two."""
ProviderChannel = Literal["whatsapp", "sms"]
"""The channels that a provider carries; the portal needs none."""
PROVIDERS: tuple[Provider, ...] = get_args(Provider)


class Transport(NamedTuple):
    """How messages go, and who carries them."""

    channel: ProviderChannel
    provider: Provider


WHATSAPP_BY_META = Transport("whatsapp", "meta")
SMS_BY_TWILIO = Transport("sms", "twilio")


def fault_of(provider: Provider, code: str | int | None) -> Fault:
    """The fault that a provider's code stands for; None where it named none."""
    return meta.fault_of(code) if provider == "meta" else twilio.fault_of(code)
