"""First gate of the bridge slot: one bridge SMS per conversation in any 24 hours, asked of Redis.

Rule 1: Redis is quick, not true. The row in ``bridge_slots`` (``libs.common.bridge.queries``) has the last word both ways: "taken" is believed only
        when Postgres agrees, and a slot is ours only when Postgres has given it to us.
Rule 2: the answer nil *or our own id* means ours; a retry after a lost reply is still ours.
Rule 3: nothing here raises because Redis is away, and nothing is ever deleted but what carries the id it is thought to carry.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from redis.asyncio.client import Pipeline

from libs.common.bridge.slot import Slot
from libs.common.redis import UNAVAILABLE, Redis

_DELETE_IF_OURS = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


def redis_key(conversation_id: UUID) -> str:
    """Where Redis keeps the slot of a conversation; the value is the intent id as text."""
    return f"bridge:{conversation_id}"


class RedisGate:
    """The gate in Redis; ``hold`` is BRIDGE_HOLD_SECONDS. Every method is one round trip for any number of slots."""

    def __init__(self, redis: Redis, hold: timedelta) -> None:
        self._redis = redis
        self.hold = hold
        self._hold_ms = max(1, round(hold.total_seconds() * 1000))

    async def acquire(self, requests: Sequence[Slot]) -> Mapping[UUID, UUID | None]:
        """By conversation: the intent that holds it now (the asker's own id: ours), or None where Redis cannot say.

        ``requests`` name each conversation once. What was free is ours afterwards for the whole hold.
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
        """Bring Redis in line with what Postgres has committed; does nothing while Redis is away.

        ``held``: these hold their slots, and the whole hold runs from now (also: the provider accepted the bridge).
        ``released``: these hold their slots no more (refused by Postgres, given back); deleted only where Redis still names them.
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
    except ValueError:  # somebody else's value under our key: Redis cannot say
        return None
