"""First gate of the bridge slot: one bridge SMS per conversation in any 24 hours, asked of Redis.

Rule 1: Redis is quick, not true. The row in ``bridge_slots`` (``libs.common.bridge.slots``) has the last word both ways: "taken" is believed only
        when Postgres agrees, and a slot is ours only when Postgres has given it to us.
Rule 2: the answer nil *or our own id* means ours; a retry after a lost reply is still ours.
Rule 3: nothing here raises because Redis is away, and nothing is ever deleted but what carries the id it is thought to carry.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import NamedTuple
from uuid import UUID

from redis.asyncio.client import Pipeline

from libs.common.redis import AWAY, Redis

_DELETE_IF_OURS = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"


class Slot(NamedTuple):
    """The bridge of ``intent_id`` holds, or wants, the slot of ``conversation_id``."""

    org_id: str
    conversation_id: UUID
    intent_id: UUID


def key_of(conversation_id: UUID) -> str:
    """Where Redis keeps the slot of a conversation; the value is the intent id as text."""
    return f"bridge:{conversation_id}"


class RedisSlots:
    """The gate in Redis; ``hold`` is BRIDGE_HOLD_SECONDS. Every method is one round trip for any number of slots."""

    def __init__(self, redis: Redis, hold: timedelta) -> None:
        self._redis = redis
        self.hold = hold
        self._hold_ms = max(1, round(hold.total_seconds() * 1000))

    async def ask(self, wanted: Sequence[Slot]) -> Mapping[UUID, UUID | None]:
        """By conversation: the intent that holds it now (the asker's own id: ours), or None where Redis cannot say.

        ``wanted`` names each conversation once. What was free is ours afterwards for the whole hold.
        """
        if not wanted:
            return {}

        def build(pipe: Pipeline) -> None:
            for slot in wanted:
                pipe.set(key_of(slot.conversation_id), str(slot.intent_id), nx=True, get=True, px=self._hold_ms)

        replies = await self._redis.pipeline(build)
        if replies is AWAY:
            return {slot.conversation_id: None for slot in wanted}
        return {
            slot.conversation_id: slot.intent_id if reply is None else _holder(reply)
            for slot, reply in zip(wanted, replies, strict=True)
        }

    async def align(self, held: Sequence[Slot] = (), lost: Sequence[Slot] = ()) -> None:
        """Bring Redis in line with what Postgres has committed; does nothing while Redis is away.

        ``held``: these hold their slots, and the whole hold runs from now (also: the provider accepted the bridge).
        ``lost``: these hold their slots no more (refused by Postgres, given back); deleted only where Redis still names them.
        """
        if not held and not lost:
            return

        def build(pipe: Pipeline) -> None:
            for slot in held:
                pipe.set(key_of(slot.conversation_id), str(slot.intent_id), px=self._hold_ms)
            for slot in lost:
                pipe.eval(_DELETE_IF_OURS, 1, key_of(slot.conversation_id), str(slot.intent_id))

        await self._redis.pipeline(build)


def _holder(reply: object) -> UUID | None:
    try:
        return UUID(str(reply))
    except ValueError:  # somebody else's value under our key: Redis cannot say
        return None
