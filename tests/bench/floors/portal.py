"""The floor of the portal: a page from two statements, and streams that are told what one statement finds.

The same HTTP server, and as many connections to PostgreSQL as the portal has. The streams ask as often as the portal's
do. ``python -m tests.bench.floors.portal PORT``
"""

import asyncio
import json
import os
import sys
from collections import defaultdict
from uuid import UUID

import asyncpg
import uvicorn
from starlette.types import Receive, Scope, Send

from libs.common.service import _config
from services.portal.conversation import ON_A_PAGE
from services.portal.streams import NEWEST, PERIOD
from tests.bench.floors import raw
from tests.bench.traffic import READERS, reader_headers, session_hash

_DRAIN_SECONDS = 1.0
_CONNECTIONS = 8
_SESSION = "select org_id, conversation_id from portal_sessions where session_hash = $1"
_PAGE = """
select direction, content ->> 'text' as said, occurred_at from messages
 where org_id = $1 and conversation_id = $2 order by sequence desc limit $3
"""
_NEWEST = """
select m.conversation_id, m.message_id, m.content ->> 'text' as said
  from unnest($1::uuid[]) c
 cross join lateral (select * from messages where conversation_id = c order by sequence desc limit $2) m
"""


class _Portal:
    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool
        self._sessions = {reader_headers(r)["Cookie"].encode(): session_hash(r) for r in range(READERS)}
        self._streams: dict[UUID, asyncio.Queue[bytes]] = defaultdict(asyncio.Queue)
        self._told: set[UUID] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        cookie = next((value for name, value in scope["headers"] if name == b"cookie"), b"")
        if cookie not in self._sessions:
            await _begin(send, b"text/plain", [(b"content-length", b"0")])
            await send({"type": "http.response.body", "body": b""})
        elif scope["path"] == "/conversation":
            await self._page(self._sessions[cookie], send)
        else:
            await self._events(self._sessions[cookie], send)

    async def _page(self, session: bytes, send: Send) -> None:
        async with self._pool.acquire() as db:
            ((org_id, conversation_id),) = await db.fetch(_SESSION, session)
            rows = await db.fetch(_PAGE, org_id, conversation_id, ON_A_PAGE + 1)
        body = "".join(f"<p>{row['direction']} {row['occurred_at']} {row['said']}" for row in reversed(rows)).encode()
        await _begin(send, b"text/html", [(b"content-length", str(len(body)).encode())])
        await send({"type": "http.response.body", "body": body})

    async def _events(self, session: bytes, send: Send) -> None:
        ((_, conversation_id),) = await self._pool.fetch(_SESSION, session)
        await _begin(send, b"text/event-stream", [])
        blocks = self._streams[conversation_id]
        while True:
            await send({"type": "http.response.body", "body": await blocks.get(), "more_body": True})

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(PERIOD)
            for conversation_id, message_id, said in await self._pool.fetch(_NEWEST, list(self._streams), NEWEST):
                if message_id not in self._told:
                    self._told.add(message_id)
                    data = json.dumps({"id": str(message_id), "html": said})
                    self._streams[conversation_id].put_nowait(f"data: {data}\n\n".encode())


async def _begin(send: Send, kind: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind), *headers]})


async def floor() -> None:
    """Serve until the end."""
    async with asyncpg.create_pool(os.environ["TRANSOM_POSTGRES_DSN"], min_size=1, max_size=_CONNECTIONS) as pool:
        portal = _Portal(pool)
        config = _config(portal, _DRAIN_SECONDS)
        config.host, config.port = "127.0.0.1", int(sys.argv[1])
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(portal.watch())
            tasks.create_task(uvicorn.Server(config).serve())


if __name__ == "__main__":
    raw.run(floor)
