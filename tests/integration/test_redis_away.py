import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import Redis as Client
from redis.asyncio.client import Pipeline

from deploy.local.servers.ports import LOOPBACK
from deploy.local.servers.valkey import ValkeyServer
from libs.common.errors import ConfigurationError
from libs.common.redis import UNAVAILABLE, Redis, open_redis
from tests.support.logs import LogLines

NEVER = 20.0  # whoever still waits then hangs
PATIENT = pytest.mark.usefixtures("patient_redis_url")
"""For tests of what is answered, not of how long a call may take: a machine that is busy for a moment is no trouble."""
SOON = 0.05
_SET = "CONFIG SET "


def ask(pipe: Pipeline) -> None:
    pipe.set("bridge:1", "mine", nx=True, get=True, ex=60)
    pipe.get("bridge:1")


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(NEVER):
        while not await condition():  # noqa: ASYNC110 -- what is waited for happens in another process
            await asyncio.sleep(SOON)


async def answers(redis: Redis) -> bool:
    return await redis.pipeline(ask) is not UNAVAILABLE


@PATIENT
async def test_replies_come_in_order_and_the_gate_knows_its_own(redis_url: str) -> None:
    async with open_redis(redis_url) as redis:
        assert await redis.pipeline(ask) == [None, "mine"]
        assert await redis.pipeline(ask) == ["mine", "mine"]


@PATIENT
async def test_a_refused_command_is_no_answer_and_is_told(redis_url: str, log_lines: LogLines) -> None:
    async with open_redis(redis_url) as redis:
        await redis.pipeline(lambda pipe: pipe.rpush("bridge:1", "somebody else's list"))
        assert await redis.pipeline(ask) is UNAVAILABLE
        assert await redis.pipeline(ask) is UNAVAILABLE
        assert redis._probe is None
        assert [line["event"] for line in log_lines.all()] == ["dependency.away"]  # the second is told within a minute
        assert await redis.pipeline(lambda pipe: pipe.delete("bridge:1")) == [1]


@PATIENT
async def test_an_error_of_the_caller_is_no_absence(redis_url: str) -> None:
    def wrong(_pipe: Pipeline) -> None:
        raise ValueError("ours")

    async with open_redis(redis_url) as redis:
        for _ in range(2):  # as many as open the breaker
            with pytest.raises(ValueError, match="ours"):
                await redis.pipeline(wrong)
        assert await redis.pipeline(ask) == [None, "mine"]


