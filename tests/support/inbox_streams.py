"""The inbox's streams, as a browser reads them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import orjson

WAIT = 15.0


@dataclass(frozen=True)
class Block:
    id: str
    name: str | None
    data: Any


class Reader:
    """Reads a stream as a browser does: ``last`` is what it would send as Last-Event-ID."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.last = ""
        self._lines = answer.aiter_lines()

    async def next(self) -> Block | None:
        """The next block with an id; None at the end."""
        name, data, identified = None, None, False
        async with asyncio.timeout(WAIT):
            async for line in self._lines:
                field, _, value = line.partition(": ")
                if field == "id":
                    self.last, identified = value, True
                elif field == "event":
                    name = value
                elif field == "data":
                    assert identified, "an id stands before its data"
                    data = orjson.loads(value)
                elif not line and identified:
                    return Block(self.last, name, data)
        return None

    async def until(self, message_id: UUID) -> list[Block]:
        """Everything up to what is told of this message."""
        found: list[Block] = []
        while not found or found[-1].data.get("message_id") != str(message_id):
            block = await self.next()
            assert block is not None, "the stream ended"
            if block.name is not None:
                found.append(block)
        return found


@asynccontextmanager
async def reading(
    client: httpx.AsyncClient, last: str | None = None, path: str = "/v1/events"
) -> AsyncIterator[Reader]:
    headers = {} if last is None else {"last-event-id": last}
    async with client.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200, await answer.aread()
        assert answer.headers["content-type"].startswith("text/event-stream")
        reader = Reader(answer)
        opening = await reader.next()
        assert opening is not None
        assert opening.name is None
        yield reader
