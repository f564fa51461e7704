"""Messages to the customer stored at a given pace, and how long each took to the open page of its reader.

``python -m tests.bench.load.streams '{"port": …, "dsn": …, "population": …, "rate": …, "seconds": …}'`` prints one JSON
object: ``shown``, a list of milliseconds from the moment that a message was due to be stored until its event stood at
the client. Each reader has one stream open. The messages are deleted again: each round finds the same threads.
"""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import uvloop

from tests.bench.load.paced import Arrivals, now, pace
from tests.bench.traffic import READERS, conversation_id, org_id, reader, reader_headers

_FIRST_LOOK_SECONDS = 2.5  # of a new stream: it tells the newest messages once
_CONNECTIONS = 4
_DATA = b"data: "
_STORE = """
insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor, status,
    occurred_at, received_at)
values ($1, $2, $3, 'out', 'portal', 'text', '{"kind": "text", "text": "Your Golf is ready."}', 'ai', 'sent', now(),
    now())
"""
_FORGET = "delete from messages where message_id = any ($1::uuid[])"


async def drive(given: dict[str, Any]) -> dict[str, list[float]]:
    """Open every stream, then store."""
    arrivals = Arrivals(bytes.decode)
    stored: list[UUID] = []
    async with AsyncExitStack() as opened:
        pool = await opened.enter_async_context(asyncpg.create_pool(given["dsn"], min_size=1, max_size=_CONNECTIONS))
        http = await opened.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None))
        )
        url = f"http://127.0.0.1:{given['port']}/conversation/events"
        readings: list[asyncio.Task[None]] = []
        for r in range(READERS):
            answer = await opened.enter_async_context(http.get(url, headers=reader_headers(r)))
            answer.raise_for_status()
            readings.append(asyncio.create_task(_read(answer, arrivals)))
        await asyncio.sleep(_FIRST_LOOK_SECONDS)

        async def store(r: int, one: str) -> None:
            n, message_id = reader(r, given["population"]), UUID(one)
            stored.append(message_id)
            await pool.execute(_STORE, org_id(n), message_id, UUID(conversation_id(n)))

        try:
            due = await pace(given["rate"], given["seconds"], store, READERS)
            return {"shown": await arrivals.all_of(due)}
        finally:
            for reading in readings:
                reading.cancel()
            await asyncio.wait(readings)
            await pool.execute(_FORGET, stored)


async def _read(answer: aiohttp.ClientResponse, arrivals: Arrivals) -> None:
    async for line in answer.content:
        if line.startswith(_DATA) and (told := json.loads(line.removeprefix(_DATA))):  # a reset tells nothing
            arrivals.at.setdefault(told["id"], now())


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(drive(json.loads(sys.argv[1])))))  # noqa: T201 -- its answer
