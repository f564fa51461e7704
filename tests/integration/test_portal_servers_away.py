"""A server that is away: the page says so, nothing that was typed is lost, and it goes on by itself."""

import asyncio
from datetime import timedelta
from uuid import uuid4

import httpx
import pytest

from deploy.local.servers.postgres import PostgresServer
from deploy.local.servers.valkey import ValkeyServer
from libs.common.db.migrate import migrate
from libs.common.events.portal import PortalRead
from libs.common.kafka.connection import KafkaConnection
from libs.common.pages.static_files import StaticFiles
from services.portal import outbox, queries, sites
from services.portal.html import STATIC
from services.portal.languages import language_of
from tests.support.form_browser import token_of
from tests.support.logs import LogLines
from tests.support.portal_site import HOST, PortalSite, a_portal_site, form_of
from tests.support.waiting import eventually, eventually_true


async def test_without_kafka_the_text_stays_in_the_form_and_its_next_try_is_the_same_message(site: PortalSite) -> None:
    kim = await site.a_person()
    browser = await site.signed_in(kim)
    await site.told(1)
    await site.deps.producer.stop()
    refused = await browser.write("Is it ready?", client_id="form-1")
    assert refused.status_code == 503
    assert "Not sent" in refused.text
    assert "Is it ready?" in refused.text
    assert form_of(refused) == "form-1"
    assert "on its way" not in (await browser.get("/conversation")).text
    assert (await site.browser().open(await site.a_link(kim))).status_code == 303  # links open all the same
    await site.deps.producer.start()
    assert (await browser.write("Is it ready?", client_id=form_of(refused))).status_code == 303
    assert [e["client_id"] for e in await site.told(2) if e["type"] == "portal.message.v1"] == ["form-1"]


@pytest.mark.parametrize("shown_by", ["a page", "a stream"])
async def test_what_was_shown_while_kafka_is_away_is_read_when_it_is_back(site: PortalSite, shown_by: str) -> None:
    kim = await site.a_person()
    browser = await site.signed_in(kim)
    await site.told(1)
    await site.deps.producer.stop()
    if shown_by == "a page":
        shown = await site.a_message(kim, "Your Golf is ready.")
        await browser.get("/conversation")
    else:
        watching = asyncio.create_task(site.deps.streams.watch())
        session = await site.value("select session_hash from portal_sessions")
        async with queries.scope(site.deps.pool, HOST, sessions=[session]) as db:
            thread = await queries.thread_of(db, [session], HOST, site.now())
        assert thread is not None
        stream = await site.deps.streams.open(thread, language_of("en"), None)
        assert stream is not None
        shown = await site.a_message(kim, "Your Golf is ready.")
        async with asyncio.timeout(15):
            assert "Golf" in str(await stream.blocks.get())
        await site.run("delete from portal_sessions")  # a session ends at once all the same
        async with asyncio.timeout(15):
            assert await stream.blocks.get() is None
        watching.cancel()
    await eventually(lambda: site.deps.outbox.is_away)
    await site.deps.producer.start()
    read = (await site.told(2))[1]
    assert (read["type"], read["message_ids"]) == ("portal.read.v1", [str(shown)])


async def test_of_what_was_shown_the_newest_waits_for_kafka_and_the_rest_is_given_up(
    site: PortalSite, monkeypatch: pytest.MonkeyPatch, log_lines: LogLines
) -> None:
    monkeypatch.setattr(outbox, "MOST", 3)
    kim = await site.a_person()
    await site.deps.producer.stop()
    shown = [uuid4() for _ in range(5)]
    place = {"org_id": kim.org_id, "conversation_id": kim.conversation_id}
    for message_id in (*shown, *shown[-3:]):
        await site.deps.outbox.put([PortalRead(**place, message_ids=[message_id], at=site.now())])
    assert [line["reason"] for line in log_lines.of("portal.unpublished")] == ["full"]
    await site.deps.producer.start()
    told = [message_id for event in await site.told(3) for message_id in event["message_ids"]]
    assert told == [str(one) for one in shown[-3:]]


async def test_without_kafka_no_code_gets_the_promise_of_an_sms(site: PortalSite) -> None:
    kim = await site.a_person()
    dead = await site.a_link(kim, life=timedelta(seconds=-1))
    await site.deps.producer.stop()
    answers = []
    await site.signed_in(kim)
    await eventually(lambda: site.deps.outbox.is_away)
    for code in (dead, "0" * 11):
        browser = site.browser()
        page = await browser.get(f"/{code}")
        answer = await browser.post(f"/{code}", {"token": token_of(page), "again": "sms"})
        answers.append((answer.status_code, answer.text.replace(code, "")))
    assert answers[0][0] == 503
    assert len(set(answers)) == 1
    await site.deps.producer.start()
    assert [event["type"] for event in await site.told(1)] == ["portal.signed_in.v1"]


@pytest.mark.timeout(240)
async def test_without_postgresql_the_page_says_so_and_recovers_and_without_redis_the_budget_holds(
    own_postgres: PostgresServer,
    own_valkey: ValkeyServer,
    kafka_of_portal: KafkaConnection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sites, "_KEPT_SECONDS", 0.0)  # the host of each request is asked for again
    await migrate(own_postgres.address)
    async with a_portal_site(own_postgres.address, own_valkey.address, kafka_of_portal) as site:
        browser = await site.signed_in(await site.a_person())
        own_valkey.kill()
        scanner = site.browser(address="192.0.2.9")
        statuses = [(await scanner.get(f"/{n:011}")).status_code for n in range(13)]
        assert statuses == [404] * 10 + [429] * 3
        form = await browser.get("/conversation")
        own_postgres.kill()
        for answer in (
            await browser.get("/conversation"),
            await browser.get("/00000000000"),
            await browser.get("/conversation/events"),
        ):
            assert answer.status_code == 503
            assert "Nothing is lost" in answer.text
            assert answer.headers["cache-control"] == "no-store"
        for path in ("/%2Fevil.example", "/%5Cevil.example", "//evil.example/conversation"):
            for visitor in (browser, site.browser("https://bobs.example")):
                away = await visitor.client.get(httpx.URL(visitor.origin + path))
                assert (away.status_code, "evil.example" in away.text) in ((503, False), (404, False)), path
        forbidden = await browser.post("/%5Cevil.example", {"token": "x"})
        assert (forbidden.status_code, "evil.example" in forbidden.text) == (403, False)
        unseen = await site.browser("https://bobs.example").post("/conversation/messages", {"text": "Is it ready?"})
        assert (unseen.status_code, 'href="/conversation"' in unseen.text) == (503, True)
        fields = {"token": token_of(form), "client_id": "form-1", "text": "Is it <ready>?"}
        unsent = await browser.post("/conversation/messages", fields)
        assert (unsent.status_code, token_of(unsent), form_of(unsent)) == (503, token_of(form), "form-1")
        assert "\nIs it &lt;ready&gt;?</textarea>" in unsent.text
        assert (await site.browser().get(StaticFiles(STATIC).url("portal.css"))).status_code == 200
        await asyncio.to_thread(own_postgres.start)

        async def is_back() -> bool:
            return (await browser.get("/conversation")).status_code == 200

        await eventually_true(is_back, "the conversation is shown again")
