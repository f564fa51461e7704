"""Statuses: how many a worker applies and tells per second, and what those of another system cost.

Messages of ours were sent and have their ids. Their statuses come as the edge splits POSTs of ``PER_POST``: every
``sent``, then every ``delivered``, then every ``read``, so that no batch has two of one message. A status counts once
it is told on ``delivery.updates.v1``.

Another system on the same numbers has statuses of its own, of which nothing is stored or told. ``OTHERS`` of them come
in a row, once from a full topic, and once while statuses of ours go on.
"""

import asyncio
import re
import urllib.request
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple, TypeVar
from uuid import UUID, uuid4

import asyncpg
import orjson

from libs.common.clock import utc_now
from libs.common.events.topics import DELIVERY_UPDATES, WEBHOOKS
from libs.common.ids import callback_data
from services.ingest import meta
from tests.bench import pipe, traffic
from tests.bench.figures import interpolated, percentile
from tests.bench.rates import FULL, INGEST_TOPICS, Filled, Pace, Who
from tests.bench.rounds import Bench
from tests.bench.stage import BenchError, Ground, Running, Stage

PER_POST = 200
OTHERS = 60_000
WORDS = ("sent", "delivered", "read")

_PATIENCE_SECONDS = 120.0
_GLANCE_SECONDS = 0.05
_APART_SECONDS = 0.04  # between two statuses of ours beside those of another system
_QUIET_SECONDS = 2.0
_OF_OTHERS = re.compile(r'transom_statuses_of_others_total\{provider="meta"\} ([0-9.e+]+)')

Records = Sequence[tuple[bytes, bytes]]
T = TypeVar("T")


class Sent(NamedTuple):
    """A message of ours to the customer of conversation ``n``, and Meta's id of it."""

    n: int
    message_id: UUID
    wamid: str


@dataclass(frozen=True, slots=True)
class Others:
    """What another system's statuses cost, and how long ours waited (ms, p50 and p99) without and beside them."""

    pace: Pace
    without: tuple[float, float]
    beside: tuple[float, float]


async def part(bench: Bench) -> None:
    """The floor of a wait beside another system's statuses is the same wait without them."""

    async def once(who: Who, population: int) -> dict[str, float]:
        return await applied(bench.stage, who, population, bench.size.records["statuses"])

    name, waits = f"statuses of another system, {OTHERS:,} in a row", "a status of ours beside them"
    try:
        await bench.rounds("statuses", once)
        for number in range(1, bench.size.rounds + 1):
            bench.say(f"{name}, round {number}: {bench.size.few:,} conversations")
            found = await others(bench.stage, bench.size.few)
            bench.values(name).append(found.pace.rate)
            bench.values(f"{name}, own processor time each").append(found.pace.own_us)
            for p, without, beside in zip(("p50", "p99"), found.without, found.beside, strict=True):
                bench.values(f"{waits}, {p}", "floor").append(without)
                bench.values(f"{waits}, {p}").append(beside)
    finally:
        bench.figure("statuses", "/s", "more")
        bench.figure("statuses, own processor time each", "µs", "less")
        bench.figure("statuses, all processor time each", "µs", "less")
        bench.figure(name, "/s", "more")
        bench.figure(f"{name}, own processor time each", "µs", "less")
        for p in ("p50", "p99"):
            bench.figure(f"{waits}, {p}", "ms", "less")


def sent(population: int, count: int) -> list[Sent]:
    at, run = utc_now(), uuid4().hex[:8]
    turns = traffic.rounds(population, count, seed=count)
    return [Sent(n, traffic.new_id(at), traffic.wamid(n, f"{run}.{i}")) for i, n in enumerate(turns)]


def of_ours(messages: Sequence[Sent]) -> Records:
    """The records of three statuses for each of these."""
    at = utc_now()
    found = [
        (one.n, traffic.status(one.n, one.wamid, word, at + timedelta(seconds=later), _callback(one)))
        for later, word in enumerate(WORDS)
        for one in messages
    ]
    return list(_posted(found))


