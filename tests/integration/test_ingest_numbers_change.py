"""A person is not a number: who has it when, and what becomes of threads, links and addresses when it goes to somebody
else.
"""

import asyncio
from itertools import pairwise, permutations
from uuid import uuid4

import pytest

from libs.common.errors import Transient
from libs.common.events.topics import INBOUND_MESSAGES
from services.ingest import identity, queries
from services.ingest.items import CustomerMessage, IdentityChange, Sender
from services.ingest.queries import Place
from tests.support import world
from tests.support.databases import somebody_waits
from tests.support.ingest import ORG, Ingest, now
from tests.support.people import B1, B2, B3, KIM, NEW, NOBODY, OLD, STRANGER, People, a_text
from tests.support.statements import statements_of
from tests.support.webhooks import NUMBER, WA_ID, WABA, a_message, a_value, a_webhook, of_messages

# ── A number is given up
# ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stranger", [STRANGER, Sender(OLD, None)])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Sender(OLD, None), Sender(NEW, None)),
        (Sender(OLD, B1), Sender(NEW, B2)),
        (Sender(None, B1), Sender(None, B2)),
        (Sender(OLD, None), Sender(None, B2)),
    ],
)
async def test_whoever_writes_from_a_number_given_up_is_somebody_new(
    people: People, before: Sender, after: Sender, stranger: Sender
) -> None:
    kims = await people.writes(0, KIM)
    assert await people.changes(1, before, after) == kims
    theirs = await people.writes(2, stranger)
    assert theirs != kims
    assert (await people.who(theirs))["customer_id"] != (await people.who(kims))["customer_id"]
    assert (await people.who(kims))["wa_id"] == after.wa_id
    assert await people.writes(3, Sender(after.wa_id, B2) if after.bsuid or after.wa_id else KIM) == kims


async def test_a_number_that_shows_another_user_id_has_another_owner_though_no_notice_came(people: People) -> None:
    kims = await people.writes(0, KIM)
    theirs = await people.writes(1, STRANGER)
    assert theirs != kims
    assert (await people.who(kims))["phone"] is None
    assert (await people.who(kims))["wa_id"] is None
    assert (await people.who(theirs))["phone"] == f"+{OLD}"
    assert await people.writes(2, Sender(None, B1)) == kims
    assert await people.writes(2, Sender(OLD, None)) == theirs


async def test_who_was_known_before_times_were_kept_is_told_from_a_stranger_too(people: People) -> None:
    customer_id, conversation_id = uuid4(), uuid4()
    async with people.pool.acquire() as db:
        await db.execute(
            "insert into customers (customer_id, org_id, phone, origin) values ($1, $2, $3, 'inbound')",
            customer_id,
            ORG,
            f"+{OLD}",
        )
        for kind, value in (("wa_id", OLD), ("phone", f"+{OLD}"), ("bsuid", B1)):
            await db.execute(
                "insert into customer_identities (org_id, kind, value, customer_id) values ($1, $2, $3, $4)",
                ORG,
                kind,
                value,
                customer_id,
            )
        await db.execute(
            "insert into conversations (conversation_id, org_id, customer_id, phone_number_id, wa_id, bsuid)"
            " values ($1, $2, $3, $4, $5, $6)",
            *(conversation_id, ORG, customer_id, NUMBER, OLD, B1),
        )
    assert await people.writes(0, KIM) == await people.writes(0, Sender(OLD, None)) == conversation_id
    theirs = await people.writes(1, STRANGER)
    assert theirs != conversation_id
    assert await people.writes(2, Sender(None, B1)) == conversation_id
    assert await people.writes(2, Sender(OLD, None)) == theirs


async def test_a_late_webhook_finds_the_person_of_its_time_and_brings_back_no_address(people: People) -> None:
    kims = await people.writes(0, KIM)
    await people.changes(24, Sender(OLD, None), Sender(NEW, B2))
    theirs = await people.writes(30, STRANGER)
    for sender in (KIM, Sender(OLD, None), Sender(None, B1)):
        assert await people.writes(12, sender, received=31) == kims
    who = await people.who(kims)
    assert (who["wa_id"], who["bsuid"], who["phone"]) == (NEW, B2, f"+{NEW}")
    assert who["identity_changed_at"] > who["last_customer_at"]
    assert (await people.who(theirs))["wa_id"] == OLD


