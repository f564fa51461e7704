"""A server that is away: the page says so, nothing that was typed is lost, and it goes on by itself."""

import asyncio

import pytest

from deploy.local.servers.postgres import PostgresServer
from deploy.local.servers.valkey import ValkeyServer
from libs.common.db.migrate import migrate
from libs.common.kafka.connection import KafkaConnection
from services.portal.static_files import StaticFiles
from tests.support.portal_site import PortalSite, a_portal_site, form_of, token_of
from tests.support.waiting import eventually_true


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


@pytest.mark.timeout(240)
async def test_without_postgresql_the_page_says_so_and_recovers_and_without_redis_the_budget_holds(
    own_postgres: PostgresServer, own_valkey: ValkeyServer, kafka_of_portal: KafkaConnection
) -> None:
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
        fields = {"token": token_of(form), "client_id": "form-1", "text": "Is it <ready>?"}
        unsent = await browser.post("/conversation/messages", fields)
        assert (unsent.status_code, token_of(unsent), form_of(unsent)) == (503, token_of(form), "form-1")
        assert "\nIs it &lt;ready&gt;?</textarea>" in unsent.text
        assert (await site.browser().get(StaticFiles().url("portal.css"))).status_code == 200
        await asyncio.to_thread(own_postgres.start)

        async def is_back() -> bool:
            return (await browser.get("/conversation")).status_code == 200

        await eventually_true(is_back, "the conversation is shown again")