@PATIENT
async def test_a_server_that_may_not_do_what_is_needed_is_told_at_the_start(own_valkey: ValkeyServer) -> None:
    client = Client.from_url(own_valkey.address)
    await client.acl_setuser("narrow", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-eval"])
    await client.aclose()
    with pytest.raises(ConfigurationError, match=r"EVAL.*NoPermissionError.*allow both on bridge:"):
        async with open_redis(f"redis://narrow:any@{LOOPBACK}:{own_valkey.port}/0"):
            pass


async def test_a_server_that_is_away_at_the_start_is_used_when_it_is_there(
    own_valkey: ValkeyServer, log_lines: LogLines
) -> None:
    await asyncio.to_thread(own_valkey.kill)
    async with open_redis(own_valkey.address) as redis:
        assert await redis.pipeline(ask) is UNAVAILABLE
        await asyncio.to_thread(own_valkey.start)
        await until(lambda: answers(redis))
    told = [line["event"] for line in log_lines.all()]
    assert told[:3] == ["dependency.away", "breaker.opened", "breaker.closed"]
    assert "TRANSOM_REDIS_URL" in str(log_lines.all()[0]["detail"])


async def test_a_start_goes_on_without_a_replica_that_has_lost_its_primary(
    own_valkey: ValkeyServer, log_lines: LogLines
) -> None:
    client = Client.from_url(own_valkey.address)
    await client.config_set("replica-serve-stale-data", "no")
    await client.replicaof(LOOPBACK, 1)
    async with open_redis(own_valkey.address) as redis:
        assert await redis.pipeline(ask) is UNAVAILABLE
        await client.replicaof("NO", "ONE")
        await until(lambda: answers(redis))
    await client.aclose()
    assert [line["detail"] for line in log_lines.of("breaker.opened")] == ["it answers MASTERDOWN"]


async def test_a_server_that_is_silent_at_the_start_keeps_nobody_waiting(own_valkey: ValkeyServer) -> None:
    own_valkey.pause()
    try:
        async with asyncio.timeout(NEVER), open_redis(own_valkey.address) as redis:
            assert await redis.pipeline(ask) is UNAVAILABLE
            own_valkey.resume()
            await until(lambda: answers(redis))
    finally:
        own_valkey.resume()


async def test_a_server_that_is_killed_is_away_and_used_again_when_it_is_back(
    own_valkey: ValkeyServer, log_lines: LogLines
) -> None:
    async with open_redis(own_valkey.address) as redis:
        await until(lambda: answers(redis))
        await asyncio.to_thread(own_valkey.kill)
        assert [await redis.pipeline(ask) for _ in range(5)] == [UNAVAILABLE] * 5
        assert redis._probe is not None
        await asyncio.to_thread(own_valkey.start)
        await until(lambda: answers(redis))
        assert redis._probe is None
    assert [line["event"] for line in log_lines.all() if "breaker" in line["event"]] == [
        "breaker.opened",
        "breaker.closed",
    ]


async def test_a_silent_server_costs_two_calls_and_then_nothing(own_valkey: ValkeyServer) -> None:
    async with open_redis(own_valkey.address) as redis:
        await until(lambda: answers(redis))
        own_valkey.pause()
        try:
            async with asyncio.timeout(NEVER):
                assert [await redis.pipeline(ask) for _ in range(2)] == [UNAVAILABLE, UNAVAILABLE]
                # one silent call costs a quarter of a second: thousands would not end in time, were they sent
                assert [await redis.pipeline(ask) for _ in range(5000)] == [UNAVAILABLE] * 5000
        finally:
            own_valkey.resume()
        await until(lambda: answers(redis))


async def replies(redis: Redis, build: Callable[[Pipeline], object]) -> list[object]:
    """Of the first call that has some: on a busy machine a call may meet its limit."""
    async with asyncio.timeout(NEVER):
        while (found := await redis.pipeline(build)) is UNAVAILABLE:  # noqa: ASYNC110 -- what is waited for happens in another process
            await asyncio.sleep(SOON)
    return found


async def test_a_late_reply_is_never_taken_for_that_of_another_call(own_valkey: ValkeyServer) -> None:
    async with open_redis(own_valkey.address) as redis:
        assert await replies(redis, lambda pipe: pipe.set("early", "early")) == [True]
        own_valkey.pause()
        try:
            assert await redis.pipeline(lambda pipe: pipe.get("early")) is UNAVAILABLE
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(SOON):  # shorter than the call's own limit
                    await redis.pipeline(lambda pipe: pipe.get("early"))
        finally:
            own_valkey.resume()
        assert await replies(redis, lambda pipe: pipe.echo("one")) == ["one"]
        assert await replies(redis, lambda pipe: pipe.echo("two")) == ["two"]


async def test_one_dropped_connection_does_not_open_the_breaker(own_valkey: ValkeyServer) -> None:
    async with open_redis(own_valkey.address) as redis:
        await until(lambda: answers(redis))
        await asyncio.to_thread(own_valkey.restart)
        await redis.pipeline(ask)  # with or without a reply: the pool may have noticed
        assert redis._probe is None
        await until(lambda: answers(redis))


@PATIENT
@pytest.mark.parametrize(
    ("refuse", "take", "code"),
    [
        ([_SET + "maxmemory 1"], [_SET + "maxmemory 0"], "OOM"),
        (["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"], "READONLY"),
        ([_SET + "min-replicas-to-write 1"], [_SET + "min-replicas-to-write 0"], "NOREPLICAS"),
    ],
    ids=["full", "a replica", "a primary without its replica"],
)
async def test_a_server_that_takes_no_writes_is_away_until_it_takes_them(
    own_valkey: ValkeyServer, log_lines: LogLines, refuse: Sequence[str], take: Sequence[str], code: str
) -> None:
    client = Client.from_url(own_valkey.address)

    async def order(commands: Sequence[str]) -> None:
        for command in commands:
            await client.execute_command(*command.split())  # type: ignore[no-untyped-call] # redis-py has no types here

    async with open_redis(own_valkey.address) as redis:
        await order(refuse)
        assert [await redis.pipeline(ask) for _ in range(3)] == [UNAVAILABLE] * 3
        probes = "total_error_replies"
        before = (await client.info("stats"))[probes]

        async def refused_twice() -> bool:
            return bool((await client.info("stats"))[probes] >= before + 2)

        await until(refused_twice)
        assert await redis.pipeline(ask) is UNAVAILABLE
        assert [(line["event"], line["detail"]) for line in log_lines.all()] == [
            ("breaker.opened", f"it answers {code}")
        ]
        await order(take)
        await until(lambda: answers(redis))
    assert [line["event"] for line in log_lines.all()] == ["breaker.opened", "breaker.closed"]
    await client.aclose()


@PATIENT
async def test_a_server_that_cannot_save_is_away(own_valkey: ValkeyServer, log_lines: LogLines) -> None:
    (own_valkey.folder / "data/dump.rdb/in its way").mkdir(parents=True)
    client = Client.from_url(own_valkey.address)
    async with open_redis(own_valkey.address) as redis:
        await client.config_set("save", "3600 1")
        await client.bgsave()

        async def failed() -> bool:
            return bool((await client.info("persistence"))["rdb_last_bgsave_status"] == "err")

        await until(failed)
        assert [await redis.pipeline(ask) for _ in range(3)] == [UNAVAILABLE] * 3
        await client.config_set("save", "")
        await until(lambda: answers(redis))
    await client.aclose()
    assert [(line["event"], line.get("detail")) for line in log_lines.all()] == [
        ("breaker.opened", "it answers MISCONF"),
        ("breaker.closed", None),
    ]


class Falsifier:
    """Stands in front of a server of this machine. ``instead`` is answered for each of the server's own answers."""

    def __init__(self) -> None:
        self.instead: bytes | None = None
        self.falsified = 0

    @asynccontextmanager
    async def of(self, behind: int) -> AsyncIterator[int]:
        """The port on which it listens inside the block."""
        ways = set[asyncio.Task[None]]()

        async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inner_reader, inner_writer = await asyncio.open_connection(LOOPBACK, behind)
            ways.add(asyncio.create_task(self._copy(reader, inner_writer, falsifies=False)))
            ways.add(asyncio.create_task(self._copy(inner_reader, writer, falsifies=True)))

        server = await asyncio.start_server(passed_on, LOOPBACK, 0)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, falsifies: bool) -> None:
        try:
            while data := await reader.read(1024):
                if falsifies and self.instead is not None:
                    self.falsified += 1
                    data = self.instead
                writer.write(data)
        finally:
            writer.transport.abort()


