"""The meaning of each provider's codes: one table per provider, for responses and for later statuses."""

from typing import Literal, NamedTuple, assert_never, get_args

from libs.common.faults import Fault
from libs.common.providers import meta, twilio, vonage

Provider = Literal["meta", "twilio", "vonage"]
"""The provider that carries a message. Two providers may serve one channel, and one provider two channels."""
ProviderChannel = Literal["whatsapp", "sms"]
"""The channels that a provider carries; the portal needs none."""
PROVIDERS: tuple[Provider, ...] = get_args(Provider)


class Route(NamedTuple):
    """The account of organisations with this ``sms_provider`` and ``sms_account``. ``account``: its provider's id."""

    sms_provider: str | None
    sms_account: str | None
    provider: Provider
    account: str


class Transport(NamedTuple):
    """A channel and the provider that serves it. ``routes``: the accounts that organisations may have there."""

    channel: ProviderChannel
    provider: Provider
    routes: tuple[Route, ...] = ()


WHATSAPP_BY_META = Transport("whatsapp", "meta")


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