def of_others(population: int, count: int) -> Records:
    """The records of another system's statuses on our numbers. It sends no callback data."""
    at, run = utc_now(), uuid4().hex[:8]
    turns = traffic.rounds(population, count, seed=count + 1)
    found = [
        (n, traffic.status(n, traffic.wamid(n, f"{run}.{i}"), WORDS[i % len(WORDS)], at, None))
        for i, n in enumerate(turns)
    ]
    return list(_posted(found))


async def applied(stage: Stage, who: Who, population: int, count: int) -> dict[str, float]:
    """How fast a full topic of ``count`` statuses is applied and told, once the first tenth is over.

    What worker and servers spent together is left out where servers are given: those are not this run's.
    """
    async with stage.ground(population, INGEST_TOPICS) as ground:
        topic = await filled(ground, who, count)
        runs = ground.service("ingest", load=FULL) if who == "service" else ground.floor("statuses")
        async with runs as running, stage.spending() as spent:
            stretch = await topic.worked_off(running)
        own = running.seconds_between(stretch.begin, stretch.end)
        found = {"statuses": stretch.rate, "statuses, own processor time each": own / stretch.count * 1e6}
        if spent:
            everything = interpolated(spent, stretch.end) - interpolated(spent, stretch.begin)
            found["statuses, all processor time each"] = everything / stretch.count * 1e6
        return found


