"""Figures per second: what a service gets done from a topic that was filled before it started, and how fast it
acknowledges webhooks.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import uuid4

import asyncpg
import orjson

from libs.common.clock import utc_now
from libs.common.events.topics import (
    DELIVERY_UPDATES,
    DIRECTORY_CHANGES,
    INBOUND_MESSAGES,
    OUTBOUND_DECISIONS,
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    OUTBOUND_SMS,
    OUTBOUND_WHATSAPP,
    PORTAL_MESSAGES,
    WEBHOOKS,
    Topic,
)
from tests.bench import pipe, traffic
from tests.bench.figures import Stretch, interpolated, steady
from tests.bench.stage import BenchError, Ground, Running, Stage, ask

Who = Literal["service", "floor"]
Records = Iterator[tuple[bytes, bytes]]

INGEST_TOPICS = (WEBHOOKS, INBOUND_MESSAGES, DELIVERY_UPDATES, OUTBOUND_REFUSED, DIRECTORY_CHANGES, PORTAL_MESSAGES)
ROUTER_TOPICS = (
    OUTBOUND_INTENTS,
    OUTBOUND_REFUSED,
    OUTBOUND_DECISIONS,
    OUTBOUND_WHATSAPP,
    OUTBOUND_SMS,
    DELIVERY_UPDATES,
)
SENDER_TOPICS = (OUTBOUND_WHATSAPP, OUTBOUND_SMS, OUTBOUND_REFUSED, DELIVERY_UPDATES)

# What a service is loaded with: its memory is listed by it.
ALONE, TOGETHER = "edge alone", "edge and worker in one process"
FULL = "from a full topic"
APART = "each in a conversation of its own"
CONNECTIONS = 64
_PATIENCE_SECONDS = 120.0
_LOOK_SECONDS = 0.25
_REST_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Work:
    """One service's work: input ``make(population, count, active)`` into ``source``, and where output appears."""

    service: str
    floor: str
    topics: tuple[Topic, ...]
    source: Topic
    make: Callable[[int, int, int], Records]
    sink: Topic | None


