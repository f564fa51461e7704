"""The meaning of each provider's codes: one table per provider, for responses and for later statuses."""

from typing import Literal, NamedTuple, assert_never, get_args

from libs.common.faults import Fault
from libs.common.providers import meta, twilio, vonage

Provider = Literal["meta", "twilio", "vonage"]
"""The provider that carries a message. Two providers may serve one channel, and one provider two channels."""
ProviderChannel = Literal["whatsapp", "sms"]
"""The channels that a provider carries; the portal needs none."""
PROVIDERS: tuple[Provider, ...] = get_args(Provider)


class Transport(NamedTuple):
    channel: ProviderChannel
    provider: Provider


WHATSAPP_BY_META = Transport("whatsapp", "meta")
SMS_BY_TWILIO = Transport("sms", "twilio")


def fault_of(provider: Provider, code: str | int | None) -> Fault:
    """The fault of a provider's code. ``code`` is None where the provider gave none."""
    match provider:
        case "meta":
            return meta.fault_of(code)
        case "twilio":
            return twilio.fault_of(code)
        case "vonage":
            return vonage.fault_of(code)
        case _:
            assert_never(provider)
