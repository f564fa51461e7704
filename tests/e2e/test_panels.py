"""The logs of a run, computed panel by panel, say what the tables say: difference 0."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest_asyncio

from deploy.cli.log_input import to_the_end
from deploy.cli.watch import known_events
from deploy.local.portal_visitor import PortalVisitor
from deploy.panels.definition import PANELS
from deploy.panels.panel import Followed
from deploy.panels.reading import Reading
from libs.common.clock import unix_now
from tests.e2e.conftest import SHORT, Place
from tests.support.garages import FILLED, LATE, Customer, Garage, a_garage, bridge_of
from tests.support.panel_counts import COUNTS, NOT_KEPT
from tests.support.panel_lines import as_loki_says, rows
from tests.support.servers import RunServers
from tests.support.system import CONSUMED, System

LINK = re.compile(r"Portal: (\S+/[0-9A-Za-z]{11})\b")
RATE = "insert into rate_card values ('2026-01-01', 'whatsapp', 'utility', '*', 'GBP', 0.0159)"


@pytest_asyncio.fixture
async def whole(a_place: Place, run_servers: RunServers, tmp_path: Path) -> AsyncIterator[System]:
    """A system with the portal, whose logs hold this test alone."""
    async with System(await a_place("panels"), run_servers.watchdog, tmp_path, **SHORT) as system:
        system.add("portal", "portal")
        await system.start("portal")
        yield system


async def bridged(customer: Customer, text: str) -> str:
    """A reply that became a bridge that is delivered; the SMS."""
    intent_id = await customer.is_sent(text)
    await customer.system.reaches(bridge_of(intent_id), "delivered")
    (sms,) = await customer.texts()
    return sms


async def a_day(system: System, garage: Garage) -> None:
    """Everything that a garage sees: windows, bridges and each way back, templates, failures, silence, refusals."""

    async def in_the_window() -> None:
        kim = await garage.customer_who_wrote()
        await system.reaches(await kim.is_sent(), "read")
        await kim.writes("Thank you.")
        template = {"kind": "template", **FILLED}
        await system.reaches(await kim.is_sent(actor="staff", content=template), "read")
        await system.way(await kim.is_sent(content={"kind": "template", **FILLED, "name": "unheard_of"}))

    async def back_over_the_portal() -> None:
        lee = await garage.customer_who_wrote(LATE)
        link = LINK.search(await bridged(lee, "The brakes are done."))
        assert link is not None
        async with PortalVisitor() as browser:
            await browser.opens(f"http://{link[1]}")
            await browser.page()
            await browser.writes("Can I come at six?")
            await system.published.one("inbound.messages.v1", conversation_id=lee.conversation_id, channel="portal")
            answer = await lee.is_sent("Yes, until seven.")
            await system.reaches(answer, "sent")

            async def shown() -> bool:
                return "Yes, until seven." in await browser.page()

            await system.until(shown, "the answer stands in the portal")
            await system.reaches(answer, "read")

    async def back_by_sms() -> None:
        sam = await garage.customer_who_wrote(LATE)
        await bridged(sam, "Shall we change the tyres?")
        await system.sandbox.customer_texts(sam.phone, garage.sms_number, "Yes please")
        await system.published.one("inbound.messages.v1", conversation_id=sam.conversation_id, channel="sms")
        await system.reaches(await sam.is_sent("Thank you!"), "delivered")

    async def back_on_whatsapp() -> None:
        alex = await garage.customer_who_wrote(LATE)
        await bridged(alex, "Your Polo is ready.")
        await system.way(await alex.is_sent("Are you there?"))
        await alex.writes("Here I am.")
        await system.reaches(await alex.is_sent("Good."), "read")

    async def never_back() -> None:
        max_ = await garage.customer_who_wrote(LATE)
        await bridged(max_, "Your Mini is ready.")

    async def refused() -> None:
        ada = await garage.customer_who_wrote()
        await system.sandbox.fault("meta", "fail_async", code=131053, to=ada.phone)
        await system.reaches(await ada.is_sent("A picture."), "failed")

    async def no_phone() -> None:
        bob = await garage.customer_who_wrote(LATE)
        await system.sandbox.fault("twilio", "fail", code=21211, to=bob.phone)
        await system.reaches(await bob.is_sent("Your Fiat is ready."), "failed")

    await asyncio.gather(
        no_phone(), in_the_window(), back_over_the_portal(), back_by_sms(), back_on_whatsapp(), never_back(), refused()
    )


async def again(system: System) -> None:
    """Every webhook and every intent comes once more."""
    for topic in ("webhooks.v1", "outbound.intents.v1"):
        for record in system.published.all(topic):
            key = None if record.key is None else record.key.decode()
            await system.say(topic, record.value, key=key, partition=record.partition)
    await system.quiet()


async def end_of(system: System, topic: str) -> int:
    """How many records were ever written to a topic."""
    return sum((await system.ends(system.servers.topic_prefix + topic)).values())


def by_first_word(found: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    sums: Counter[str] = Counter()
    for words, value in found.items():
        sums[words[0]] += int(value)
    return {(word,): value for word, value in sums.items()}


async def test_every_panel_says_of_a_run_what_the_tables_say(whole: System) -> None:
    system = whole
    host = f"localhost:{system.services['portal'].port}"
    await system.rows(RATE)
    first, second = await a_garage(system, portal_host=host), await a_garage(system, "BoltGarage")
    kim = await second.customer_who_wrote()
    await asyncio.gather(a_day(system, first), kim.is_sent())
    await system.say("directory.changes.v1", b"not JSON", key="x")
    unsigned = f"{system.env['TRANSOM_PUBLIC_URL']}/webhooks/meta"
    async with aiohttp.ClientSession() as http, http.post(unsigned, data=b"{}") as answer:
        assert answer.status == 403
    stranger = first.customer()
    await system.sandbox.customer_writes("999000111222333", stranger.phone, text="Hello?")
    await system.quiet()
    webhooks = await end_of(system, "webhooks.v1")
    await again(system)
    letters = {(topic,): await end_of(system, f"{topic}.dlq") for topic in CONSUMED}
    for service in system.services.values():
        assert await service.stop() == 0

    reading = Reading(PANELS, known_events(), unix_now)
    for line in to_the_end([str(log) for log in sorted(system.folder.glob("*.log"))], reading.read):
        reading.add(line)
    assert dict(reading.lines).keys() == {"ours"}
    assert reading.last is not None
    now = reading.last
    assert sum(rows(reading, "webhooks", now=now).values()) == webhooks
    assert by_first_word(rows(reading, "dead-letters", now=now)) == {topic: n for topic, n in letters.items() if n}
    assert rows(reading, "refusals", now=now) == {("webhook.rejected", "meta", "bad_signature"): 1}
    differing = {}
    for panel, statement in COUNTS.items():
        asked = [datetime.fromtimestamp(now, UTC)] if "$1" in statement else []
        stored = {tuple(row.values())[:-1]: float(row[-1]) for row in await system.rows(statement, *asked)}
        told = {words: value for words, value in rows(reading, panel, now=now).items() if not NOT_KEPT & set(words)}
        if told != stored or not told:
            differing[panel] = (told, stored)
    assert differing == {}, differing
    raw = [line for log in system.folder.glob("*.log") for line in log.read_bytes().splitlines()]
    for one in PANELS:
        if not isinstance(one.how, Followed):
            assert as_loki_says(one, raw, now) == rows(reading, one.name, now=now), one.name
    for garage in (first, second):
        counted = await system.rows(
            "select channel, count(*) from messages where direction = 'in' and org_id = $1 group by 1", garage.org_id
        )
        stored = {(row["channel"],): float(row["count"]) for row in counted}
        assert rows(reading, "messages", now=now, org_id=garage.org_id) == stored
