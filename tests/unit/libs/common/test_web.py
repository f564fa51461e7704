import asyncio
from collections.abc import AsyncIterator

import httpx

from libs.common.errors import Transient
from libs.common.web import Readiness, build_app, problem
from tests.support.logs import LogLines


async def client_of(readiness: Readiness) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=build_app(readiness))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


async def fine() -> None:
    return


async def refuses() -> None:
    raise ConnectionRefusedError


def test_a_problem_names_its_status_title_and_members() -> None:
    answer = problem(409, "already answered", detail="once is enough", intent="x")
    assert answer.media_type == "application/problem+json"
    assert (
        answer.body
        == b'{"type":"about:blank","title":"already answered","status":409,"detail":"once is enough","intent":"x"}'
    )


async def test_ready_when_everybody_answers() -> None:
    assert await Readiness({"one": fine, "two": fine}).away() == []
    assert await Readiness({}).away() == []


async def test_whoever_refuses_or_stays_silent_is_named() -> None:
    silent = asyncio.Event()
    readiness = Readiness({"one": refuses, "two": fine, "three": silent.wait}, seconds=0.05)
    assert await readiness.away() == ["one", "three"]
    silent.set()
    assert await readiness.away() == ["one"]


async def test_a_question_that_cannot_be_cancelled_is_not_asked_again_meanwhile() -> None:
    asked = 0
    answer = asyncio.Event()

    async def deaf() -> None:
        nonlocal asked
        asked += 1
        while not answer.is_set():
            try:
                await answer.wait()
            except asyncio.CancelledError:
                continue

    readiness = Readiness({"deaf": deaf}, seconds=0.01)
    assert [await readiness.away() for _ in range(4)] == [["deaf"]] * 4
    assert asked == 1
    answer.set()
    await asyncio.sleep(0.01)
    assert await readiness.away() == []
    assert asked == 2


async def test_a_draining_service_is_not_ready_and_alive() -> None:
    readiness = Readiness({"one": fine})
    readiness.draining = True
    async for client in client_of(readiness):
        assert (await client.get("/readyz")).json() == {"type": "about:blank", "title": "draining", "status": 503}
        assert (await client.get("/livez")).status_code == 200


async def test_who_is_not_ready_says_why_in_words() -> None:
    async def stands_still() -> None:
        raise Transient("webhooks.v1: partition 3 has made no progress for 75 s although records wait")

    async for client in client_of(Readiness({"kafka": stands_still, "postgres": refuses})):
        answer = (await client.get("/readyz")).json()
    assert answer["away"] == ["kafka", "postgres"]
    assert answer["detail"] == (
        "webhooks.v1: partition 3 has made no progress for 75 s although records wait; no answer from postgres"
    )


async def test_the_log_says_what_readiness_says(log_lines: LogLines) -> None:
    """Records wait for PostgreSQL too, and the check of their topic is Kafka's."""
    why = "webhooks.v1: partition 3 has made no progress for 75 s although records wait (DiskFullError)"

    async def stands_still() -> None:
        raise Transient(why)

    await Readiness({"kafka": stands_still, "postgres": refuses}).away()
    told = [(line["dependency"], line.get("detail")) for line in log_lines.of("dependency.away")]
    assert told == [("kafka", why), ("postgres", None)]
