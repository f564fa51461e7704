"""What is new comes to an open page by itself, and stops with the session."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest_asyncio

from deploy.local.watchdog import Watchdog
from libs.common.kafka.connection import KafkaConnection
from services.portal import queries
from services.portal.languages import language_of
from services.portal.seats import OF_A_SESSION, Seats
from services.portal.streams import NEWEST, Stream, Streams
from tests.support.portal_site import HOST, MASTER, Person, PortalSite
from tests.support.service_process import ServiceProcess
from tests.support.waiting import eventually, eventually_true

WAIT = 15.0
ENGLISH = language_of("en")


@pytest_asyncio.fixture
async def watched(site: PortalSite) -> AsyncIterator[PortalSite]:
    """A portal whose streams are watched."""
    task = asyncio.create_task(site.deps.streams.watch())
    yield site
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def a_stream(
    site: PortalSite, person: Person, last: str | None = None, *, page: str = "", process: Streams | None = None
) -> Stream | None:
    session = await site.value(
        "select session_hash from portal_sessions where conversation_id = $1", person.conversation_id
    )
    async with queries.scope(site.deps.pool, HOST, sessions=[session]) as db:
        thread = await queries.thread_of(db, [session], HOST, site.now())
    assert thread is not None
    return await (process or site.deps.streams).open(thread, ENGLISH, last, page)


async def next_block(events: AsyncIterator[str]) -> str:
    """The next thing that is said, but for its first line and its heartbeat. Empty at the end."""
    async with asyncio.timeout(WAIT):
        while True:
            block = await anext(events, "")
            if not block.startswith(("retry", ":")):
                return block


def data_of(block: str) -> dict[str, str]:
    """The data of an event that tells a message."""
    lines = dict(line.split(": ", 1) for line in block.strip().splitlines())
    assert lines["event"] == "message", block
    data: dict[str, str] = orjson.loads(lines["data"])
    return data


def message_of(block: str) -> tuple[str, str]:
    """The id of the message, and its HTML."""
    data = data_of(block)
    return data["id"], data["html"]


def mark_in(block: str) -> str:
    """The id of the event: what the page sends as Last-Event-ID."""
    return block.splitlines()[0].removeprefix("id: ")


async def test_a_message_and_its_state_come_once_and_are_read(watched: PortalSite) -> None:
    kim, lee = await watched.a_person(), await watched.a_person(phone="+447700900888")
    await watched.signed_in(kim)
    await watched.a_message(kim, "on the page")
    stream = await a_stream(watched, kim)
    assert stream is not None
    stream = await a_stream(watched, kim, mark_in(await next_block(watched.deps.streams.events(stream))))
    assert stream is not None
    events = watched.deps.streams.events(stream)
    await watched.a_message(lee, "for another customer")
    second = await watched.a_message(kim, "new & <b>bold</b>")
    place, html = message_of(await next_block(events))
    assert place == str(second)
    assert "new &amp; &lt;b&gt;bold" in html
    mine = await watched.a_message(kim, "mine", direction="in")
    assert message_of(await next_block(events))[0] == str(mine)
    await watched.run("update messages set status = 'read', read_at = now() where message_id = $1", mine)
    assert message_of(await next_block(events))[0] == str(mine)
    told = await watched.told(3)
    assert [event["message_ids"] for event in told[2:]] == [[str(second)]]


async def test_a_stream_goes_on_behind_what_the_page_has_and_resets_an_unknown_page(watched: PortalSite) -> None:
    kim = await watched.a_person()
    await watched.signed_in(kim)
    ids = [str(await watched.a_message(kim, f"number {n}")) for n in range(2)]
    _, mark = await told_to(watched, kim, None, ids)
    later = [str(await watched.a_message(kim, f"later {n}")) for n in range(2)]
    await told_to(watched, kim, mark, later)
    for unknown in (
        "0195-unknown",
        ids[0],
        f"{mark}0",
        f"{ids[1]}.x.y",
        f"{ids[1]}.99.00",
        f"{ids[1]}.{'9' * 5000}.00",
    ):
        assert await is_reset(watched, kim, unknown), unknown


async def test_what_changed_behind_the_back_of_a_page_loads_it_again(watched: PortalSite) -> None:
    kim = await watched.a_person()
    await watched.signed_in(kim)
    mine = await watched.a_message(kim, "mine", direction="in")
    hidden = await watched.a_message(kim, "decided later")
    ids = [str(mine), str(await watched.a_message(kim, "newest"))]
    await watched.run("update messages set kind = 'bridge' where message_id = $1", hidden)
    _, mark = await told_to(watched, kim, None, ids)
    await watched.run("update messages set kind = 'text' where message_id = $1", hidden)
    assert await is_reset(watched, kim, mark), "a message stands before what the page has"
    await watched.run("update messages set kind = 'bridge' where message_id = $1", hidden)
    await told_to(watched, kim, mark, [str(await watched.a_message(kim, "one more"))])
    await watched.run("update messages set status = 'read', read_at = now() where message_id = $1", mine)
    assert await is_reset(watched, kim, mark), "a state is another one"


async def test_a_burst_that_is_longer_than_a_look_loads_the_page_again(watched: PortalSite) -> None:
    kim = await watched.a_person()
    await watched.signed_in(kim)
    for already in (0, 3):
        ids = [str(await watched.a_message(kim, f"before {n}")) for n in range(already)]
        mark = (await told_to(watched, kim, None, ids))[1] if ids else None
        stream = await a_stream(watched, kim, mark)
        assert stream is not None
        events = watched.deps.streams.events(stream)
        await anext(events)
        await eventually(lambda stream=stream: stream.told is not None)  # type: ignore[misc]
        await watched.run(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, status,"
            " occurred_at, received_at) select $1, gen_random_uuid(), $2, 'out', 'whatsapp', 'text', $3, 'sent', now(),"
            " now() from generate_series(1, $4::int)",
            *(kim.org_id, kim.conversation_id, {"kind": "text", "text": "of the burst"}, NEWEST + 1),
        )
        assert "event: reset" in await next_block(events)
        watched.deps.streams.close(stream)
        await watched.run("delete from messages")


async def test_what_becomes_visible_late_says_its_place_and_what_is_hidden_goes(watched: PortalSite) -> None:
    kim = await watched.a_person()
    await watched.signed_in(kim)
    first, late, last = [await watched.a_message(kim, text) for text in ("first", "late", "last")]
    await watched.run("update messages set status = 'failed' where message_id = any ($1)", [first, late])
    stream = await a_stream(watched, kim)
    assert stream is not None
    events = watched.deps.streams.events(stream)
    assert data_of(await next_block(events)) | {"html": ""} == {"id": str(last), "after": "", "html": ""}
    for shown, before in ((late, ""), (first, "")):
        await watched.run("update messages set status = 'delivered' where message_id = $1", shown)
        assert data_of(await next_block(events)) | {"html": ""} == {"id": str(shown), "after": before, "html": ""}
    await watched.a_message(kim, "newest")
    assert data_of(await next_block(events))["after"] == str(last)
    await watched.run("update messages set status = 'failed' where message_id = $1", late)
    gone = await next_block(events)
    assert gone.strip().splitlines()[1:] == ["event: gone", f'data: {{"id":"{late}"}}']
    watched.deps.streams.close(stream)
    await told_to(watched, kim, mark_in(gone), [str(await watched.a_message(kim, "and on"))])


async def told_to(site: PortalSite, person: Person, mark: str | None, ids: list[str]) -> tuple[Stream, str]:
    """A page with this mark is told these messages and no others; its mark afterwards."""
    stream = await a_stream(site, person, mark)
    assert stream is not None
    events = site.deps.streams.events(stream)
    blocks = [await next_block(events) for _ in ids]
    assert [message_of(block)[0] for block in blocks] == ids
    assert stream.blocks.empty()
    site.deps.streams.close(stream)
    return stream, mark_in(blocks[-1])


async def is_reset(site: PortalSite, person: Person, mark: str) -> bool:
    stream = await a_stream(site, person, mark)
    assert stream is not None
    events = site.deps.streams.events(stream)
    block = await next_block(events)
    site.deps.streams.close(stream)
    return "event: reset" in block


async def test_a_stream_ends_with_its_session(watched: PortalSite) -> None:
    kim = await watched.a_person()
    await watched.signed_in(kim)
    stream = await a_stream(watched, kim)
    assert stream is not None
    events = watched.deps.streams.events(stream)
    await anext(events)
    await watched.run("delete from portal_sessions")
    assert await next_block(events) == ""
    assert await next_block(events) == ""


async def test_a_session_has_three_streams_in_all_processes_and_gets_one_back(site: PortalSite) -> None:
    kim, anna = await site.a_person(), await site.a_person(phone="+447700900888")
    await site.signed_in(kim)
    await site.signed_in(anna)
    other = another_process(site)
    streams = [await a_stream(site, kim), await a_stream(site, kim), await a_stream(site, kim, process=other)]
    assert len(streams) == OF_A_SESSION
    assert all(streams)
    for process in (site.deps.streams, other):
        assert await a_stream(site, kim, process=process) is None
        assert await a_stream(site, anna, process=process) is not None
    assert streams[0] is not None
    site.deps.streams.close(streams[0])
    keeping = asyncio.create_task(site.deps.streams.keep_seats())
    await eventually_true(lambda: a_stream(site, kim, process=other))
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    assert await a_stream(site, kim) is None


async def test_a_page_that_comes_back_takes_the_place_of_its_lost_connection(site: PortalSite) -> None:
    kim = await site.a_person()
    await site.signed_in(kim)
    other = another_process(site)
    keeping = asyncio.create_task(site.deps.streams.keep_seats())
    first = await a_stream(site, kim, page="a")
    assert first is not None
    for _ in range(5):
        assert await a_stream(site, kim, page="a", process=other) is not None
    assert other.count == 1
    assert await a_stream(site, kim, page="ab") is not None
    assert await next_block(site.deps.streams.events(first)) == ""
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_seats_that_redis_lost_are_taken_again(site: PortalSite) -> None:
    kim = await site.a_person()
    await site.signed_in(kim)
    streams = [await a_stream(site, kim) for _ in range(OF_A_SESSION)]
    assert streams[0] is not None
    key = streams[0].seat.key
    await site.forget_misses()
    keeping = asyncio.create_task(site.deps.streams.keep_seats())
    other = another_process(site)

    async def are_taken() -> bool:
        return await site.redis.pipeline(lambda pipe: pipe.zcard(key)) == [OF_A_SESSION]

    await eventually_true(are_taken)
    assert await a_stream(site, kim, process=other) is None
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_browser_that_leaves_before_the_first_word_leaves_no_stream(site: PortalSite) -> None:
    browser = await site.signed_in(await site.a_person())
    cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in browser.client.cookies.jar)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "https",
        "path": "/conversation/events",
        "raw_path": b"/conversation/events",
        "query_string": b"",
        "headers": [(b"host", HOST.encode()), (b"cookie", cookies.encode())],
    }
    said: list[MutableMapping[str, Any]] = []

    async def left() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(message)

    for _ in range(2 * OF_A_SESSION):
        await site.app(scope, left, send)
    assert not [message["status"] for message in said if message.get("status", 200) != 200]
    assert site.deps.streams.count == 0


def another_process(site: PortalSite) -> Streams:
    return Streams(site.deps.pool, site.deps.outbox, site.deps.html, Seats(site.redis))


async def test_the_service_streams_and_leaves_at_once_when_it_is_stopped(
    site: PortalSite, database: str, redis_url: str, kafka_of_portal: KafkaConnection, tmp_path: Path
) -> None:
    with Watchdog() as watchdog:
        service = ServiceProcess("portal", tmp_path / "portal.log", {}, watchdog)
        env = {
            "KAFKA_BOOTSTRAP": kafka_of_portal.bootstrap,
            "TOPIC_PREFIX": kafka_of_portal.topic_prefix,
            "POSTGRES_DSN": database,
            "REDIS_URL": redis_url,
            "PORTAL_LINK_KEYS": MASTER.decode(),
            "PORTAL_URL": service.url,
            "HTTP_HOST": "127.0.0.1",
        }
        service.start({f"TRANSOM_{name}": value for name, value in env.items()})
        await service.ready()
        kim = await site.a_person()
        code = await site.a_link(kim, service.url.removeprefix("http://"))
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            async with http.get(f"{service.url}/{code}") as page:
                token = (await page.text()).split('name="token" value="')[1].split('"')[0]
            async with http.post(f"{service.url}/{code}", data={"token": token}) as opened:
                assert opened.status == 200
                assert opened.url.path == "/conversation"
            async with http.get(f"{service.url}/conversation/events") as stream:
                assert stream.headers["content-type"].startswith("text/event-stream")
                await site.a_message(kim, "over the wire")
                async with asyncio.timeout(WAIT):
                    while b"over the wire" not in await stream.content.readuntil(b"\n\n"):
                        pass
                service.terminate()
                async with asyncio.timeout(WAIT):
                    assert b"event" not in await stream.content.read()
        assert await service.stop() == 0
        assert code not in service.log.read_text()
        assert kim.phone not in service.log.read_text()
