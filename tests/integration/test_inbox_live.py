"""What is new comes to every open stream of the organisation, once, in order, and without a gap after a break."""

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from deploy.local.servers.postgres import PostgresServer
from libs.common.db.migrate import migrate
from libs.common.directory.touched import touch
from libs.common.errors import Transient
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.producer import Producer
from services.inbox.feed import Mark
from services.inbox.streams import OF_A_PERSON
from tests.support.inbox import ADVISOR, TECHNICIAN, RunningInbox, a_running_inbox, a_token
from tests.support.inbox_streams import reading
from tests.support.inbox_thread import InboxThread, a_thread, publishing
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually


@pytest_asyncio.fixture(scope="module")
async def producer(inbox: RunningInbox) -> AsyncIterator[Producer]:
    async with publishing(inbox) as made:
        yield made


async def test_what_happens_is_told_to_everybody_of_the_organisation_and_to_nobody_else(
    inbox: RunningInbox, producer: Producer
) -> None:
    kim, stranger = await a_thread(inbox, producer), await a_thread(inbox, producer)
    others = inbox.api(stranger.org_id)
    async with (
        reading(inbox.api(kim.org_id)) as olga,
        reading(inbox.api(kim.org_id, user_id="marek")) as marek,
        reading(others) as other,
    ):
        wrote = await kim.customer_writes()
        for reader in (olga, marek):
            found = await reader.until(wrote)
            assert found[-1].name == "message"
            conversation = await reader.next()
            assert conversation is not None
            assert conversation.name == "conversation"
            assert conversation.data["conversation_id"] == str(kim.conversation_id)
        answer = await kim.is_answered()
        assert (await olga.until(answer))[-1].name == "message"
        await kim.moves(answer, "failed", "provider_refused")
        (update,) = [
            block for block in (await marek.until(answer)) + (await marek.until(answer)) if block.name == "update"
        ]
        failed = {"message_id": str(answer), "status": "failed", "reason": "provider_refused"}
        assert {name: update.data[name] for name in failed} == failed
        theirs = await stranger.customer_writes()
        assert {
            block.data["conversation_id"] for block in await other.until(theirs) if block.name == "conversation"
        } <= {str(stranger.conversation_id)}


async def test_what_no_event_tells_is_told_too(inbox: RunningInbox, producer: Producer) -> None:
    """A call opened the window, and the directory knows the name: nothing is published about the conversation."""
    kim = await a_thread(inbox, producer)
    now = inbox.pool.now()
    async with reading(inbox.api(kim.org_id)) as olga:
        await kim.run("update conversations set last_customer_at = $2 where org_id = $1", kim.org_id, now)
        await kim.run("update customers set name = 'Kim Larsen' where org_id = $1", kim.org_id)
        async with inbox.pool.acquire() as db:
            await touch(db, [(kim.org_id, kim.customer_id)])
        told = await olga.next()
    assert told is not None
    assert (told.name, told.data["window"]["state"]) == ("conversation", "open")
    assert told.data["customer"]["name"] == "Kim Larsen"
    assert await kim.run("select last_customer_at from conversation_heads where org_id = $1", kim.org_id) == now


async def test_both_who_answer_at_once_see_both_answers(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    async with reading(inbox.api(kim.org_id)) as olga, reading(inbox.api(kim.org_id, user_id="marek")) as marek:
        answers = await asyncio.gather(
            kim.is_answered("Olga's", actor="staff"), kim.is_answered("Marek's", actor="staff")
        )
        for reader in (olga, marek):
            seen: set[str] = set()
            while not {str(one) for one in answers} <= seen:
                block = await reader.next()
                assert block is not None
                seen.add(str(block.data.get("message_id")))


async def things_happen(kim: InboxThread, chance: random.Random, count: int) -> dict[str, str]:
    """Messages and statuses in some order. What is known in the end: the status of each message, by its id."""
    ours: list[UUID] = []
    known: dict[str, str] = {}
    for _ in range(count):
        match chance.randrange(3) if ours else chance.randrange(2):
            case 0:
                known[str(await kim.customer_writes())] = "received"
            case 1:
                ours.append(await kim.is_answered())
                known[str(ours[-1])] = "pending"
            case _:
                moved = chance.choice(ours)
                status = chance.choice(["sent", "delivered", "read", "failed"])
                await kim.moves(moved, status)
                known[str(moved)] = status
        if chance.random() < 0.3:
            await asyncio.sleep(chance.random() / 50)
    return known


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.proof) for seed in range(1, 30))])
async def test_a_client_that_is_cut_off_again_and_again_misses_nothing(
    inbox: RunningInbox, producer: Producer, seed: int
) -> None:
    chance = random.Random(seed)
    kim = await a_thread(inbox, producer)
    client, last, told = inbox.api(kim.org_id), None, dict[str, str]()
    async with reading(client) as reader:
        last = reader.last
    happening = asyncio.create_task(things_happen(kim, chance, 30))
    known: dict[str, str] | None = None
    async with asyncio.timeout(60):
        while known is None or told != known:
            async with reading(client, last) as reader:
                for _ in range(chance.randrange(1, 6)):
                    try:
                        async with asyncio.timeout(0.3):
                            block = await reader.next()
                    except TimeoutError:
                        break
                    assert block is not None
                    assert block.name in ("message", "update", "conversation")
                    last = reader.last
                    if block.name != "conversation":
                        told[block.data["message_id"]] = block.data["status"]
            if happening.done():
                known = happening.result()
                assert told.keys() <= known.keys(), "something was invented"


