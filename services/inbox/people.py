"""Who asks: a member of an organisation's staff, or a program that works for it. Pure.

Rule 1: a person belongs to one organisation. Every answer to them is about its data alone.
Rule 2: a person may do what their capabilities say, and ``*`` is all of them. A word that this build does not know
        allows nothing.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, get_args

Capability = Literal["messages.view", "messages.send", "messages.tier.manage", "customers.contact.view"]
CAPABILITIES: Final[tuple[Capability, ...]] = get_args(Capability)
EVERYTHING = "*"


@dataclass(frozen=True, slots=True)
class Person:
    """``ends_at``: from then on neither the token nor the session counts, and streams are closed."""

    org_id: str
    user_id: str
    capabilities: frozenset[str]
    ends_at: datetime
    name: str | None = None

    def may(self, capability: Capability) -> bool:
        """Whether the person may do this."""
        return capability in self.capabilities or EVERYTHING in self.capabilities
