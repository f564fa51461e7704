"""PostgreSQL goes back to an earlier moment, with traffic before and after it, and an operator follows the runbook.

The database is copied at that moment and put in the place of the present one later: what a recovery to a moment
leaves. Kafka, Redis and the providers stay ahead of it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import pytest_asyncio

from libs.common.clock import utc_now
from libs.common.events.topics import DIRECTORY_CHANGES, PORTAL_MESSAGES, WEBHOOKS
from tests.e2e.conftest import SHORT, Place
from tests.support.databases import drop_database, execute
from tests.support.garages import LATE, Customer, Garage, a_garage
from tests.support.inbox import KEY
from tests.support.replays import live, replayed
from tests.support.runbook_runs import statements
from tests.support.runbooks import DO, PLACEHOLDERS, filled, pages
from tests.support.sandbox import TWILIO_SID
from tests.support.servers import Kind, RunServers
from tests.support.system import DAY, System

_SENDERS = ("whatsapp-sender", "sms-bridge")
_ENDS = """
select message_id::text, status, reason from messages where direction = 'out' and message_id = any ($1::uuid[])
"""


@pytest_asyncio.fixture
async def system(a_place: Place, run_servers: RunServers, tmp_path: Path) -> AsyncIterator[System]:
    async with System(await a_place("restore"), run_servers.watchdog, tmp_path, **SHORT) as system:
        system.add("inbox", "inbox")
        await system.start("inbox", JWT_KEYS=KEY)
        yield system
        assert not system.leaks()
        assert [line for line in system.lines() if line["event"] in ("task.failed", "record.dead_lettered")] == []


@dataclass(frozen=True, slots=True)
class Copied:
    """The database of a system as it was at a moment."""

    system: System
    server: str
    at: datetime

    @classmethod
    async def now(cls, system: System, server: str) -> "Copied":
        name = _name(system)
        await execute(server, f"alter database {name} with allow_connections false")
        await execute(server, f"select pg_terminate_backend(pid, 9000) from pg_stat_activity where datname = '{name}'")
        await execute(server, f"create database {name}_then template {name}")
        await execute(server, f"alter database {name} with allow_connections true")
        return cls(system, server, utc_now())

    async def back(self) -> None:
        """Put it in the place of the present one. Nothing of the system may run."""
        name = _name(self.system)
        await drop_database(self.server, name)
        await execute(self.server, f"alter database {name}_then rename to {name}")


def _name(system: System) -> str:
    return urlsplit(system.servers.postgres_dsn).path.lstrip("/")


async def waits(customer: Customer) -> None:
    """Until an SMS went in place of the first text of the AI, and the second of staff waits."""
    assert await customer.system.fails(await customer.is_sent("The clutch is done.")) == "window_expired_bridge_sent"
    silent = await customer.is_sent("The flywheel is worn.", actor="staff")
    assert await customer.system.fails(silent) == "window_expired_bridge_already_sent"


async def holds(system: System, intent_id: str, condition: str) -> None:
    """Until the row of the send is so."""

    async def so() -> Any:
        return await system.value(f"select bool_and({condition}) from sends where message_id = $1", UUID(intent_id))

    await system.until(so, condition)


async def got(customers: Mapping[str, Customer]) -> dict[str, tuple[int, int]]:
    """How many WhatsApp messages and SMS each has got."""
    return {name: (len(await one.whatsapps()), len(await one.texts())) for name, one in customers.items()}


async def in_portal(customer: Customer, kind: str, **fields: str) -> None:
    event = {"type": kind, "org_id": customer.garage.org_id, "conversation_id": customer.conversation_id} | fields
    await customer.system.say(PORTAL_MESSAGES.name, event | {"at": utc_now().isoformat()}, key=customer.conversation_id)


async def the_page_is_followed(system: System, since: datetime) -> None:
    """Every statement that changes something in its order; ingest alone runs when the replays do."""
    (page,) = (page for page in pages() if page.name == "restore.md")
    values = {**PLACEHOLDERS, "FROM": since.isoformat(), "SMS_ACCOUNT": TWILIO_SID}
    first, *rest = [block for block in page.blocks if block.section == DO and block.language == "sql"]
    for statement in statements(filled(first.text, values)):
        await system.rows(statement)
    await system.start("ingest")
    for topic in (DIRECTORY_CHANGES, WEBHOOKS, PORTAL_MESSAGES):
        await replayed(system, live(topic, began=since))
        assert "nothing changed" in await replayed(system, live(topic, began=since))
    for block in rest:
        for statement in statements(filled(block.text, values)):
            await system.rows(statement)
    await system.start("router", *_SENDERS)
    await system.start("inbox", JWT_KEYS=KEY)


@pytest.mark.timeout(400)
async def test_after_a_restore_nothing_is_sent_twice_and_what_customers_did_is_back(
    system: System, run_servers: RunServers
) -> None:
    garage = await a_garage(system)
    patient = await a_garage(system, "PatientMotors", policy={"release": "send"})
    who = await _customers(garage, patient)
    known = [await who["read"].is_sent("This arrived before.")]
    await system.reaches(known[0], "read")
    await waits(who["parked"])
    await system.quiet()
    await system.sandbox.hold_webhooks()
    await system.sandbox.configure(day_seconds=1)
    known.append(await who["refused"].is_sent("Meta says later that the window was closed."))
    await holds(system, known[-1], "state = 'accepted'")
    await system.sandbox.configure(day_seconds=DAY)
    for provider in ("meta", "twilio"):
        await system.sandbox.fault(provider, "throttle", calls=10**6)
    known += [await who[name].is_sent("This waits at the restore point.") for name in ("waiting", "waiting late")]
    for intent_id in known[-2:]:
        await holds(system, intent_id, "tries > 0 and state = 'pending'")
    await asyncio.gather(*(system.services[name].stop() for name in _SENDERS))
    known += [await who[name].is_sent("No sender has read this.") for name in ("unread", "unread late")]
    for intent_id in known[-2:]:
        await system.decided(intent_id)

    copied = await Copied.now(system, run_servers.address(Kind.POSTGRES))

    await system.sandbox.clear_faults()
    await system.sandbox.release_webhooks()
    await system.start(*_SENDERS)
    since = [await who[name].is_sent("This went since.") for name in ("since", "since late")]
    await who["parked"].writes("Here I am")
    who["new"] = await garage.customer_who_wrote()
    since.append(await who["new"].is_sent("Welcome."))
    await system.sandbox.customer_texts(who["stops"].phone, garage.sms_number, "STOP")
    await in_portal(who["wishes"], "portal.link_wanted.v1")
    system.private.add("From the portal.")
    await in_portal(who["writes"], "portal.message.v1", session="s-1", client_id="f-1", text="From the portal.")
    for intent_id in (*known, *since):
        await holds(system, intent_id, "settled_at is not null")
    await system.until(who["parked"].whatsapps, "what waited for the customer goes")
    await system.until(who["wishes"].texts, "the link goes")
    await system.quiet()
    before, ends = await got(who), await system.rows(_ENDS, known)
    assert before == {
        **dict.fromkeys(("read", "waiting", "unread", "since", "new"), (1, 0)),
        **dict.fromkeys(("waiting late", "unread late", "since late", "wishes"), (0, 1)),
        "refused": (2, 0),
        "parked": (1, 1),
        **dict.fromkeys(("stops", "writes"), (0, 0)),
    }

    await asyncio.gather(*(service.stop() for service in system.services.values()))
    await copied.back()
    await the_page_is_followed(system, copied.at - timedelta(minutes=1))

    async def as_before() -> bool:
        return {tuple(row) for row in await system.rows(_ENDS, known)} == {tuple(row) for row in ends}

    await system.until(as_before, "each message that the database knows has its end again")
    again = await who["since late"].is_sent("Once more.")
    assert await system.fails(again) == "window_expired_bridge_already_sent"
    await system.quiet()
    assert await got(who) == before
    assert await system.value("select sum(resends) from sends") == 0
    assert await system.value("select count(*) from consents where not allowed") == 1
    inbound = await system.rows("select channel, count(*) from messages where direction = 'in' group by channel")
    assert dict(map(tuple, inbound)) == {"whatsapp": len(who) + 1, "sms": 1, "portal": 1}


async def _customers(garage: Garage, patient: Garage) -> dict[str, Customer]:
    """Those who wrote lately, and those whose window is closed."""
    lately = ("read", "refused", "waiting", "unread", "since", "stops", "writes")
    late = ("waiting late", "unread late", "since late", "wishes")
    who = {name: await garage.customer_who_wrote() for name in lately}
    who |= {name: await garage.customer_who_wrote(LATE) for name in late}
    return {**who, "parked": await patient.customer_who_wrote(LATE)}
