"""The floor of *sending*: commands in, stored and claimed in two statements per batch, POSTed side by side, recorded in
one statement.

As many calls are under way as a sender allows itself. The next batch is begun while the calls of the one before run, so
that the provider never waits. Calls of one conversation follow each other, as the order of its messages asks.
"""

import asyncio
import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import aiohttp
import asyncpg
import orjson
from aiokafka import ConsumerRecord

from libs.common.events.topics import OUTBOUND_WHATSAPP
from libs.common.settings import GraphSettings
from tests.bench.floors import raw

CALLS = int(GraphSettings.model_fields["whatsapp_in_flight"].default)
_UNDER_WAY = 2 + CALLS // raw.BATCH
_STRANGER, _NUMBER = (
    "+447700900999",
    "106400000000001",
)  # where the record names no recipient: behind the floor of routing it is an intent

_STORE = (
    "insert into floor_sends (id, value, state) select id, value, 'pending'"
    " from unnest($1::uuid[], $2::jsonb[]) u (id, value)"
)
_CLAIM = "update floor_sends set state = 'claimed' where id = any($1::uuid[]) and state = 'pending'"
_RECORD = """
update floor_sends s set state = 'accepted', provider_id = u.provider_id, settled_at = clock_timestamp()
  from unnest($1::uuid[], $2::text[]) u (id, provider_id)
 where s.id = u.id and s.state = 'claimed'
"""


class _Floor:
    def __init__(self, pool: asyncpg.Pool, http: aiohttp.ClientSession) -> None:
        self._pool, self._http = pool, http
        self._calls, self._batches = asyncio.Semaphore(CALLS), asyncio.Semaphore(_UNDER_WAY)
        self._running: set[asyncio.Task[None]] = set()
        self._turns: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """By conversation: a lock wakes those that wait for it in their order."""

    async def handle(self, batch: Sequence["ConsumerRecord[bytes, bytes]"]) -> None:
        """Store; the rest goes on while the next batch is read."""
        found = [orjson.loads(r.value) for r in batch]
        ids = [UUID(one.get("message_id") or one["intent_id"]) for one in found]
        await self._pool.execute(_STORE, ids, [r.value.decode() for r in batch])
        await self._batches.acquire()
        task = asyncio.create_task(self._send(ids, found))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _send(self, ids: Sequence[UUID], found: Sequence[dict[str, Any]]) -> None:
        await self._pool.execute(_CLAIM, ids)
        wamids = await asyncio.gather(*map(self._post, ids, found))
        await self._pool.execute(_RECORD, ids, wamids)
        self._batches.release()

    async def _post(self, message_id: UUID, command: dict[str, Any]) -> str:
        body = {
            "messaging_product": "whatsapp",
            "to": command.get("to") or _STRANGER,
            "type": "text",
            "text": {"body": command["content"]["text"]},
            "biz_opaque_callback_data": f"{message_id}:1",
        }
        url = f"{os.environ['TRANSOM_GRAPH_BASE_URL']}/v26.0/{command.get('phone_number_id', _NUMBER)}/messages"
        turn = self._turns[command["conversation_id"]]
        async with turn, self._calls, self._http.post(url, data=orjson.dumps(body)) as answer:
            return str(orjson.loads(await answer.read())["messages"][0]["id"])


async def floor() -> None:
    """Consume, store, claim, POST, record."""
    headers = {"Authorization": f"Bearer {os.environ['TRANSOM_WHATSAPP_TOKEN']}", "Content-Type": "application/json"}
    async with (
        asyncpg.create_pool(os.environ["TRANSOM_POSTGRES_DSN"], min_size=2, max_size=4) as pool,
        aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=CALLS)) as http,
    ):
        await raw.consume(OUTBOUND_WHATSAPP, _Floor(pool, http).handle)


if __name__ == "__main__":
    raw.run(floor)