async def test_the_phone_of_the_directory_pulls_nobody_into_the_thread_of_the_one_who_had_it(people: People) -> None:
    customer_id = uuid4()
    await people.is_listed(0, customer_id, f"+{OLD}")
    kims = await people.writes(1, KIM)
    await people.changes(2, Sender(None, B1), Sender(None, B2))
    assert (await people.who(kims))["phone"] is None
    theirs = await people.writes(3, Sender(OLD, None))
    await people.is_listed(4, customer_id, f"+{OLD}")  # nothing new: what it told before
    assert await people.writes(5, Sender(OLD, None)) == theirs != kims
    assert (await people.who(theirs))["customer_id"] != customer_id
    assert (await people.who(kims))["phone"] is None
    await people.is_listed(6, customer_id, f"+{NEW}")
    assert (await people.who(kims))["phone"] == f"+{NEW}"


async def test_a_delayed_notice_joins_whom_it_names(people: People) -> None:
    kims = await people.writes(0, KIM)
    new = await people.writes(2, Sender(NEW, B2))
    assert new != kims
    assert await people.changes(1, Sender(None, B1), Sender(None, B2), received=3) == kims
    assert await people.writes(4, Sender(NEW, None)) == await people.writes(4, Sender(None, B2)) == kims
    assert (await people.who(kims))["messages"] == 4


@pytest.mark.parametrize("by_number", [True, False])
async def test_the_order_of_arrival_does_not_matter(people: People, *, by_number: bool) -> None:
    kim, kim_again = (Sender(OLD, None), Sender(NEW, None)) if by_number else (KIM, Sender(NEW, B2))
    stranger = Sender(OLD, None) if by_number else STRANGER
    for turn, order in enumerate(permutations(range(4))):
        await people.apply()
        async with people.pool.acquire() as db:
            await db.execute(
                "truncate customers, conversations, messages, identity_notices, customer_aliases, conversation_aliases,"
                " conversation_merges cascade"
            )
        for what in (*order, order[turn % 4]):
            if what == 0:
                await people.writes(0, kim)
            elif what == 1:
                await people.changes(1, kim, kim_again)
            elif what == 2:
                await people.writes(2, kim_again)
            else:
                await people.writes(3, stranger)
        kims = await people.writes(4, kim_again)
        theirs = await people.writes(4, stranger)
        sizes = sorted([(await people.who(kims))["messages"], (await people.who(theirs))["messages"]])
        again = order[turn % 4]
        expected = sorted([3 + (again in (0, 2)), 2 + (again == 3)])
        assert (kims == theirs, sizes, await people.count("conversations")) == (False, expected, 2), order


@pytest.mark.parametrize("number", [NUMBER, None])
@pytest.mark.parametrize("after", [Sender(NEW, B2), Sender(None, B2)])
async def test_a_thread_that_begins_with_what_was_written_before_a_change_is_that_of_the_new_ids(
    people: People, after: Sender, number: str | None
) -> None:
    """``number`` None: the customer was known before, from another number of the garage."""
    if number is None:
        await people.writes(0, KIM)
        number = "106400000000002"
        async with people.pool.acquire() as db:
            await world.a_number(db, ORG, number, waba=WABA, display_number="+447700900124")
    await people.changes(2, KIM, after)
    who = await people.who(await people.writes(1, KIM, received=3, number=number))
    assert (who["wa_id"], who["bsuid"]) == (after.wa_id, B2)
    assert who["identity_changed_at"] == people.at(2) > who["last_customer_at"]


async def test_the_notice_of_the_first_of_two_changes_comes_last(people: People) -> None:
    kims = await people.writes(0, KIM)
    await people.writes(2, Sender(NEW, B2))
    await people.changes(3, Sender(NEW, B2), Sender(OLD, B3), received=4)
    await people.changes(1, KIM, Sender(NEW, B2), received=5)
    who = await people.who(kims)
    assert (who["wa_id"], who["bsuid"], who["identity_changed_at"]) == (OLD, B3, people.at(3))


async def test_a_change_in_the_batch_of_the_first_message_closes_the_window(people: People) -> None:
    change = IdentityChange(NUMBER, KIM, Sender(NEW, B2), people.at(1), people.at(2))
    (place, _) = await identity.places(people.pool, [a_text(KIM, people.at(0)), change], now())
    assert place is not None
    who = await people.who(place.conversation_id)
    assert (who["wa_id"], who["identity_changed_at"]) == (NEW, people.at(1))


async def test_what_was_written_from_a_number_before_its_notice_came_is_moved_to_whoever_wrote_it(
    people: People,
) -> None:
    kims = await people.writes(0, Sender(OLD, None))
    assert await people.writes(2, Sender(OLD, None)) == kims  # nobody can know
    await people.changes(1, Sender(OLD, None), Sender(NEW, None), received=3)
    assert (await people.who(kims))["messages"] == 1
    theirs = await people.writes(4, Sender(OLD, None))
    who = await people.who(theirs)
    assert (who["messages"], who["last_customer_at"]) == (2, people.at(4))
    assert (await people.who(kims))["identity_changed_at"] >= people.at(2)


