"""The gate of bridge slots in Redis: ``SET bridge:{conversation} {intent} NX GET PX``; ``slot`` says what follows.

Rule 1: nil *or the asker's own id* means that Redis refuses nothing, also to a retry after a lost reply. PostgreSQL
        grants the slot.
Rule 2: Redis follows PostgreSQL (``libs.common.bridge.queries``): after each commit it is set to what was committed.
Rule 3: nothing here raises while Redis is unavailable. A key is deleted only while it has the id that is given back.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from redis.asyncio.client import Pipeline

from libs.common.bridge.slot import Slot
from libs.common.redis import UNAVAILABLE, Redis

_DELETE_IF_OURS = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


def redis_key(conversation_id: UUID) -> str:
    """The key of a conversation's slot. The value is the intent id as text."""
    return f"bridge:{conversation_id}"


class RedisGate:
    """``hold`` is BRIDGE_HOLD_SECONDS, the expiry of a key. Every method is one round trip for any number of slots."""

    def __init__(self, redis: Redis, hold: timedelta) -> None:
        self._redis = redis
        self.hold = hold
        self._hold_ms = max(1, round(hold.total_seconds() * 1000))

    async def acquire(self, requests: Sequence[Slot]) -> Mapping[UUID, UUID | None]:
        """By conversation, the intent that holds the slot now, or None where Redis is unavailable.

        ``requests`` name each conversation once. A slot that was free belongs to the asker afterwards, for the whole
        hold.
        """
        if not requests:
            return {}

        def build(pipe: Pipeline) -> None:
            for slot in requests:
                pipe.set(redis_key(slot.conversation_id), str(slot.intent_id), nx=True, get=True, px=self._hold_ms)

        replies = await self._redis.pipeline(build)
        if replies is UNAVAILABLE:
            return {slot.conversation_id: None for slot in requests}
        return {
            slot.conversation_id: slot.intent_id if reply is None else _holder(reply)
            for slot, reply in zip(requests, replies, strict=True)
        }

    async def sync(self, held: Sequence[Slot] = (), released: Sequence[Slot] = ()) -> None:
        """Set Redis to what PostgreSQL has committed. Does nothing while Redis is unavailable.

        ``held``: these intents hold their slots, and the whole hold runs from now. ``released``: these have given
        theirs back.
        """
        if not held and not released:
            return

        def build(pipe: Pipeline) -> None:
            for slot in held:
                pipe.set(redis_key(slot.conversation_id), str(slot.intent_id), px=self._hold_ms)
            for slot in released:
                pipe.eval(_DELETE_IF_OURS, 1, redis_key(slot.conversation_id), str(slot.intent_id))

        await self._redis.pipeline(build)


def _holder(reply: object) -> UUID | None:
    try:
        return UUID(str(reply))
    except ValueError:  # a value that the gate did not write
        return None
