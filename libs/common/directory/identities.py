"""Who is who: ids that were told together belong to one customer, each from a time on and until a time.

Called for what Meta says of a customer without being written to by one: a Graph answer, a status, a number shared on request. Ingest settles
messages and notices by the same rules (docs/architecture/identities.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal
from uuid import UUID

if TYPE_CHECKING:
    import asyncpg

Source = Literal["message", "status", "answer", "notice", "directory", "shared", "stale"]


@dataclass(frozen=True, slots=True)
class Binding:
    """These ids are one person as of ``at``, by the word of ``source``; at least one of ``wa_id``, ``bsuid`` and ``phone`` is there.

    ``wa_id`` is digits, ``phone`` E.164. Of a message of ours ``phone`` is the number that it was sent to, and ``customer_id`` whom it was meant
    for: they have what nobody else is known to have. ``phone_number_id`` is the business number it concerns, whose conversation gets the address.
    """

    org_id: str
    phone_number_id: str | None
    customer_id: UUID | None
    wa_id: str | None
    bsuid: str | None
    phone: str | None
    at: datetime
    source: Source


async def bind(db: "asyncpg.Connection[asyncpg.Record]", bindings: Sequence[Binding], now: datetime) -> None:
    """Make it so that these ids lead to one customer each. Idempotent, and the same in any order.

    Call in a transaction that holds no messages, sends or conversations yet: customers may be merged, which locks them in its own order.
    """
