"""What a client may cost a service before anything of it is known.

Clients here are bare sockets, for no HTTP library would do such things.
"""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import aiohttp
import orjson
import pytest
from starlette.types import Receive, Scope, Send

from deploy.local.servers.ports import free_port
from libs.common.bounds import Bounds
from libs.common.service import Service
from tests.support.logs import LogLines
from tests.support.waiting import DEADLINE_SECONDS, eventually

LONG = 3600.0
HEAD = b"POST /take HTTP/1.1\r\nhost: x\r\n"


@dataclass
class Taker:
    """An application that reads whole bodies, or answers at once and leaves them."""

    read: int = 0
    asked: int = 0
    told: list[str] = field(default_factory=list)

    async def take(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.told.append("disconnect")
                return
            self.read += len(message["body"])
            more = message["more_body"]
        await self._answer(send)

    async def leave(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await self._answer(send, (b"connection", b"close"))

    async def much(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.asked += 1
        await self._answer(send, body=b"x" * 1_000_000)

    async def _answer(self, send: Send, *headers: tuple[bytes, bytes], body: bytes = b"taken") -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*headers, (b"content-length", b"%d" % len(body))],
            }
        )
        await send({"type": "http.response.body", "body": body})


@dataclass
class Place:
    port: int
    taker: Taker
    clients: list["Client"] = field(default_factory=list)
    overloads: list[str] = field(default_factory=list)

    async def connect(self) -> "Client":
        self.clients.append(Client(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.clients[-1]

    async def close(self) -> None:
        for client in self.clients:
            client.writer.transport.abort()
        await asyncio.gather(*(client.writer.wait_closed() for client in self.clients), return_exceptions=True)

    async def answers(self) -> None:
        """Somebody who behaves is served."""
        url = f"http://127.0.0.1:{self.port}/take"
        async with aiohttp.ClientSession() as http, http.post(url, data=b"hello") as answer:
            assert (answer.status, await answer.text()) == (200, "taken")


@dataclass
class Client:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def closed(self) -> bytes:
        """What was answered until the server closed the connection."""
        answer = bytearray()
        async with asyncio.timeout(DEADLINE_SECONDS):
            try:
                while piece := await self.reader.read(65_536):
                    answer += piece
            except ConnectionError:
                pass
        return bytes(answer)


@asynccontextmanager
async def a_service(**bounds: float) -> AsyncIterator[Place]:
    port, taker = free_port(), Taker()
    place = Place(port, taker)
    service = Service(
        "bounded",
        host="127.0.0.1",
        port=port,
        drain_seconds=1,
        bounds=Bounds(**{"request_seconds": LONG} | bounds),  # type: ignore[arg-type]
    )
    service.on_overload = place.overloads.append
    task = asyncio.create_task(
        service.serve(checks={}, direct={"/take": taker.take, "/leave": taker.leave, "/much": taker.much})
    )
    while not service.serving:  # noqa: ASYNC110 -- the next turn of the loop, it listens then
        await asyncio.sleep(0)
    try:
        yield place
    finally:
        await place.close()
        service.stop()
        await task


@pytest.mark.parametrize(
    "start",
    [
        b"GET /" + b"a" * 100,
        b"GET / HTTP/1.1\r\nhost: x\r\nx-long: ",
        b"GET / HTTP/1.1\r\nhost: x\r\nx-many: 1\r\nx-many: 2\r\n",
    ],
)
async def test_a_head_beyond_its_limit_is_refused_though_it_never_ends(start: bytes, log_lines: LogLines) -> None:
    async with a_service() as place:
        client = await place.connect()
        client.send(start)
        for _ in range(64):
            client.send(b"x: 1\r\n" * 200 if b"many" in start else b"a" * 2000)
        assert (await client.closed()).startswith(b"HTTP/1.1 431 ")
        await place.answers()
    assert [line["reason"] for line in log_lines.of("http.refused")][:1] == ["head"]


async def test_a_head_within_its_limit_is_taken_in_any_pieces() -> None:
    async with a_service() as place:
        client = await place.connect()
        long = (
            HEAD
            + b"x-long: "
            + b"a" * 60_000
            + b"\r\nconnection: close\r\ncontent-length: 200000\r\n\r\n"
            + b"b" * 200_000
        )
        for start in range(0, len(long), 7919):
            client.send(long[start : start + 7919])
            await asyncio.sleep(0)
        assert (await client.closed()).endswith(b"taken")
        assert place.taker.read == 200_000
        client = await place.connect()
        client.send(long)  # head and body in one piece
        assert (await client.closed()).endswith(b"taken")


@pytest.mark.parametrize(
    "stalled",
    [
        b"",
        b"POST /take",
        HEAD + b"x-slow: ",
        HEAD + b"content-length: 1000\r\n\r\nhalf",
        HEAD + b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        HEAD + b"content-length: 5\r\n\r\nwhole" + HEAD,
        HEAD.replace(b"/take", b"/nowhere") + b"content-length: 1000\r\n\r\n",
    ],
)
async def test_a_request_that_does_not_arrive_is_closed_at_its_deadline(stalled: bytes) -> None:
    async with a_service(request_seconds=0.3) as place:
        client = await place.connect()
        client.send(stalled)
        await client.closed()
        await place.answers()


async def test_a_body_that_trickles_has_the_same_deadline() -> None:
    async with a_service(request_seconds=0.5) as place:
        client = await place.connect()
        client.send(HEAD + b"content-length: 1000000\r\n\r\n")
        closed = asyncio.create_task(client.closed())
        while not closed.done():
            client.send(b"x")
            await asyncio.sleep(0.01)
        assert b" 408 " in await closed
        assert place.taker.told == ["disconnect"]


async def test_whoever_takes_no_answer_is_closed_at_the_deadline() -> None:
    async with a_service(request_seconds=0.3) as place:
        client = await place.connect()
        client.send(b"GET /much HTTP/1.1\r\nhost: x\r\n\r\n" * 50)
        await eventually(lambda: place.taker.asked >= 2, "it is answered more than the system's buffers hold")
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not client.writer.transport.is_closing():
                client.send(b"GET /much HTTP/1.1\r\nhost: x\r\n\r\n")
                await asyncio.sleep(0.05)
        assert place.taker.asked < 50


async def test_requests_one_after_the_other_in_one_piece_are_all_answered() -> None:
    async with a_service() as place:
        client = await place.connect()
        client.send((HEAD + b"x-long: " + b"a" * 1000 + b"\r\ncontent-length: 5\r\n\r\nwhole") * 300)
        client.send(HEAD + b"connection: close\r\ncontent-length: 5\r\n\r\nwhole")
        assert (await client.closed()).count(b"taken") == 301


@pytest.mark.parametrize(
    "many",
    [
        HEAD + b"x:\r\n" * 1000 + b"\r\n",
        HEAD + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"x:\r\n" * 1000 + b"\r\n",
    ],
    ids=["headers", "trailers"],
)
async def test_many_small_headers_are_refused_however_few_bytes_they_are(many: bytes, log_lines: LogLines) -> None:
    async with a_service() as place:
        client = await place.connect()
        client.send(many)
        assert (await client.closed()).startswith(b"HTTP/1.1 431 ")
        await place.answers()
    assert "head" in {line["reason"] for line in log_lines.of("http.refused")}


async def test_requests_that_wait_for_their_turn_count_as_what_they_cost(log_lines: LogLines) -> None:
    """The smallest has eighteen bytes, and becomes thousands."""
    async with a_service(request_bytes=1_000_000) as place:
        client = await place.connect()
        client.send(b"GET /take HTTP/1.1\r\n\r\n" * 2_000)
        head, _, body = (await client.closed()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert b"content-type: application/problem+json\r\n" in head
        detail = "the request is too large"
        problem = {"type": "about:blank", "title": HTTPStatus(413).phrase, "status": 413, "detail": detail}
        assert orjson.loads(body) == problem
        assert place.taker.asked < 300
        await place.answers()
    assert "request" in {line["reason"] for line in log_lines.of("http.refused")}


async def test_whoever_sends_ahead_all_the_time_is_served_on() -> None:
    async with a_service(request_bytes=100_000, bytes_in_flight=100_000) as place:
        client = await place.connect()
        for _ in range(40):
            client.send((HEAD + b"content-length: 5\r\n\r\nwhole") * 10)
            async with asyncio.timeout(DEADLINE_SECONDS):
                for _ in range(10):
                    await client.reader.readuntil(b"taken")
        assert place.taker.asked == 400


async def test_kept_alive_connections_are_not_hurried() -> None:
    async with a_service(request_seconds=0.3) as place:
        client = await place.connect()
        for _ in range(2):
            client.send(HEAD + b"content-length: 5\r\n\r\nwhole")
            async with asyncio.timeout(DEADLINE_SECONDS):
                assert (await client.reader.readuntil(b"taken")).startswith(b"HTTP/1.1 200 ")
            await asyncio.sleep(1.0)


async def test_stalled_connections_make_room_for_whoever_comes() -> None:
    async with a_service(connections=100) as place:
        stalled = [await place.connect() for _ in range(300)]
        for client in stalled[::2]:
            client.send(HEAD + b"content-length: 1000\r\n\r\nhalf")
        for _ in range(20):
            await place.answers()


async def test_three_hundred_stalled_connections_keep_nobody_out() -> None:
    async with a_service() as place:
        stalled = [await place.connect() for _ in range(300)]
        for client in stalled[::2]:
            client.send(HEAD + b"content-length: 1000\r\n\r\nhalf")
        for _ in range(20):
            await place.answers()
        assert not any(client.reader.at_eof() for client in stalled)


async def test_bytes_in_flight_are_bounded_and_the_largest_pays(log_lines: LogLines) -> None:
    async with a_service(bytes_in_flight=1_000_000) as place:
        hoarders = [await place.connect() for _ in range(10)]
        for client in hoarders:
            client.send(HEAD + b"content-length: 400001\r\n\r\n" + b"x" * 400_000)
        answers = [asyncio.create_task(client.closed()) for client in hoarders]
        await eventually(lambda: sum(answer.done() for answer in answers) >= 7, "most of them are refused")
        assert all(b" 503 " in answer.result() for answer in answers if answer.done())
        assert place.overloads[:7] == ["bytes_in_flight"] * 7
        await place.answers()
    assert {line["reason"] for line in log_lines.of("http.refused")} >= {"bytes_in_flight"}


async def test_a_request_without_end_is_cut_off() -> None:
    async with a_service(request_bytes=1_000_000) as place:
        for path in (b"/take", b"/nowhere"):
            client = await place.connect()
            client.send(HEAD.replace(b"/take", path) + b"transfer-encoding: chunked\r\n\r\n")
            closed = asyncio.create_task(client.closed())
            while not closed.done():
                client.send(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                await asyncio.sleep(0)
            await closed


async def test_an_answer_before_the_body_leaves_the_body_unread() -> None:
    async with a_service() as place:
        client = await place.connect()
        client.send(HEAD.replace(b"/take", b"/leave") + b"content-length: 3000000\r\n\r\n")
        assert (await client.closed()).endswith(b"taken")


@pytest.mark.parametrize("noise", [b"\x16\x03\x01\x02\x00\x01", b"hello\r\n\r\n", gzip.compress(b"x" * 100, mtime=0)])
async def test_noise_is_a_bad_request_and_one_line_a_second(noise: bytes, log_lines: LogLines) -> None:
    async with a_service() as place:
        for _ in range(20):
            client = await place.connect()
            client.send(noise)
            assert (await client.closed()).startswith(b"HTTP/1.1 400 ")
        assert len(log_lines.of("http.refused")) < 20
        await place.answers()


async def test_an_upgrade_is_answered_as_if_it_had_not_asked() -> None:
    async with a_service() as place:
        client = await place.connect()
        client.send(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        async with asyncio.timeout(DEADLINE_SECONDS):
            assert (await client.reader.readuntil(b"alive")).startswith(b"HTTP/1.1 200 ")