def webhook_records(population: int, count: int, active: int) -> Records:
    at, run = utc_now(), uuid4().hex[:8]
    for i, n in enumerate(traffic.rounds(population, count, seed=count, active=active)):
        # a second message of a customer is later, so that every message moves its window
        yield traffic.webhook_record(
            n, traffic.wamid(n, f"{run}.{i}"), at + timedelta(seconds=i // min(population, active))
        )


def sms_records(population: int, count: int, active: int) -> Records:
    at, run = utc_now(), uuid4().hex[:8]
    for i, n in enumerate(traffic.rounds(population, count, seed=count, active=active)):
        yield traffic.sms_record(n, f"SM{run}{i:024d}", at + timedelta(seconds=i // min(population, active)))


def intents(population: int, count: int, active: int) -> Records:
    at = utc_now()
    for n in traffic.rounds(population, count, seed=count, active=active):
        yield traffic.intent(n, traffic.new_id(at), at)


def commands(population: int, count: int, active: int) -> Records:
    at = utc_now()
    begin = int(at.timestamp() * 1000) * 1000  # sequences grow from run to run, as the router's do
    for i, n in enumerate(traffic.rounds(population, count, seed=count, active=active)):
        yield traffic.whatsapp_command(n, traffic.new_id(at), begin + i, at)


def texts(population: int, count: int, active: int) -> Records:
    at = utc_now()
    begin = int(at.timestamp() * 1000) * 1000
    for i, n in enumerate(traffic.rounds(population, count, seed=count, active=active)):
        yield traffic.sms_command(n, traffic.new_id(at), begin + i, at)


THROUGH = Work("ingest", "through", INGEST_TOPICS, WEBHOOKS, webhook_records, INBOUND_MESSAGES)
INBOUND_SMS = Work("ingest", "through", INGEST_TOPICS, WEBHOOKS, sms_records, INBOUND_MESSAGES)
ROUTING = Work("router", "routing", ROUTER_TOPICS, OUTBOUND_INTENTS, intents, OUTBOUND_WHATSAPP)
SENDING = Work("whatsapp-sender", "sending", SENDER_TOPICS, OUTBOUND_WHATSAPP, commands, None)
TEXTING = Work("sms-bridge", "", SENDER_TOPICS, OUTBOUND_SMS, texts, None)


@dataclass(frozen=True, slots=True)
class Pace:
    """Records per second, and the processor time of each in microseconds.

    ``own_us``: what the process itself spent. ``all_us``: what everything spent but the providers; None where servers
    are given.
    """

    rate: float
    own_us: float
    all_us: float | None = None


async def rate(
    stage: Stage, work: Work, who: Who, population: int, count: int, *, active: int = traffic.ACTIVE
) -> Pace:
    """How fast a full topic is worked off, once the first tenth is over."""
    async with stage.ground(population, work.topics) as ground:
        topic = await filled(ground, work, who, count, active=active)
        load = FULL if active == traffic.ACTIVE else APART
        runs = ground.service(work.service, load=load) if who == "service" else ground.floor(work.floor)
        async with runs as running, stage.spending() as spent:
            stretch = await topic.worked_off(running)
        own = running.seconds_between(stretch.begin, stretch.end) / stretch.count * 1e6
        if not spent:
            return Pace(stretch.rate, own, None)
        everything = interpolated(spent, stretch.end) - interpolated(spent, stretch.begin)
        return Pace(stretch.rate, own, everything / stretch.count * 1e6)


@dataclass(frozen=True, slots=True)
class Filled:
    """A full topic, of which so many records come out in ``sink``.

    Without a sink the end of the work stands in the database, and ``keys`` has organisation and id of each record.
    """

    ground: Ground
    who: Who
    count: int
    sink: Topic | None
    keys: Sequence[tuple[str, str]] = ()

    async def worked_off(self, running: Running) -> Stretch:
        """Wait until all of it is done; when that was, once the first tenth was over. Raises BenchError."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                return steady(await (self._settled() if self.sink is None else self._published(self.sink)))
        except TimeoutError:
            running.check()
            raise BenchError(f"{running.name} did not get {self.count} done in {_PATIENCE_SECONDS:.0f} s") from None

    async def _published(self, sink: Topic) -> list[float]:
        await pipe.until(self.ground.connection, sink, self.count)
        return await pipe.instants(self.ground.connection, sink)

    async def _settled(self) -> list[float]:
        """Only the last tenth is looked at until it is settled: a look costs processor time."""
        db = await asyncpg.connect(self.ground.dsn)
        try:
            for keys in (self.keys[-(len(self.keys) // 10) :], self.keys):
                columns = [list(column) for column in zip(*keys, strict=True)]
                while len(found := await db.fetch(_SETTLED_AT[self.who], *columns)) < len(keys):  # noqa: ASYNC110 -- the database can only be polled
                    await asyncio.sleep(_LOOK_SECONDS)
            return [row[0].timestamp() for row in found]
        finally:
            await db.close()


async def filled(ground: Ground, work: Work, who: Who, count: int, *, active: int = traffic.ACTIVE) -> Filled:
    """Put so many records into the work's source, and what must stand in the database before them."""
    records = await asyncio.to_thread(lambda: list(work.make(ground.population, count, active)))
    await pipe.fill(ground.connection, work.source, records)
    if work.sink is not None:
        return Filled(ground, who, count, work.sink)
    if who == "service":
        await _thread(ground, records)
    commands = [orjson.loads(value) for _, value in records]
    return Filled(ground, who, count, None, [(one["org_id"], one["message_id"]) for one in commands])


async def at_rest(stage: Stage, service: str, population: int, topics: Sequence[Topic]) -> float:
    """Resident MB of a service that is ready and has nothing to do."""
    async with stage.ground(population, topics) as ground, ground.service(service, load=None) as running:
        await asyncio.sleep(_REST_SECONDS)
        return running.resident_mb()


@dataclass(frozen=True, slots=True)
class Intake:
    """Acknowledged webhooks per second, milliseconds of one, and microseconds of the process's CPU for each."""

    rate: float
    own_us: float
    p50: float
    p99: float


async def intake(stage: Stage, who: Who, population: int, seconds: float, *, alone: bool) -> Intake:
    """``alone``: the partitions are held elsewhere, so that the service is an edge and nothing else; otherwise its
    worker stores meanwhile.
    """
    async with stage.ground(population, INGEST_TOPICS) as ground:
        if who == "floor":
            async with ground.floor("intake") as running:
                return await _drive(ground, running, seconds)
        if alone:
            async with ground.holder(), ground.service("ingest", load=ALONE) as running:
                return await _drive(ground, running, seconds)
        async with ground.service("ingest", load=TOGETHER) as running:
            return await _drive(ground, running, seconds)


async def _drive(ground: Ground, running: Running, seconds: float) -> Intake:
    given: dict[str, Any] = {
        "kind": "webhooks",
        "port": running.port,
        "population": ground.population,
        "connections": CONNECTIONS,
        "requests": 30_000,
        "seconds": seconds,
        "run": uuid4().hex[:8],
    }
    found = await ask("closed", given, [running])
    if found["refused"]:
        raise BenchError(f"{running.name} refused {found['refused']:.0f} webhooks (log: {running.log})")
    spent = running.seconds_between(found["begins_at"], found["begins_at"] + seconds)
    return Intake(found["rate"], spent / max(1, found["answered"]) * 1e6, found["p50_ms"], found["p99_ms"])


_MESSAGES = """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor, ai_generated,
    sequence, status, occurred_at,
                      received_at)
select v ->> 'org_id', (v ->> 'message_id')::uuid, (v ->> 'conversation_id')::uuid, 'out', $2, 'text',
    coalesce(v -> 'content', '{}'), 'ai', true,
       (v ->> 'sequence')::bigint, 'pending', now(), now()
  from unnest($1::jsonb[]) v
"""


async def _thread(ground: Ground, records: list[tuple[bytes, bytes]]) -> None:
    """The router's rows of these commands: they stand in the thread before a sender hears of them."""
    db = await asyncpg.connect(ground.dsn, command_timeout=60)
    try:
        await db.execute(_MESSAGES, [value.decode() for _, value in records], "whatsapp")
    finally:
        await db.close()


# By key, whatever the statistics of a table that is being filled say: a look over the whole table takes a core.
_SETTLED_AT = {
    "service": """
select s.settled_at
  from unnest($1::text[], $2::uuid[]) u (org_id, message_id)
 cross join lateral (
       select s.settled_at from sends s
        where s.org_id = u.org_id and s.message_id = u.message_id and s.attempt = 1 and s.state = 'accepted'
       offset 0) s
""",
    "floor": """
select s.settled_at
  from unnest($1::text[], $2::uuid[]) u (org_id, message_id)
 cross join lateral (
       select s.settled_at from floor_sends s where s.id = u.message_id and s.state = 'accepted' offset 0) s
""",
}
