"""The gate of Meta's webhooks: to which organisation the business number belongs.

Rule 1: tenants never meet. A record for a number that no organisation has is a dead letter (``unknown_number``).
Rule 2: a number belongs to its WhatsApp Business Account. A record that names another one than the directory is a dead
        letter too (``waba_mismatch``): Meta moves numbers between accounts, and until the directory says so the
        account's owner may be another. A record that names no account is judged by its number.
Rule 3: such dead letters stop nothing. Each number is logged at once and then once a minute, with how many records
        there were. ``transom replay --dlq`` feeds them through again when the directory has the number.

The directory is asked for every batch, so a change of it counts for the next one.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from libs.common.db.pool import Pool
from libs.common.directory import numbers
from libs.common.directory.numbers import NumberOwner
from libs.common.directory.reports import TemplateNews
from libs.common.kafka.records import Received, Reject
from libs.common.log_aggregator import LogAggregator, Report
from libs.common.logging import get_logger
from services.ingest.items import (
    CustomerCall,
    CustomerMessage,
    CustomerPreference,
    GroupMessage,
    IdentityChange,
    Ignored,
    InboundSms,
    Item,
    MessageStatus,
    NumberErrors,
    StaffEchoes,
)

log = get_logger()

LOG_EVERY = timedelta(seconds=5)

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
class NumberGate:
    """Lets through what is for a number in the directory."""

    pool: Pool
    _rejected: LogAggregator[tuple[Reason, str], Reason] = field(default_factory=LogAggregator)

    async def reject(self, batch: Sequence[Received[Item]]) -> list[Reject]:
        """The records that are for no number in the directory. One round trip, or none."""
        asked = [number for received in batch if (number := _number_of(received.value)) is not None]
        if not asked:
            return []
        named = set(asked)
        async with self.pool.acquire() as db:
            ours = await numbers.owners(db, sorted({number for number, _waba in named}))
        reasons = {one: reason for one in named if (reason := _judge(*one, ours))}
        if not reasons:
            return []
        rejected = [
            (reasons[number], number[0], received)
            for received in batch
            if (number := _number_of(received.value)) is not None and number in reasons
        ]
        now = asyncio.get_running_loop().time()
        for kind, count in Counter((reason, number) for reason, number, _ in rejected).items():
            if (due := self._rejected.add(kind, kind[0], now, count)) is not None:
                _log(due)
        return [Reject(one.record, reason, _DETAILS[reason]) for reason, _, one in rejected]

    async def log(self) -> None:
        """Log what was counted since; to be called every ``LOG_EVERY``."""
        for due in self._rejected.due(asyncio.get_running_loop().time()):
            _log(due)


def _judge(number: str, waba: str | None, ours: Mapping[str, NumberOwner]) -> Reason | None:
    if number not in ours:
        return "unknown_number"
    return "waba_mismatch" if waba is not None and waba != ours[number].waba_id else None


def _number_of(item: Item) -> _Number | None:
    match item:
        case MessageStatus() | NumberErrors():  # most are statuses
            return None if item.phone_number_id is None else (item.phone_number_id, item.waba_id)
        case (
            CustomerMessage()
            | GroupMessage()
            | CustomerCall()
            | CustomerPreference()
            | IdentityChange()
            | StaffEchoes()
        ):
            return item.phone_number_id, item.waba_id
        case TemplateNews() | InboundSms() | Ignored():
            return None


def _log(due: Report[tuple[Reason, str], Reason]) -> None:
    log.error(
        _EVENTS[due.sample],
        phone_number_id=None if due.key is None else due.key[1],
        records=due.count,
        reason=due.sample,
    )
