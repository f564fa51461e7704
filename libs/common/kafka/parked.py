"""Traces of dead letters in PostgreSQL, for ``transom explain``. Only a record that names an intent leaves one."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import orjson
from pydantic import TypeAdapter, ValidationError

from libs.common.db.pool import Pool
from libs.common.events.base import named_type
from libs.common.events.fields import OrgId
from libs.common.kafka import parked_queries as parked
from libs.common.kafka.batch_processor import DeadLetter
from libs.common.kafka.parked_queries import Parked

_ORG_ID: TypeAdapter[str] = TypeAdapter(OrgId)
_LARGEST = 256 * 1024  # bytes; a command is smaller, and a letter may hold megabytes


class Traces:
    """Stores traces in ``parked_records``."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def __call__(self, letters: Sequence[DeadLetter], now: datetime) -> None:
        """Store the traces of those that name an intent."""
        found = [trace for letter in letters if (trace := trace_of(letter)) is not None]
        if found:
            async with self._pool.acquire() as db:
                await parked.keep(db, found, now)


def trace_of(letter: DeadLetter) -> Parked | None:
    """The trace of a letter whose record names an organisation and an intent (or the message that it became)."""
    record = letter.record
    if not isinstance(record.value, bytes) or len(record.value) > _LARGEST:
        return None
    try:
        found = orjson.loads(record.value)
        org_id = _ORG_ID.validate_python(found["org_id"])
        message_id = UUID(found["intent_id"] if "intent_id" in found else found["message_id"])
    except (ValidationError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return Parked(record.topic, record.partition, record.offset, org_id, message_id, letter.reason, named_type(found))
