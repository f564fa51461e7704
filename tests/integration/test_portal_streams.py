"""What is new comes to an open page by itself, and stops with the session."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest_asyncio

from deploy.local.watchdog import Watchdog
from libs.common.kafka.connection import KafkaConnection
from services.portal import queries
from services.portal.languages import language_of
from services.portal.streams import OF_A_SESSION, Stream
from tests.support.portal_site import HOST, MASTER, Person, PortalSite
from tests.support.service_process import ServiceProcess

WAIT = 15.0
ENGLISH = language_of("en")


@pytest_asyncio.fixture
async def watched(site: PortalSite) -> AsyncIterator[PortalSite]:
    """A portal whose streams are watched."""
    task = asyncio.create_task(site.deps.streams.watch())
    yield site
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def a_stream(site: PortalSite, person: Person, last: str | None = None) -> Stream | None:
    session = await site.value(
        "select session_hash from portal_sessions where conversation_id = $1", person.conversation_id
    )
    async with queries.scope(site.deps.pool, HOST, sessions=[session]) as db:
        thread = await queries.thread_of(db, [session], HOST, site.now())
    assert thread is not None
    return site.deps.streams.open(thread, ENGLISH, last)


async def next_block(events: AsyncIterator[str]) -> str:
    """The next thing that is said, but for its first line and its heartbeat. Empty at the end."""
    async with asyncio.timeout(WAIT):
        while True:
            block = await anext(events, "")
            if not block.startswith(("retry", ":")):
                return block


def message_of(block: str) -> tuple[str, str]:
    """The id of the message, and its HTML."""
    lines = dict(line.split(": ", 1) for line in block.strip().splitlines())
    assert lines["event"] == "message"
    data = orjson.loads(lines["data"])
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
    for unknown in ("0195-unknown", ids[0], f"{mark}0", f"{ids[1]}.x.y", f"{ids[1]}.99.00"):
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


async def told_to(site: PortalSite, person: Person, mark: str | None, ids: list[str]) -> tuple[Stream, str]:
    """A page with this mark is told these messages and no others; its mark afterwards."""
    stream = await a_stream(site, person, mark)
    assert stream is not None
    events = site.deps.streams.events(stream)
    blocks = [await next_block(events) for _ in ids]
    assert [message_of(block)[0] for block in blocks] == ids
    assert stream.blocks.empty()
    await events.aclose()  # type: ignore[attr-defined] # it is a generator
    return stream, mark_in(blocks[-1])


async def is_reset(site: PortalSite, person: Person, mark: str) -> bool:
    stream = await a_stream(site, person, mark)
    assert stream is not None
    events = site.deps.streams.events(stream)
    block = await next_block(events)
    await events.aclose()  # type: ignore[attr-defined] # it is a generator
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


async def test_a_session_has_three_streams_and_gets_one_back(site: PortalSite) -> None:
    kim = await site.a_person()
    await site.signed_in(kim)
    streams = [await a_stream(site, kim) for _ in range(OF_A_SESSION)]
    assert all(streams)
    assert await a_stream(site, kim) is None
    assert streams[0] is not None
    events = site.deps.streams.events(streams[0])
    await anext(events)
    await events.aclose()  # type: ignore[attr-defined] # it is a generator
    assert await a_stream(site, kim) is not None


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