async def test_a_notice_that_is_older_than_seven_days_changes_nothing(people: People) -> None:
    kims = await people.writes(0, KIM)
    await people.changes(1, Sender(OLD, None), Sender(NEW, None), received=1 + 7 * 24 + 1)
    assert await people.writes(200, Sender(OLD, None)) == kims
    assert (await people.who(kims))["wa_id"] == OLD


async def test_an_old_webhook_finds_its_person_and_binds_nothing(people: People) -> None:
    kims = await people.writes(200, KIM)
    pats = await people.writes(200, Sender(NEW, B2))
    week = 200 + 7 * 24 + 1
    assert await people.writes(200, Sender(NEW, B1), received=week) == kims  # a pairing of long ago
    assert await people.writes(week, Sender(NEW, None)) == pats
    assert (await people.who(pats))["customer_id"] != (await people.who(kims))["customer_id"]


# ── Who was reached
# ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_status_that_names_another_user_id_at_the_number_shows_that_it_has_another_owner(
    people: People,
) -> None:
    kims = await people.writes(0, KIM)
    who = await people.who(kims)
    await people.is_bound(1, customer_id=who["customer_id"], wa_id=OLD, bsuid=B3, phone=f"+{OLD}")
    assert ((await people.who(kims))["phone"], (await people.who(kims))["wa_id"]) == (None, None)
    assert await people.writes(2, Sender(None, B3)) != kims


async def test_a_status_binds_the_user_id_to_the_customer_whom_the_message_was_for(people: People) -> None:
    customer_id = uuid4()
    await people.is_listed(0, customer_id, f"+{OLD}")
    await people.is_bound(1, customer_id=customer_id, wa_id=OLD, bsuid=B1, phone=f"+{OLD}")
    await people.is_bound(1, customer_id=customer_id, wa_id=OLD, bsuid=B1, phone=f"+{OLD}")
    kims = await people.writes(2, Sender(None, B1))
    assert ((await people.who(kims))["customer_id"], (await people.who(kims))["phone"]) == (customer_id, f"+{OLD}")


async def test_a_status_that_is_older_than_seven_days_binds_nothing(people: People) -> None:
    kims = await people.writes(0, Sender(OLD, None))
    who = await people.who(kims)
    await people.is_bound(-7 * 24 - 1, customer_id=who["customer_id"], wa_id=OLD, bsuid=B1, phone=f"+{OLD}")
    assert await people.writes(1, Sender(None, B1)) != kims


async def test_a_status_of_nobody_makes_nobody(people: People) -> None:
    await people.is_bound(1, wa_id=OLD, bsuid=B1)
    assert (await people.count("customers"), await people.count("customer_identities")) == (0, 0)


async def test_an_address_is_as_new_as_the_last_message_that_named_it(people: People) -> None:
    kims = await people.writes(0, KIM)
    assert await people.writes(5, Sender(None, B1)) == await people.writes(6, Sender(None, B1)) == kims
    who = await people.who(kims)
    assert (who["wa_id_at"], who["bsuid_at"]) == (people.at(0), people.at(6))


# ── Somebody is settled while a message is on its way into the thread
# ───────────────────────────────────────────────────────────


async def found(people: People, sender: Sender) -> tuple[CustomerMessage, Place]:
    """A message whose thread was found, and that is not stored yet."""
    message = a_text(sender, people.at(2))
    (place,) = await identity.places(people.pool, [message], now())
    assert place is not None
    return message, place


async def test_a_message_is_not_stored_where_a_notice_was_faster(people: People) -> None:
    kims = await people.writes(0, Sender(OLD, None))
    message = await found(people, Sender(OLD, None))
    await people.changes(1, Sender(OLD, None), Sender(NEW, None))
    async with people.pool.acquire() as db:
        with pytest.raises(Transient):
            await queries.store_messages(db, [message])
    assert (await people.who(kims))["messages"] == 1
    assert await people.writes(2, Sender(OLD, None)) != kims


async def test_a_message_that_was_being_stored_when_a_notice_came_is_parted_all_the_same(people: People) -> None:
    kims = await people.writes(0, Sender(OLD, None))
    message = await found(people, Sender(OLD, None))
    async with people.pool.acquire() as db:
        async with db.transaction():
            await queries.store_messages(db, [message])
            notice = asyncio.create_task(people.changes(1, Sender(OLD, None), Sender(NEW, None)))
            await somebody_waits(db)
        with pytest.raises(Transient):
            await notice
    await people.changes(1, Sender(OLD, None), Sender(NEW, None))
    assert (await people.who(kims))["messages"] == 1
    assert await people.count("messages") == 2


# ── As the worker has it
# ────────────────────────────────────────────────────────────────────────────────────────────────────────