async def test_an_id_of_another_organisation_or_of_no_feed_asks_for_everything_anew(
    inbox: RunningInbox, producer: Producer
) -> None:
    kim, lee = await a_thread(inbox, producer), await a_thread(inbox, producer)
    await kim.customer_writes(publish=False)
    async with reading(inbox.api(kim.org_id)) as reader:
        ours = Mark.read(reader.last)
    async with reading(inbox.api(lee.org_id)) as reader:
        theirs = reader.last
    assert ours is not None
    for unknown in (theirs, "41", "x" * 2000, str(Mark(ours.feed, ours.change + 1_000))):
        async with reading(inbox.api(kim.org_id), unknown) as reader:
            block = await reader.next()
            assert block is not None
            assert (block.name, block.data) == ("reset", {})
            answer = await kim.customer_writes()
            assert "reset" not in [block.name for block in await reader.until(answer)]


async def test_a_client_that_comes_back_after_its_changes_were_forgotten_is_reset(
    inbox: RunningInbox, producer: Producer
) -> None:
    kim = await a_thread(inbox, producer)
    async with reading(inbox.api(kim.org_id)) as reader:
        last = reader.last
        await reader.until(await kim.customer_writes())
        await reader.until(await kim.customer_writes())
    await kim.run("delete from inbox_changes where org_id = $1 and change = 1", kim.org_id)
    async with reading(inbox.api(kim.org_id), last) as reader:
        block = await reader.next()
        assert block is not None
        assert block.name == "reset"