@PATIENT
@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 503 Service Unavailable\r\n\r\n", b":none\r\n", b"$none\r\n"],
    ids=["a proxy's page", "a count that is none", "a length that is none"],
)
async def test_a_server_that_answers_something_else_is_away_until_it_answers_as_redis(
    own_valkey: ValkeyServer, log_lines: LogLines, answer: bytes
) -> None:
    falsifier = Falsifier()
    async with (
        falsifier.of(own_valkey.port) as port,
        open_redis(own_valkey.address.replace(f":{own_valkey.port}/", f":{port}/")) as redis,
    ):
        falsifier.instead = answer
        assert [await redis.pipeline(ask) for _ in range(3)] == [UNAVAILABLE] * 3
        before = falsifier.falsified

        async def asked_again() -> bool:
            return falsifier.falsified >= before + 2

        await until(asked_again)
        assert await redis.pipeline(ask) is UNAVAILABLE
        falsifier.instead = None
        await until(lambda: answers(redis))
    assert [(line["event"], line.get("detail")) for line in log_lines.all()] == [
        ("breaker.opened", "what it answers is not Redis' protocol"),
        ("breaker.closed", None),
    ]


async def test_closing_while_the_server_is_silent_does_not_hang(own_valkey: ValkeyServer) -> None:
    try:
        async with asyncio.timeout(NEVER), open_redis(own_valkey.address) as redis:
            own_valkey.pause()
            assert [await redis.pipeline(ask) for _ in range(2)] == [UNAVAILABLE, UNAVAILABLE]
    finally:
        own_valkey.resume()


@pytest.mark.parametrize("url", ["unix:///no/such/socket", "hush://x"])
async def test_a_server_that_cannot_be_reached_at_start_is_one_clear_line(url: str) -> None:
    with pytest.raises(ConfigurationError, match="set TRANSOM_REDIS_URL") as caught:
        async with open_redis(url):
            pass
    assert "hush" not in str(caught.value)
    assert "\n" not in str(caught.value)
