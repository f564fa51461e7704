"""A process that ends before a step of its own: between any two uses of PostgreSQL or of Kafka."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from libs.common.db.pool import Connection, Pool
from libs.common.kafka.producer import Producer


class Killed(Exception):  # noqa: N818 -- what it is
    """The process is gone at this point."""


@dataclass
class Life:
    """Counts the steps of a process: a step is a use of PostgreSQL or of Kafka. The process ends before one of them."""

    steps: int = 0
    ends_before: int | None = None

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.ends_before:
            raise Killed


class MortalPool(Pool):
    """A pool that is gone with its process."""

    def __init__(self, pool: Pool, life: Life) -> None:
        super().__init__(pool._pool, acquire_seconds=pool._acquire_seconds, now=pool.now, measure=pool._measure)
        self._life = life

    @asynccontextmanager
    async def acquire(self, *, kept_plans: bool = False) -> AsyncIterator[Connection]:
        self._life.step()
        async with super().acquire(kept_plans=kept_plans) as db:
            yield db


class MortalProducer(Producer):
    """A producer that is gone with its process, of which ``life`` tells."""

    life = Life()

    async def publish(self, records: Sequence[Any]) -> frozenset[Any]:
        self.life.step()
        return await super().publish(records)
