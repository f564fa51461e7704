"""Open streams of the inbox, customers' messages at a given pace, and how long each took to every stream it is for.

``python -m tests.bench.load.inbox_streams '{"port": …, "host": …, "dsn": …, "bootstrap": …, "prefix": …, "jwt": {"key":
…, "aud": …, "iss": …}, "population": …, "streams": …, "rate": …, "seconds": …, "contexts": …, "answers": …,
"answers_rate": …}'`` prints one JSON object of lists of milliseconds: ``told`` from the moment that a message was due
to be stored and published until its event stood at the last of the streams of its organisation, ``said`` the same of an
answer that staff were due to post to the inbox, ``context`` of one request after another, between ``asked_at`` and
``answered_at``.
"""

import asyncio
import json
import sys
from collections import defaultdict
from contextlib import AsyncExitStack
from http import HTTPStatus
from time import perf_counter
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import jwt
import orjson
import uvloop
from aiokafka import AIOKafkaProducer

from libs.common.clock import utc_now
from libs.common.events.topics import INBOUND_MESSAGES
from tests.bench.load.paced import now, pace
from tests.bench.traffic import ORGS, READERS, conversation_id, number_id, org_id, reader

_AT_ONCE = 50  # streams that are opened side by side
_PATIENCE_SECONDS = 15.0
_SETTLE_SECONDS = 2.0
_UNCOUNTED, _UNCOUNTED_SECONDS = 100.0, 5.0
"""Messages a second before the counted ones: a partition's first index entry, at 4 KB, may wait for the disk."""
_CUSTOMER = "01930000-0000-7000-9000-{:012x}"
_STORE = """
insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account, provider_id, kind,
    content, status, occurred_at, received_at)
values ($1, $2::uuid, $3, 'in', 'whatsapp', 'meta', $4, $2::uuid::text, 'text',
    '{"kind": "text", "text": "Is it ready?"}', 'received', now(), now())
"""
_FORGET = (
    "delete from messages where message_id = any ($1::uuid[])",
    "delete from decisions where intent_id = any ($1::uuid[])",
    "delete from inbox_sends where intent_id = any ($1::uuid[])",
)


async def drive(given: dict[str, Any]) -> dict[str, Any]:
    """Open every stream, then publish; then ask for contexts."""
    streams_of = [given["streams"] // ORGS + (n < given["streams"] % ORGS) for n in range(ORGS)]
    at: dict[str, list[float]] = defaultdict(list)
    stored: list[tuple[UUID, int]] = []
    posted: dict[str, int] = {}
    url = f"http://127.0.0.1:{given['port']}/v1"
    async with AsyncExitStack() as opened:
        pool = await opened.enter_async_context(asyncpg.create_pool(given["dsn"], min_size=1, max_size=4))
        http = await opened.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))
        )
        kafka = await opened.enter_async_context(AIOKafkaProducer(bootstrap_servers=given["bootstrap"], acks="all"))
        gate = asyncio.Semaphore(_AT_ONCE)
        readings: list[asyncio.Task[None]] = []

        async def open_one(n: int, user: int) -> None:
            async with gate:
                answer = await http.get(f"{url}/events", headers=_headers(given, n, f"user-{user}"))
            answer.raise_for_status()
            opened.callback(answer.close)
            readings.append(asyncio.create_task(_read(answer, at)))

        await asyncio.gather(*(open_one(n, user) for n, count in enumerate(streams_of) for user in range(count)))
        await asyncio.sleep(_SETTLE_SECONDS)

        async def publish(r: int, one: str) -> None:
            n = reader(r % READERS, given["population"])
            stored.append((UUID(one), n))
            await pool.execute(_STORE, org_id(n), UUID(one), UUID(conversation_id(n)), number_id(n))
            await kafka.send_and_wait(
                given["prefix"] + INBOUND_MESSAGES.name, _event(n, one), key=conversation_id(n).encode()
            )

        try:
            await pace(_UNCOUNTED, _UNCOUNTED_SECONDS, publish, READERS)
            due = await pace(given["rate"], given["seconds"], publish, READERS)
            wanted = {str(one): streams_of[n % ORGS] for one, n in stored}
            await _until_told(at, {one: wanted[one] for one in due})
            said = await _answers(http, url, given, posted)
            await _until_told(at, {one: streams_of[posted[one] % ORGS] for one in said})
            asked_at = now()
            context = await _contexts(http, url, given)
            answered_at = now()
        finally:
            for reading in readings:
                reading.cancel()
            await asyncio.wait(readings)
            ids = [*(one for one, _ in stored), *map(UUID, posted)]
            for statement in _FORGET:
                await pool.execute(statement, ids)
    return {
        "told": [(max(at[one]) - moment) * 1000 for one, moment in due.items()],
        "said": [(max(at[one]) - moment) * 1000 for one, moment in said.items()],
        "context": context,
        "asked_at": asked_at,
        "answered_at": answered_at,
    }