def a_notice(**system: object) -> dict[str, object]:
    return a_message(now(), None, type="system", system={"type": "user_changed_number", **system})


async def test_a_notice_makes_no_conversation_for_people_who_never_wrote(ingest: Ingest) -> None:
    from_new = a_notice(body=f"User changed from {OLD} to {WA_ID}", new_wa_id=WA_ID)
    from_old = a_notice(body=f"User changed from {WA_ID} to {NEW}", wa_id=NEW)
    security = a_notice(type="customer_identity_changed", body="changed")
    await ingest.post(of_messages(from_new, from_old, security, contacts=[]))
    await ingest.post(of_messages(a_message(now(), **{"from": "447700900333"})))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)  # what came before it is done
    assert published["content"]["kind"] == "text"
    await ingest.post(of_messages(a_message(now(), **{"from": OLD})))
    (_, published) = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert published["content"]["kind"] == "text"
    assert len(await ingest.rows("select * from conversations")) == 2
    assert len(await ingest.published.records(INBOUND_MESSAGES)) == 2


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_notice_is_understood_where_the_ids_before_stand_in_the_text_alone(
    ingest: Ingest, *, at_once: bool
) -> None:
    wrote = a_message(now(), **{"from": OLD, "from_user_id": B1})
    body = f"User Kim +44 changed from {B1} to {B2}"
    changed = a_notice(type="user_changed_user_id", user_id=B2, body=body) | {"from": None}
    if at_once:
        await ingest.post(of_messages(wrote, changed, contacts=[]))
    else:
        await ingest.post(of_messages(wrote))
        await ingest.published.events(INBOUND_MESSAGES, 1)
        await ingest.post(of_messages(changed, contacts=[]))
    (first, notice) = await ingest.published.events(INBOUND_MESSAGES, 2)
    assert notice["conversation_id"] == first["conversation_id"]
    row = await ingest.row("select wa_id, bsuid, phone from conversations join customers using (customer_id)")
    assert tuple(row) == (None, B2, None)
    update = {"user_id": {"previous": B2, "current": B3}, "timestamp": str(int(now().timestamp()) + 1)}
    await ingest.post(a_webhook(a_value(user_id_update=[update]), field="user_id_update"))
    await ingest.post(of_messages(a_message(now(), **{"from": None, "from_user_id": B3})))
    published = await ingest.published.events(INBOUND_MESSAGES, 3)
    assert published[2]["conversation_id"] == first["conversation_id"]


@pytest.mark.parametrize("notice", [Sender(NEW, None), NOBODY])
async def test_a_notice_about_nobody_is_kept_and_harms_nobody(people: People, notice: Sender) -> None:
    assert await people.changes(0, Sender(OLD, B1), notice) is None
    assert (await people.count("customers"), await people.count("conversations")) == (0, 0)


async def test_notices_that_contradict_each_other_about_who_had_a_line_are_applied_at_the_first_try(
    people: People,
) -> None:
    """One takes a message out of a thread, and the other one puts it there."""
    await people.writes(80, Sender(OLD, B3))
    await people.changes(2, Sender(OLD, B3), Sender(NEW, B1))
    await people.writes(6, Sender(NEW, None))
    other = await people.writes(84, Sender(None, B2))
    await people.changes(33, Sender(NEW, None), Sender(OLD, B1))
    assert await people.changes(3, Sender(None, B2), Sender(NEW, B3)) == other
    assert (await people.who(other))["messages"] == 3


async def moves(people: People, numbers: list[str]) -> int:
    """Statements for notices, in one batch, that a customer moved from number to number before somebody wrote."""
    await people.writes(0, Sender(numbers[0], None))
    await people.writes(90, Sender(numbers[0], None))
    changes = [
        IdentityChange(NUMBER, Sender(before, None), Sender(after, None), people.at(hour), people.at(hour))
        for hour, (before, after) in enumerate(pairwise(numbers), 1)
    ]
    async with statements_of(people.pool, size=2) as sent:
        await identity.places(people.pool, changes, now())
    return len(sent)


async def test_notices_cost_as_many_statements_however_many_of_one_customer_come_together(people: People) -> None:
    await moves(people, ["447700900301", "447700900302"])  # asyncpg asks for types once
    few = await moves(people, ["447700900401", "447700900402", "447700900403"])
    assert await moves(people, [f"4477009005{n:02}" for n in range(20)]) == few


async def test_a_message_that_several_notices_take_out_of_a_thread_is_moved_once(people: People) -> None:
    async def to_and_fro(number: str, times: int) -> int:
        return await moves(people, [one for n in range(times) for one in (number, f"{number[:-1]}{n}")])

    await to_and_fro("447700900319", 2)
    assert await to_and_fro("447700900429", 8) == await to_and_fro("447700900519", 3)