async def test_a_window_that_closes_by_time_is_told(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    lee = await a_thread(inbox, producer, kim.org_id, phone="+447700900888")
    day, soon, moment = timedelta(days=1), timedelta(hours=2), timedelta(seconds=2)
    async with reading(inbox.api(kim.org_id)) as reader:
        await kim.customer_writes(at=inbox.pool.now() - day + moment)
        await lee.customer_writes(at=inbox.pool.now() - day + soon + moment)
        told: dict[str, list[str]] = {str(one.conversation_id): [] for one in (kim, lee)}
        while [states[-1:] for states in told.values()] != [["expired"], ["closing"]]:
            block = await reader.next()
            assert block is not None
            if block.name == "conversation":
                states, state = told[block.data["conversation_id"]], block.data["window"]["state"]
                states += [state] if states[-1:] != [state] else []  # a notice tells the conversation again
    kims, lees = told.values()  # a machine that is busy for two seconds tells the end alone
    assert kims in (["closing", "expired"], ["expired"])
    assert lees in (["open", "closing"], ["closing"])


async def test_each_person_is_told_what_they_may_see(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    seen = {}
    async with (
        reading(inbox.api(kim.org_id, ADVISOR, "olga")) as olga,
        reading(inbox.api(kim.org_id, TECHNICIAN, "tom")) as tom,
    ):
        wrote = await kim.customer_writes("call +447700900999")
        await inbox.api(kim.org_id, TECHNICIAN, "tom").post(f"/v1/conversations/{kim.conversation_id}/read")
        for name, reader in (("olga", olga), ("tom", tom)):
            message = (await reader.until(wrote))[-1]
            unread = None
            while unread is not (name == "olga"):
                block = await reader.next()
                assert block is not None
                unread = block.data["unread"]
            assert block is not None
            seen[name] = (message.data["content"]["text"], block.data["customer"]["phone"], str(block.data))
    assert seen["olga"][:2] == ("call +447700900999", "+447700900999")
    assert "7700900999" not in "".join(seen["tom"])


async def test_a_person_has_five_streams_and_gets_a_place_back(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    client = inbox.api(kim.org_id, user_id="many-tabs")
    async with AsyncExitStack() as open_ones:
        for _ in range(OF_A_PERSON - 1):
            await open_ones.enter_async_context(reading(client))
        async with reading(client):
            answer = await client.get("/v1/events")
            assert answer.status_code == 429
            assert answer.headers["content-type"] == "application/problem+json"
            async with reading(inbox.api(kim.org_id, user_id="another")):
                pass
        async with reading(client):
            pass


async def test_a_stream_ends_with_its_token(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    client = inbox.client(authorization=f"Bearer {a_token(kim.org_id, life=timedelta(seconds=5))}")
    async with reading(client) as reader:
        assert await reader.next() is None
    assert (await client.get("/v1/events")).status_code == 401


async def test_the_stream_of_a_page_begins_at_its_mark_and_ends_with_its_session(
    inbox: RunningInbox, producer: Producer
) -> None:
    kim = await a_thread(inbox, producer)
    staff = await inbox.staff(kim.org_id)
    async with reading(inbox.api(kim.org_id)) as reader:
        mark = reader.last
        wrote = await kim.customer_writes()
        await reader.until(wrote)
    async with reading(staff.client, path=f"/inbox/events?last={mark}") as reader:
        await reader.until(wrote)
        await kim.run("delete from inbox_sessions where org_id = $1", kim.org_id)
        while await reader.next() is not None:
            pass
    answer = await staff.client.get("/inbox/events", headers={"accept": "text/event-stream"})
    assert answer.status_code == 401


async def test_another_sites_page_gets_no_stream(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    staff = await inbox.staff(kim.org_id)
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}):
        answer = await staff.client.get("/inbox/events", headers={**headers, "accept": "text/event-stream"})
        assert answer.status_code == 403
    assert (await staff.client.get("/v1/events")).status_code == 401


async def test_who_asks_for_the_head_of_a_pages_stream_takes_no_place(inbox: RunningInbox, producer: Producer) -> None:
    kim = await a_thread(inbox, producer)
    staff = await inbox.staff(kim.org_id)
    for _ in range(OF_A_PERSON + 1):
        head = await staff.client.head("/inbox/events")
        assert (head.status_code, head.headers["allow"]) == (405, "GET")
    async with reading(staff.client, path="/inbox/events"):
        pass


@pytest.mark.proof
async def test_a_stream_ends_first_as_its_process_stops_and_goes_on_at_another(
    inbox: RunningInbox, producer: Producer
) -> None:
    kim = await a_thread(inbox, producer)
    async with a_running_inbox(inbox.dsn, inbox.kafka) as other, reading(other.api(kim.org_id)) as reader:
        await reader.until(await kim.customer_writes("before"))
        other.service.stop()
        while await reader.next() is not None:
            pass
        last = reader.last
    wrote = await kim.customer_writes("while nobody looked")
    async with reading(inbox.api(kim.org_id), last) as again:
        told = await again.until(wrote)
    assert all(block.name != "reset" for block in told)


@pytest.mark.proof
async def test_a_client_that_does_not_read_is_dropped_and_holds_up_nobody(
    inbox: RunningInbox, producer: Producer
) -> None:
    kim = await a_thread(inbox, producer)
    address = urlsplit(inbox.url)
    slow = socket.socket()
    slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.connect((address.hostname, address.port))
    token = a_token(kim.org_id, user_id="slow")
    slow.sendall(f"GET /v1/events HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
    async with reading(inbox.api(kim.org_id)) as quick:
        for _ in range(60):
            await quick.until(await kim.customer_writes("x" * 60_000))
    await eventually(lambda: REGISTRY.get_sample_value("transom_inbox_streams") == 0)  # it reads nothing all the time
    slow.close()
    async with reading(inbox.api(kim.org_id, user_id="slow")):
        pass


@pytest.mark.proof
async def test_a_stream_goes_on_after_an_outage_of_postgresql(
    own_postgres: PostgresServer, kafka_bootstrap: str, topics: OwnTopics
) -> None:
    dsn = own_postgres.address
    await migrate(dsn)
    await topics.create()
    async with (
        a_running_inbox(dsn, KafkaConnection(kafka_bootstrap, topics.prefix), postgres_timeout_seconds=2.0) as own,
        publishing(own) as sending,
    ):
        kim = await a_thread(own, sending)
        async with reading(own.api(kim.org_id)) as reader:
            await reader.until(await kim.customer_writes())
            own_postgres.pause()
            await asyncio.sleep(4)
            own_postgres.resume()
            wrote = None
            while wrote is None:
                try:
                    wrote = await kim.customer_writes()
                except Transient:
                    await asyncio.sleep(0.5)
            await reader.until(wrote)
