"""The system against providers whose answers are the test's own."""

from dataclasses import dataclass

from tests.support.garages import TEMPLATE, a_garage
from tests.support.standin import Meta, StandIn
from tests.support.system import System


@dataclass(frozen=True, slots=True)
class Field:
    """A running system and the stand-in it speaks to."""

    system: System
    standin: StandIn


async def opened(field: Field, name: str = "AcmeMotors", **org: object) -> Meta:
    """A garage of its own, and Meta's voice for it."""
    return Meta(await a_garage(field.system, name, **org))


def template(name: str, **fields: object) -> dict[str, object]:
    """A template of the load file without placeholders."""
    return {**TEMPLATE, "name": name, "body": "Your car is ready."} | fields
