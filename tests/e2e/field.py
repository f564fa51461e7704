"""The system against providers whose answers are the test's own."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from libs.common.clock import utc_now
from tests.support.garages import TEMPLATE, Customer, a_garage
from tests.support.standin import Call, Meta, StandIn
from tests.support.system import System

CLOSED = timedelta(hours=25)
"""So long ago a customer wrote whose window is closed."""


@dataclass(frozen=True, slots=True)
class Field:
    """A running system and the stand-in it speaks to."""

    system: System
    standin: StandIn


async def opened(field: Field, name: str = "AcmeMotors", **org: object) -> Meta:
    """A garage of its own, and Meta's voice for it."""
    return Meta(await a_garage(field.system, name, **org))


async def who_wrote(at: Meta, ago: timedelta = timedelta(0)) -> Customer:
    """A customer whose window opened so long ago."""
    kim = at.garage.customer()
    message = await at.writes(sender={"from": kim.phone.lstrip("+")}, at=utc_now() - ago)
    kim.conversation_id = message["conversation_id"]
    return kim


def to(kim: Customer, text: str | None = None) -> Callable[[Call], bool]:
    """Whether a call goes to this customer, with this text."""
    return lambda call: call.to == kim.phone and text in (None, call.text)


def template(name: str, **fields: object) -> dict[str, object]:
    """A template of the load file without placeholders."""
    return {**TEMPLATE, "name": name, "body": "Your car is ready."} | fields