async def filled(ground: Ground, who: Who, count: int) -> Filled:
    """Put so many statuses on the topic, of messages that are stored."""
    messages = sent(ground.population, count // len(WORDS))
    records = await asyncio.to_thread(of_ours, messages)
    await pipe.fill(ground.connection, WEBHOOKS, records)
    await _store(ground, who, messages)
    return Filled(ground, who, len(records), DELIVERY_UPDATES)


async def others(stage: Stage, population: int) -> Others:
    """The rate of another system's statuses from a full topic, and then what ours wait beside as many more."""
    async with stage.ground(population, INGEST_TOPICS) as ground:
        await pipe.fill(ground.connection, WEBHOOKS, await asyncio.to_thread(of_others, population, OTHERS))
        again = await asyncio.to_thread(of_others, population, OTHERS)
        messages = sent(population, round(_PATIENCE_SECONDS / _APART_SECONDS))
        await _store(ground, "service", messages)
        due: dict[UUID, float] = {}
        async with ground.service("ingest", load=FULL) as running:
            pace = await _in_time(running, _pace_of_others(running))
            ours = asyncio.create_task(_go_on(ground, messages, due))
            try:
                await asyncio.sleep(_QUIET_SECONDS)
                begin = utc_now().timestamp()
                await pipe.fill(ground.connection, WEBHOOKS, again)
                await _in_time(running, _until_ignored(running, 2 * OTHERS))
                end = utc_now().timestamp()
            finally:
                ours.cancel()
                await asyncio.wait({ours})
            await _in_time(running, pipe.until(ground.connection, DELIVERY_UPDATES, len(due)))
        told = {
            UUID(orjson.loads(value)["message_id"]): at
            for at, value in await pipe.read(ground.connection, DELIVERY_UPDATES)
        }
        waits = [(at, (told[message_id] - at) * 1000) for message_id, at in due.items()]
        return Others(
            pace,
            _percentiles([wait for at, wait in waits if at < begin]),
            _percentiles([wait for at, wait in waits if begin <= at < end]),
        )


def _callback(one: Sent) -> str:
    return callback_data(traffic.org_id(one.n), one.message_id, 1)


def _posted(found: Sequence[tuple[int, dict[str, object]]]) -> Iterator[tuple[bytes, bytes]]:
    """The records that the edge makes of POSTs of ``PER_POST`` of these."""
    for begin in range(0, len(found), PER_POST):
        yield from meta.split(traffic.statuses_webhook(found[begin : begin + PER_POST]), utc_now())


async def _go_on(ground: Ground, messages: Sequence[Sent], due: dict[UUID, float]) -> None:
    """Put a status of one message after the other on the topic, each in a POST of its own, until cancelled.

    ``due``: when each was acknowledged by Kafka. A status whose time is not noted was not sent.
    """
    async with pipe.producing(ground.connection) as publish:
        for one in messages:
            status = traffic.status(one.n, one.wamid, "sent", utc_now(), _callback(one))
            ((key, value),) = _posted([(one.n, status)])
            at = utc_now().timestamp()
            await asyncio.shield(publish(WEBHOOKS, key, value))
            due[one.message_id] = at
            await asyncio.sleep(_APART_SECONDS)


async def _in_time(running: Running, what: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            return await what
    except TimeoutError:
        running.check()
        raise BenchError(f"{running.name} was not done with its statuses in {_PATIENCE_SECONDS:.0f} s") from None


async def _pace_of_others(running: Running) -> Pace:
    """Once the first tenth is over; by the service's own counter, looked at all the time."""
    seen: list[tuple[float, float]] = []
    while not seen or seen[-1][1] < OTHERS:
        seen.append((utc_now().timestamp(), await _ignored(running)))
        await asyncio.sleep(_GLANCE_SECONDS)
    counted = [(at, count) for at, count in seen if count >= OTHERS / 10]
    (begin, first), (end, last) = counted[0], counted[-1]
    if last <= first:
        raise BenchError("another system's statuses were over before they could be counted")
    spent = running.seconds_between(begin, end)
    return Pace((last - first) / (end - begin), spent / (last - first) * 1e6)


async def _until_ignored(running: Running, count: int) -> None:
    while await _ignored(running) < count:  # noqa: ASYNC110 -- the service can only be polled
        await asyncio.sleep(_GLANCE_SECONDS)


async def _ignored(running: Running) -> float:
    """How many statuses the service has counted as another system's."""
    found = _OF_OTHERS.search(await asyncio.to_thread(_metrics, running))
    return float(found[1]) if found else 0.0


def _metrics(running: Running) -> str:
    with urllib.request.urlopen(f"{running.url}/metrics", timeout=5) as answer:
        return str(answer.read().decode())


_MESSAGES = """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor, ai_generated,
    status, occurred_at, received_at)
select u.org_id, u.message_id, u.conversation_id, 'out', 'whatsapp', 'text', u.command -> 'content', 'ai', true,
       'pending', now(), now()
  from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[])
    as u (org_id, message_id, conversation_id, account, provider_id, command)
"""
_SENDS = """
insert into sends (org_id, message_id, attempt, channel, provider, account, conversation_id, sequence, command, state,
    due_at, expires_at, tries, claimed_at, settled_at, published, created_at)
select u.org_id, u.message_id, 1, 'whatsapp', 'meta', u.account, u.conversation_id, (u.command ->> 'sequence')::bigint,
       u.command, 'accepted', now(), now() + interval '1 day', 1, now(), now(), true, now()
  from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[])
    as u (org_id, message_id, conversation_id, account, provider_id, command)
"""
_IDS = """
insert into provider_ids (channel, provider, account, provider_id, org_id, message_id, send_id, attempt, recorded_at)
select 'whatsapp', 'meta', u.account, u.provider_id, u.org_id, u.message_id, u.message_id, 1, now()
  from unnest($1::text[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::jsonb[])
    as u (org_id, message_id, conversation_id, account, provider_id, command)
"""
_FLOOR = "insert into floor_statuses (id, status) select id, 'pending' from unnest($1::text[]) id"


async def _store(ground: Ground, who: Who, messages: Sequence[Sent]) -> None:
    """What stands in the database once these messages were sent: message, send and Meta's id."""
    db = await asyncpg.connect(ground.dsn, command_timeout=60)
    try:
        if who == "floor":
            await db.execute(_FLOOR, [one.wamid for one in messages])
        else:
            columns = [list(column) for column in zip(*map(_row, messages), strict=True)]
            for statement in (_MESSAGES, _SENDS, _IDS):
                await db.execute(statement, *columns)
    finally:
        await db.close()


def _row(one: Sent) -> tuple[object, ...]:
    command = traffic.whatsapp_command(one.n, one.message_id, 1, utc_now())[1].decode()
    conversation = UUID(traffic.conversation_id(one.n))
    return traffic.org_id(one.n), one.message_id, conversation, traffic.number_id(one.n), one.wamid, command


def _percentiles(waits: Sequence[float]) -> tuple[float, float]:
    return percentile(waits, 0.5), percentile(waits, 0.99)