async def _until_told(at: dict[str, list[float]], wanted: dict[str, int]) -> None:
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while any(len(at[one]) < count for one, count in wanted.items()):  # noqa: ASYNC110 -- filled by the readers
                await asyncio.sleep(0.05)
    except TimeoutError:
        missing = sum(max(0, count - len(at[one])) for one, count in wanted.items())
        sys.exit(f"{missing} of {sum(wanted.values())} events of {len(wanted)} messages never came")


async def _answers(
    http: aiohttp.ClientSession, url: str, given: dict[str, Any], posted: dict[str, int]
) -> dict[str, float]:
    """Post answers; when each was due, by its message. ``posted`` gets the conversation of each, warm-up included."""
    ids: dict[str, str] = {}
    refused: set[str] = set()

    async def post(r: int, one: str) -> None:
        n = reader(r % READERS, given["population"])
        body = {"content": {"kind": "text", "text": "It is ready."}}
        address = f"{url}/conversations/{conversation_id(n)}/messages"
        async with http.post(address, headers=_headers(given, n, "user-0"), json=body) as answer:
            said = await answer.json()
        if answer.status == HTTPStatus.ACCEPTED:
            ids[one] = said["intent_id"]
            posted[ids[one]] = n
        else:
            refused.add(f"{answer.status} {said.get('detail')}")

    due = await pace(given["answers_rate"], given["answers"] / given["answers_rate"], post, READERS)
    if lost := len(due.keys() - ids.keys()):
        sys.exit(f"{lost} of {len(due)} answers were not taken in time: {sorted(refused)}")
    return {ids[one]: moment for one, moment in due.items()}


async def _contexts(http: aiohttp.ClientSession, url: str, given: dict[str, Any]) -> list[float]:
    found = []
    for r in range(given["contexts"] + READERS):
        n = reader(r % READERS, given["population"])
        began = perf_counter()
        async with http.get(
            f"{url}/conversations/{conversation_id(n)}/context", headers=_headers(given, n, "agent")
        ) as answer:
            answer.raise_for_status()
            await answer.read()
        if r >= READERS:  # the first time each row is read once
            found.append((perf_counter() - began) * 1000)
    return found


def _headers(given: dict[str, Any], n: int, user: str) -> dict[str, str]:
    claims = {
        "org_id": org_id(n),
        "sub": user,
        "capabilities": ["messages.view", "messages.send"],
        "exp": int(utc_now().timestamp()) + 900,
        "aud": given["jwt"].get("aud"),
        "iss": given["jwt"].get("iss"),
    }
    token = jwt.encode({name: said for name, said in claims.items() if said}, given["jwt"]["key"], "HS256")
    return {"Authorization": f"Bearer {token}", "Host": given["host"]}


def _event(n: int, message_id: str) -> bytes:
    at = utc_now().isoformat()
    return orjson.dumps(
        {
            "type": "inbound.message.v1",
            "message_id": message_id,
            "org_id": org_id(n),
            "conversation_id": conversation_id(n),
            "customer_id": _CUSTOMER.format(n),
            "channel": "whatsapp",
            "provider_id": message_id,
            "content": {"kind": "text", "text": "Is it ready?"},
            "reply_to": None,
            "sent_at": at,
            "received_at": at,
            "window": {"opened_at": at, "closes_at": None, "open": True},
        }
    )


async def _read(answer: aiohttp.ClientResponse, at: dict[str, list[float]]) -> None:
    name = b""
    async for line in answer.content:
        if line.startswith(b"event: "):
            name = line
        elif line.startswith(b"data: ") and name == b"event: message\n":
            at[orjson.loads(line[6:])["message_id"]].append(now())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(drive(json.loads(sys.argv[1])))))  # noqa: T201 -- its answer
