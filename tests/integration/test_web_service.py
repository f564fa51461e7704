"""A service as a process of its own: what it says, when it is ready, how it ends."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from deploy.local.servers.ports import free_port
from deploy.local.servers.postgres import PostgresServer
from tests.support.child_guard import ends_with_us
from tests.support.logs import validated
from tests.support.signals import ignoring

APP = """
import asyncio, sys, time
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from libs.common.db.pool import open_pool
from libs.common.logging import get_logger
from libs.common.redis import open_redis
from libs.common.service import run_service
from libs.common.settings import PostgresSettings, RedisSettings, ServiceSettings, WindowSettings

class Settings(ServiceSettings, PostgresSettings, RedisSettings, WindowSettings): ...

begun = []

async def slow(request):
    begun.append("slow")
    await asyncio.sleep(1)
    return PlainTextResponse("done")

async def under_way(request):
    return PlainTextResponse(" ".join(begun))

async def broken(request):
    raise ValueError("customer +447700900999 said hello")

async def hang_in_a_thread():
    begun.append("hang")
    await asyncio.to_thread(time.sleep, 3600)

async def heed_nothing():
    begun.append("hang")
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def come_round_no_more():
    await asyncio.sleep(0.2)  # the answer leaves
    while True:
        time.sleep(0.01)

async def hang_on(request):
    return PlainTextResponse("hang", background=BackgroundTask(come_round_no_more))

async def directly_broken(scope, receive, send):
    raise ValueError("customer +447700900999 said hello")

async def run(settings, service):
    async def dies():
        await asyncio.sleep(0.2)
        raise ValueError("something private")

    async with (
        open_pool(settings.postgres_dsn.get_secret_value(), application_name="t", command_seconds=1.5) as pool,
        open_redis(settings.redis_url.get_secret_value()),
    ):
        async def postgres_answers():
            async with pool.acquire() as db:
                await db.fetchval("select 1")

        answers = {"slow": slow, "under-way": under_way, "broken": broken, "hang-on": hang_on}
        routes = [Route(f"/{path}", answer) for path, answer in answers.items()]
        if "never-drains" in sys.argv:
            try:
                await service.serve(checks={})
            finally:
                await asyncio.sleep(3600)
        if hangs := [work for work in (hang_in_a_thread, heed_nothing) if work.__name__ in sys.argv]:
            async with service.background(hangs[0]()):
                await service.serve(checks={}, routes=routes)
        if "dies" in sys.argv:
            async with service.background(dies()):
                await service.serve(checks={}, routes=routes)
        await service.serve(checks={"postgres": postgres_answers}, routes=routes,
            direct={"/directly-broken": directly_broken})
        get_logger().info("task.retried", task="closing")

