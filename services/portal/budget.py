"""The budget on links that do not open: at most ``MISSES`` a minute and address.

Rule 1: only misses are counted, and only misses are refused. A code that opens does so whatever the budget says.
Rule 2: Redis counts for all replicas. Where it is away this process counts by itself, so the budget is never open.
Rule 3: an address stands in Redis as a keyed hash.

There is no budget over all addresses: a lock-out of everybody would itself be the attack, and 65 bits need none.
"""

import asyncio
from collections import OrderedDict

from redis.asyncio.client import Pipeline

from libs.common.bridge.portal_keys import PurposeKeys
from libs.common.pages.cookies import as_text
from libs.common.redis import Redis, Unavailable

MISSES = 10
SECONDS = 60
_MOST_ADDRESSES = 50_000


class MissBudget:
    """Counts the misses of each address, in windows of a minute."""

    def __init__(self, redis: Redis, keys: PurposeKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._here: OrderedDict[str, tuple[float, int]] = OrderedDict()

    async def is_spent_by(self, address: str) -> bool:
        """Count one miss more. True: there were ``MISSES`` before it within the minute."""
        key = f"portal:misses:{as_text(self._keys.hash(address.encode())[:16])}"

        def count_one(pipe: Pipeline) -> None:
            pipe.set(key, 0, nx=True, ex=SECONDS)
            pipe.incr(key)
            pipe.ttl(key)

        replies = await self._redis.pipeline(count_one)
        here = self._count_here(address)
        count = here if isinstance(replies, Unavailable) else int(replies[1])
        if not isinstance(replies, Unavailable) and int(replies[2]) < 0:  # it ended between the two commands
            await self._redis.pipeline(lambda pipe: pipe.expire(key, SECONDS))
        return count > MISSES

    def _count_here(self, address: str) -> int:
        now = asyncio.get_running_loop().time()
        began, count = self._here.pop(address, (now, 0))
        began, count = (now, 1) if now - began >= SECONDS else (began, count + 1)
        self._here[address] = began, count
        if len(self._here) > _MOST_ADDRESSES:
            self._here.popitem(last=False)
        return count
