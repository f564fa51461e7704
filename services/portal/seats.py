"""How many streams a session has, over all processes of the portal: at most ``OF_A_SESSION``.

Redis holds a seat for each stream, until a while after the process last said that the stream is open. So a process that
was killed keeps none for long.

Rule 1: a page has one seat. Where it comes back, its seat before is given up: a connection that the network lost may
        look open here for minutes.
Rule 2: what Redis has lost is filled again by the streams that are open.
Rule 3: while Redis is away each process counts for itself (``streams``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from uuid import uuid4

from redis.asyncio.client import Pipeline

from libs.common.redis import Redis, Unavailable

OF_A_SESSION = 3
BEAT_SECONDS = 15.0
_KEPT_SECONDS = 45
_AT_ONCE = 200

# 1: the seat is held. 0: the page sits elsewhere by now, or there is no seat left. The key is the session's. Arguments:
# the seat, its page, whether the page takes it now, how long it is held, how many a session has. The clock is Redis'.
_HOLD = """
local now = tonumber(redis.call('time')[1])
redis.call('zremrangebyscore', KEYS[1], '-inf', now)
for _, one in ipairs(redis.call('zrange', KEYS[1], 0, -1)) do
  if one ~= ARGV[1] and one:sub(1, #ARGV[2]) == ARGV[2] then
    if ARGV[3] == '0' then return 0 end
    redis.call('zrem', KEYS[1], one)
  end
end
if not redis.call('zscore', KEYS[1], ARGV[1]) and redis.call('zcard', KEYS[1]) >= tonumber(ARGV[5]) then return 0 end
redis.call('zadd', KEYS[1], now + tonumber(ARGV[4]), ARGV[1])
redis.call('expire', KEYS[1], ARGV[4])
return 1
"""


@dataclass(frozen=True, slots=True)
class Seat:
    """The seat of one stream: ``session`` names the session's, ``page`` the page that has it."""

    session: str
    page: str
    name: str

    @classmethod
    def of(cls, session: str, page: str) -> "Seat":
        return cls(session, page, f"{page}:{uuid4().hex}")

    @property
    def key(self) -> str:
        return f"portal:streams:{self.session}"


class Seats:
    """The seats of all sessions. One for a process."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def take(self, seat: Seat) -> bool:
        """Whether the stream may be opened."""
        replies = await self._redis.pipeline(lambda pipe: _hold(pipe, seat, now=True))
        return isinstance(replies, Unavailable) or replies[0] == 1

    async def keep(self, seats: Sequence[Seat]) -> list[bool]:
        """Say that these streams are open. False: this one is to end."""
        kept: list[bool] = []
        for first in range(0, len(seats), _AT_ONCE):
            some = seats[first : first + _AT_ONCE]
            replies = await self._redis.pipeline(partial(_hold_all, seats=some))
            kept += [True] * len(some) if isinstance(replies, Unavailable) else [reply == 1 for reply in replies]
        return kept

    async def give_up(self, seats: Sequence[Seat]) -> None:
        """Say that these streams have ended."""
        if seats:
            await self._redis.pipeline(lambda pipe: [pipe.zrem(seat.key, seat.name) for seat in seats])


def _hold_all(pipe: Pipeline, seats: Sequence[Seat]) -> None:
    for seat in seats:
        _hold(pipe, seat, now=False)


def _hold(pipe: Pipeline, seat: Seat, *, now: bool) -> None:
    pipe.eval(_HOLD, 1, seat.key, seat.name, f"{seat.page}:", str(int(now)), str(_KEPT_SECONDS), str(OF_A_SESSION))