sys.exit(run_service("try-out", Settings, run))
"""


class Running:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.http = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10)

    async def end(self) -> tuple[int, str, str]:
        out, err = await asyncio.to_thread(self.process.communicate, timeout=60)
        return self.process.returncode, out, err


def environment(dsn: str, redis: str, port: int) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TRANSOM_POSTGRES_DSN": dsn,
        "TRANSOM_REDIS_URL": redis,
        "TRANSOM_HTTP_PORT": str(port),
        "TRANSOM_HTTP_HOST": "127.0.0.1",
    }


def start(env: Mapping[str, str], *arguments: str, ignored: Sequence[signal.Signals] = ()) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [*ignoring(ignored), sys.executable, "-W", "error", "-c", APP, *arguments],
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    ends_with_us(process.pid)
    return process


@asynccontextmanager
async def running(
    dsn: str, redis: str, *arguments: str, ignored: Sequence[signal.Signals] = (), **more: str
) -> AsyncIterator[Running]:
    port = free_port()
    process = start(environment(dsn, redis, port) | more, *arguments, ignored=ignored)
    service = Running(process, port)
    try:
        async with asyncio.timeout(60):
            while process.poll() is None:
                try:
                    await service.http.get("/livez")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.05)
        yield service
    finally:
        await service.http.aclose()
        if process.poll() is None:
            process.kill()
        process.communicate()


async def test_it_answers_counts_and_drains(database: str, redis_url: str) -> None:
    async with running(database, redis_url) as service:
        ready = await service.http.get("/readyz")
        assert (ready.status_code, ready.text) == (200, "ready\n")
        assert "process_resident_memory_bytes" in (await service.http.get("/metrics")).text
        service.process.send_signal(signal.SIGTERM)
        code, out, err = await service.end()
    assert (code, err) == (0, "")
    assert [line["event"] for line in validated(out)] == ["service.started", "task.retried", "service.drained"]


async def test_a_drain_that_would_not_end_is_cut_short(database: str, redis_url: str) -> None:
    async with running(database, redis_url, "never-drains", TRANSOM_DRAIN_SECONDS="1") as service:
        service.process.send_signal(signal.SIGTERM)
        code, out, err = await service.end()
    assert (code, err) == (1, "")
    assert [line["event"] for line in validated(out)] == ["service.started", "service.cut_short"]


async def test_whatever_hangs_the_process_is_gone_soon_after_the_budget_and_says_where(
    database: str, redis_url: str
) -> None:
    async def says(hang: str, asked: str = "/under-way") -> tuple[int, str]:
        async with running(database, redis_url, hang, TRANSOM_DRAIN_SECONDS="0.5") as service:
            while "hang" not in (await service.http.get(asked)).text:  # noqa: ASYNC110 -- another process
                await asyncio.sleep(0.01)
            service.process.send_signal(signal.SIGTERM)
            code, _out, err = await service.end()
            return code, err

    thread, task, loop = await asyncio.gather(
        says("hang_in_a_thread"), says("heed_nothing"), says("hangs-when-asked", "/hang-on")
    )
    assert [thread[0], task[0], loop[0]] == [1, 1, 1]
    assert "Timeout" in thread[1]
    assert "come_round_no_more" in loop[1]


async def test_a_stop_is_heard_whatever_signals_the_shell_has_ignored(database: str, redis_url: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        async with running(database, redis_url, ignored=(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)) as service:
            service.process.send_signal(signal.SIGHUP)  # as `nohup` wants it: nothing happens
            assert (await service.http.get("/readyz")).status_code == 200
            service.process.send_signal(number)
            assert (await service.end())[0] == 0


async def test_a_terminal_that_goes_away_drains_the_service(database: str, redis_url: str) -> None:
    async with running(database, redis_url) as service:
        service.process.send_signal(signal.SIGHUP)
        code, out, _err = await service.end()
    assert code == 0
    assert validated(out)[-1]["event"] == "service.drained"


@pytest.mark.parametrize("given", ["{port}", "127.0.0.1:{port}", "[::1]:{port}"])
async def test_metrics_move_to_an_address_of_their_own(database: str, redis_url: str, given: str) -> None:
    admin = free_port()
    async with running(database, redis_url, TRANSOM_ADMIN_PORT=given.format(port=admin)) as service:
        assert (await service.http.get("/metrics")).status_code == 404
        for path in ("/livez", "/readyz"):
            assert (await service.http.get(path)).status_code == 200
        host = "[::1]" if "::" in given else "127.0.0.1"
        async with httpx.AsyncClient(base_url=f"http://{host}:{admin}") as http:
            assert "process_resident_memory_bytes" in (await http.get("/metrics")).text
            assert (await http.get("/readyz")).status_code == 404
        service.process.send_signal(signal.SIGTERM)
        assert (await service.end())[0] == 0


@pytest.mark.parametrize("given", ["metrics", "127.0.0.1:", "70000", "-1"])
async def test_an_admin_port_that_is_none_is_named(database: str, redis_url: str, given: str) -> None:
    process = start(environment(database, redis_url, 0) | {"TRANSOM_ADMIN_PORT": given})
    _, complaint = await asyncio.to_thread(process.communicate, timeout=60)
    assert process.returncode == 2
    assert "TRANSOM_ADMIN_PORT" in complaint


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_request_under_way_is_answered_before_it_ends(
    database: str, redis_url: str, number: signal.Signals
) -> None:
    async with running(database, redis_url) as service:
        request = asyncio.create_task(service.http.get("/slow"))
        while not (await service.http.get("/under-way")).text:  # noqa: ASYNC110 -- another process
            await asyncio.sleep(0.01)
        service.process.send_signal(number)
        assert (await request).text == "done"
        assert (await service.end())[0] == 0


async def test_readiness_names_who_is_away_and_says_when_it_is_back(
    own_postgres: PostgresServer, redis_url: str
) -> None:
    async with running(own_postgres.address, redis_url) as service:
        assert (await service.http.get("/readyz")).status_code == 200
        own_postgres.pause()
        try:
            answers = [await service.http.get("/readyz") for _ in range(2)]
            assert (await service.http.get("/livez")).status_code == 200
        finally:
            own_postgres.resume()
        for answer in answers:
            assert answer.status_code == 503
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["away"] == ["postgres"]
        async with asyncio.timeout(40):
            while (await service.http.get("/readyz")).status_code != 200:  # noqa: ASYNC110 -- another process
                await asyncio.sleep(0.05)
        service.process.send_signal(signal.SIGTERM)
        code, out, _err = await service.end()
    assert code == 0
    events = [line["event"] for line in validated(out)]
    assert [event for event in events if event.startswith("dependency")] == ["dependency.away", "dependency.back"]


@pytest.mark.parametrize("broken", ["/broken", "/directly-broken"])
async def test_every_error_is_a_problem_and_an_exception_keeps_its_words(
    database: str, redis_url: str, broken: str
) -> None:
    async with running(database, redis_url) as service:
        for method, path, status in (("GET", "/nothing", 404), ("POST", "/slow", 405), ("GET", broken, 500)):
            answer = await service.http.request(method, path)
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["status"] == status
        service.process.send_signal(signal.SIGTERM)
        _code, out, err = await service.end()
    assert "hello" not in out + err
    assert "447700900999" not in out + err
    (line,) = [line for line in validated(out) if line["event"] == "library.log"]
    assert line["exception"][0]["type"] == "ValueError"


async def test_a_background_task_that_dies_ends_the_service(database: str, redis_url: str) -> None:
    async with running(database, redis_url, "dies") as service:
        code, out, _err = await service.end()
    assert code == 1
    assert "private" not in out
    assert validated(out)[-1]["event"] == "service.failed"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("TRANSOM_POSTGRES_DSN", "postgresql://u:hush@127.0.0.1:1/x", "TRANSOM_POSTGRES_DSN"),
        ("TRANSOM_REDIS_URL", "unix:///hush/nowhere", "TRANSOM_REDIS_URL"),
        ("TRANSOM_WINDOW_MARGIN_SECONDS", "86400", "TRANSOM_WINDOW_MARGIN_SECONDS"),
        ("TRANSOM_LOG_LEVEL", "hush", "TRANSOM_LOG_LEVEL"),
        ("TRANSOM_HTTP_HOST", "203.0.113.1", "TRANSOM_HTTP_HOST"),
    ],
)
def test_it_refuses_to_start_with_one_line_that_says_which(
    database: str, redis_url: str, variable: str, value: str, says: str
) -> None:
    process = start(environment(database, redis_url, free_port()) | {variable: value})
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert out == ""
    assert err.count("\n") == 1
    assert says in err
    assert "hush" not in err
