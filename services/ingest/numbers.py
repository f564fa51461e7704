"""The gate of all that Meta tells: whose the business number is.

Rule 1: tenants never meet. What is for a number that no organisation has is a dead letter (``unknown_number``).
Rule 2: a number belongs to its WhatsApp Business Account. What names another one than the directory is a dead letter too (``waba_mismatch``):
        Meta moves numbers between accounts, and until the directory says so the sender of such a webhook is a stranger. A record that names
        no account is judged by its number.
Rule 3: such dead letters stop nothing. Each number is loud at once and then once a minute, with how many there were. ``transom replay --dlq``
        feeds them through again when the directory knows better.

The directory is asked for every batch: what it learnt a moment ago counts for the next one.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from libs.common.db.pool import Pool
from libs.common.directory.reports import TemplateNews
from libs.common.kafka.records import Received, Reject
from libs.common.logging import get_logger
from libs.common.tally import Tally, Told
from services.ingest import queries
from services.ingest.understood import (
    CustomerCall,
    CustomerMessage,
    CustomerPreference,
    GroupMessage,
    IdentityChange,
    MessageStatus,
    NotForUs,
    Understood,
)

log = get_logger()

TELL_EVERY = timedelta(seconds=5)

Reason = Literal["unknown_number", "waba_mismatch"]
_DETAILS: dict[Reason, str] = {
    "unknown_number": "phone_number_id belongs to no organisation",
    "waba_mismatch": "phone_number_id belongs to another waba_id, as the directory has it",
}
_EVENTS: dict[Reason, Literal["number.unknown", "number.waba_mismatch"]] = {
    "unknown_number": "number.unknown",
    "waba_mismatch": "number.waba_mismatch",
}

_Number = tuple[str, str | None]
"""Business number, WABA id."""


@dataclass(slots=True)
class Gate:
    """Lets through what is for a number of ours."""

    pool: Pool
    _strangers: Tally[tuple[Reason, str], Reason] = field(default_factory=Tally)

    async def refuse(self, batch: Sequence[Received[Understood]]) -> list[Reject]:
        """What of the batch is for no number of ours. One round trip, or none."""
        asked = [(number, received) for received in batch if (number := _number_of(received.value)) is not None]
        if not asked:
            return []
        async with self.pool.acquire() as db:
            ours = await queries.wabas(db, sorted({number for (number, _waba), _ in asked}))
        refused = [(reason, number, one) for (number, waba), one in asked if (reason := _judge(number, waba, ours))]
        now = asyncio.get_running_loop().time()
        for kind, count in Counter((reason, number) for reason, number, _ in refused).items():
            if (told := self._strangers.add(kind, kind[0], now, count)) is not None:
                _tell(told)
        return [Reject(one.record, reason, _DETAILS[reason]) for reason, _, one in refused]

    async def tell(self) -> None:
        """Say what was counted since; to be asked every few seconds."""
        for told in self._strangers.due(asyncio.get_running_loop().time()):
            _tell(told)


def _judge(number: str, waba: str | None, ours: Mapping[str, str]) -> Reason | None:
    if number not in ours:
        return "unknown_number"
    return "waba_mismatch" if waba is not None and waba != ours[number] else None


def _number_of(value: Understood) -> _Number | None:
    match value:
        case CustomerMessage() | GroupMessage() | CustomerCall() | CustomerPreference() | IdentityChange():
            return value.phone_number_id, value.waba_id
        case MessageStatus(phone_number_id=str() as number):
            return number, value.waba_id
        case MessageStatus() | TemplateNews() | NotForUs():
            return None


def _tell(told: Told[tuple[Reason, str], Reason]) -> None:
    log.error(
        _EVENTS[told.sample],
        phone_number_id=None if told.key is None else told.key[1],
        records=told.count,
        reason=told.sample,
    )
