"""Work at a given pace, whatever becomes of it (an open loop), and how long each piece took, counted from the moment it
was due.

``python -m tests.bench.load.paced '{"kind": "webhooks" | "intents", "rate": …, "seconds": …, …}'`` prints one JSON
object of lists of milliseconds: for webhooks ``answered`` (the acknowledgement) and ``published`` (the message on
``inbound.messages.v1``, which is published once its window is committed); for intents ``command`` (it stands on
``outbound.whatsapp.v1``) and ``called`` (the provider has the call; by the sandbox's own clock, this machine's).
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from libs.common.clock import utc_now
from libs.common.events.topics import INBOUND_MESSAGES, OUTBOUND_INTENTS, OUTBOUND_WHATSAPP, Topic
from tests.bench import traffic
from tests.bench.load.wire import Wire

_HOST = "127.0.0.1"
_SETTLE_SECONDS, _PATIENCE_SECONDS = 0.3, 15.0
_LINGER_MS = 2  # of a producer of more than a few intents a second
_WARM_UP = 3  # pieces before the counted ones: connections are made, statements prepared

Send = Callable[[int, str], Coroutine[Any, Any, None]]
"""Send piece number ``n``'s message under this id."""


def now() -> float:
    return utc_now().timestamp()


async def pace(
    rate: float, seconds: float, send: Send, population: int, active: int = traffic.ACTIVE
) -> dict[str, float]:
    """By id, when each piece was due. No piece waits for the answer to another."""
    loop = asyncio.get_running_loop()
    count = max(1, round(rate * seconds))
    due: dict[str, float] = {}
    under_way: set[asyncio.Task[None]] = set()
    offset = now() - loop.time()
    begin = loop.time() + _SETTLE_SECONDS
    for i, n in enumerate(traffic.rounds(population, count + _WARM_UP, seed=count, active=active)):
        at = begin + i / rate
        if (wait := at - loop.time()) > 0:
            await asyncio.sleep(wait)
        one = str(uuid4())
        if i >= _WARM_UP:
            due[one] = at + offset
        under_way.add(task := asyncio.create_task(send(n, one)))
        task.add_done_callback(under_way.discard)
    if under_way:
        await asyncio.wait(under_way, timeout=_PATIENCE_SECONDS)
    return due


class Arrivals:
    """Reads a topic from its present end and notes when each record came, by what ``name`` calls it."""

    def __init__(self, name: Callable[[bytes], str]) -> None:
        self._name = name
        self.at: dict[str, float] = {}

    async def read(self, consumer: AIOKafkaConsumer) -> None:
        """For ever."""
        while True:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                arrived = now()
                for record in records:
                    self.at.setdefault(self._name(record.value), arrived)

    async def all_of(self, due: dict[str, float]) -> list[float]:
        """The delays in milliseconds, once everything has come or patience is over."""
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                while due.keys() - self.at.keys():  # noqa: ASYNC110 -- filled by the reader
                    await asyncio.sleep(0.05)
        except TimeoutError:
            sys.exit(f"{len(due.keys() - self.at.keys())} of {len(due)} never came")
        return [(self.at[one] - at) * 1000 for one, at in due.items()]


@asynccontextmanager
async def arriving(given: dict[str, Any], topic: Topic, name: Callable[[bytes], str]) -> AsyncIterator[Arrivals]:
    """Read ``topic`` from now on."""
    # short waits: a partition whose records were just taken is not part of the fetch that is under way
    consumer = AIOKafkaConsumer(bootstrap_servers=given["bootstrap"], auto_offset_reset="latest", fetch_max_wait_ms=10)
    await consumer.start()
    partitions = [TopicPartition(given["prefix"] + topic.name, number) for number in range(topic.partitions)]
    consumer.assign(partitions)
    await consumer.seek_to_end(*partitions)
    for partition in partitions:
        await consumer.position(partition)
    arrivals = Arrivals(name)
    task = asyncio.create_task(arrivals.read(consumer))
    try:
        yield arrivals
    finally:
        task.cancel()
        await asyncio.wait({task})
        await consumer.stop()


async def webhooks(given: dict[str, Any]) -> dict[str, list[float]]:
    """POST signed webhooks; ``published`` is when the message stands on inbound.messages.v1."""
    idle: list[Wire] = [await Wire.connect(_HOST, given["port"]) for _ in range(given.get("connections", 64))]
    answered: dict[str, float] = {}

    async def send(n: int, one: str) -> None:
        request = traffic.signed_request(f"{_HOST}:{given['port']}", traffic.webhook(n, one, utc_now()))
        wire = idle.pop() if idle else await Wire.connect(_HOST, given["port"])
        if await wire.ask(request) == 200:
            answered[one] = now()
        idle.append(wire)

    async with arriving(given, INBOUND_MESSAGES, _wamid) as arrivals:
        due = await pace(given["rate"], given["seconds"], send, given["population"])
        published = await arrivals.all_of(due)
    return {"answered": [(answered[one] - at) * 1000 for one, at in due.items()], "published": published}


async def intents(given: dict[str, Any]) -> dict[str, list[float]]:
    """Produce intents, for ``active`` conversations where it is given.

    ``command`` is when the router's command arrives here, ``called`` when the provider has had the call.
    """
    producer = AIOKafkaProducer(
        bootstrap_servers=given["bootstrap"], acks="all", linger_ms=_LINGER_MS if given["rate"] > 10 else 0
    )
    await producer.start()

    async def send(n: int, one: str) -> None:
        key, value = traffic.intent(n, one, utc_now())
        await producer.send_and_wait(given["prefix"] + OUTBOUND_INTENTS.name, value=value, key=key)

    async with aiohttp.ClientSession() as http:
        before = await _calls(http, given["sandbox"], -1)
        active = given.get("active", traffic.ACTIVE)
        async with arriving(given, OUTBOUND_WHATSAPP, _message_id) as arrivals:
            due = await pace(given["rate"], given["seconds"], send, given["population"], active)
            command = await arrivals.all_of(due)
        called = await _called(http, given["sandbox"], before["total"], due)
    await producer.stop()
    return {"command": command, "called": called}


async def _called(http: aiohttp.ClientSession, sandbox: str, before: int, due: dict[str, float]) -> list[float]:
    at: dict[str, float] = {}
    last = before
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while due.keys() - at.keys():
                page = (await _calls(http, sandbox, last))["records"]
                for call in page:
                    at.setdefault(str(call["callback"]).partition(":")[0], call["at"])
                    last = call["n"]
                if not page:
                    await asyncio.sleep(0.1)
    except TimeoutError:
        sys.exit(f"{len(due.keys() - at.keys())} of {len(due)} calls never came")
    return [(at[one] - moment) * 1000 for one, moment in due.items()]


async def _calls(http: aiohttp.ClientSession, sandbox: str, after: int) -> dict[str, Any]:
    """Calls above number ``after``; below zero none of them, only their total."""
    limit = 0 if after < 0 else 1000
    async with http.get(f"{sandbox}/_control/calls", params={"after": max(0, after), "limit": limit}) as answer:
        found: dict[str, Any] = await answer.json()
        return found


def _wamid(value: bytes) -> str:
    """Of an inbound message, or of the webhook's record that the floor passes on."""
    found = orjson.loads(value)
    return str(found.get("provider_id") or found["item"]["id"])


def _message_id(value: bytes) -> str:
    """Of a command, or of the intent that the floor passes on."""
    found = orjson.loads(value)
    return str(found.get("message_id") or found["intent_id"])


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run({"webhooks": webhooks, "intents": intents}[asked["kind"]](asked))))  # noqa: T201 -- its answer
