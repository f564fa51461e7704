"""Nobody's words come into another's thread, whatever people do with their numbers and in whatever order it is told."""

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from libs.common.db.pool import Pool, open_pool
from libs.common.directory.changes import apply
from libs.common.directory.identities import Binding, bind
from libs.common.events.directory import CustomerUpserted
from services.ingest import identity, queries
from services.ingest.items import CustomerMessage, IdentityChange, Sender
from services.ingest.queries import Place
from tests.support import world as seeds
from tests.support.examples import examples
from tests.support.merges import a_slice, all_moved
from tests.support.people import a_text

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
NUMBERS = ("447700900111", "447700900222", "5511990000001")
SPELLED = {"5511990000001": "551190000001"}
"""WhatsApp's spelling where it has another one."""


class Said(NamedTuple):
    """A message of ``person``, by the ids that it named."""

    person: int
    sender: Sender
    at: datetime
    wamid: str


class Notice(NamedTuple):
    before: Sender
    now: Sender
    at: datetime


class Told(NamedTuple):
    """The directory tells a customer's phone."""

    customer_id: UUID
    phone: str
    at: datetime


class Reached(NamedTuple):
    """A status names whom a message of ours reached."""

    sender: Sender
    at: datetime


class Linked(NamedTuple):
    """Whoever is in a thread gets a link to it."""

    person: int


Event = Said | Notice | Told | Reached | Linked


@dataclass
class World:
    """People and their numbers as they are; what is told of them is true, if late."""

    modern: bool
    """Meta names a BSUID with every message.

    Otherwise it may name the number alone, and then every change of a number is told.
    """
    events: list[Event] = field(default_factory=list)
    numbers: dict[int, str] = field(default_factory=dict)
    bsuids: dict[int, str] = field(default_factory=dict)
    listed: dict[int, UUID] = field(default_factory=dict)
    shown: set[str] = field(default_factory=set)
    """BSUIDs that Meta names together with the number that goes with them."""
    clock: int = 0
    made: int = 0

    def now(self) -> datetime:
        self.clock += 1
        return START + timedelta(seconds=self.clock)

    def sender(self, person: int, form: int) -> Sender:
        number, bsuid = self.numbers[person], self.bsuids[person]
        wa_id = SPELLED.get(number, number)
        if form == 0:
            return Sender(wa_id, bsuid)
        if form == 1:
            return Sender(None, bsuid)
        return Sender(wa_id, bsuid if self.modern else None)

    def settle(self, person: int, number: str) -> None:
        self.made += 1
        self.numbers[person], self.bsuids[person] = number, f"GB.{self.made:020}"

    def does(self, person: int, what: str, form: int, number: str) -> None:
        if person not in self.numbers:
            if number in self.numbers.values():
                return
            self.settle(person, number)
        match what:
            case "writes":
                if form != 1:
                    self.shown.add(self.bsuids[person])
                self.events.append(Said(person, self.sender(person, form), self.now(), f"wamid.{uuid4()}"))
            case "is reached":
                self.shown.add(self.bsuids[person])
                self.events.append(Reached(self.sender(person, 0), self.now()))
            case "is linked":
                self.events.append(Linked(person))
            case "is listed":
                customer_id = self.listed.setdefault(person, uuid4())
                self.events.append(Told(customer_id, f"+{self.numbers[person]}", self.now()))
            case "moves" if number not in self.numbers.values():
                before = self.sender(person, 0)
                self.settle(person, number)
                self.tells(person, before, self.sender(person, 0), form)
            case "leaves" if self.modern and person not in self.listed and self.bsuids[person] in self.shown:
                del self.numbers[person], self.bsuids[person]  # who takes the number is seen by the BSUID alone

    def tells(self, person: int, before: Sender, now: Sender, form: int) -> None:
        at = self.now()
        if form == 0 or (person in self.listed and form == 3):
            self.shown.add(self.bsuids[person])
            self.events.append(Notice(before, now, at))
        elif form == 1 or not self.modern or person in self.listed:
            self.events.append(Notice(Sender(before.wa_id, None), Sender(now.wa_id, None), at))
        elif form == 2:
            self.events.append(Notice(Sender(None, before.bsuid), Sender(None, now.bsuid), at))
        # else the notice is lost


STEPS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(
            ("writes", "writes", "writes", "moves", "moves", "leaves", "is listed", "is reached", "is linked")
        ),
        st.integers(0, 3),
        st.sampled_from(NUMBERS),
    ),
    min_size=2,
    max_size=12,
)


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", size=2, command_seconds=10) as pool:
        yield pool


@dataclass
class Garage:
    """One organisation, to which everything is told."""

    pool: Pool
    org_id: str
    number: str
    links: dict[bytes, str] = field(default_factory=dict)
    """Every link that was sent, and whose thread it led to then."""

    async def hears(self, events: Sequence[Event]) -> None:
        """What comes together is settled together, as the worker does."""
        items = [one for one in events if isinstance(one, Said | Notice)]
        if items:
            await self.takes(items)
        for one in events:
            async with self.pool.acquire() as db, db.transaction():
                match one:
                    case Told():
                        change = CustomerUpserted(
                            org_id=self.org_id, at=one.at, customer_id=one.customer_id, phone=one.phone
                        )
                        assert await apply(db, [change]) == []
                    case Reached():
                        binding = Binding(self.org_id, self.number, None, *one.sender.ids, None, one.at, "status")
                        await bind(db, [binding], one.at)
                    case Linked():
                        for row in await db.fetch(_LINK, self.org_id):
                            self.links[row[0]] = row[1]
                    case _:
                        pass

    async def takes(self, items: Sequence[Said | Notice]) -> None:
        parsed: list[CustomerMessage | IdentityChange] = [
            a_text(one.sender, one.at, number=self.number, wamid=one.wamid, text=str(one.person))
            if isinstance(one, Said)
            else IdentityChange(self.number, one.before, one.now, one.at, one.at)
            for one in items
        ]
        messages: dict[str, tuple[CustomerMessage, Place]] = {}
        for one, place in zip(parsed, await identity.places(self.pool, parsed, START), strict=True):
            if isinstance(one, CustomerMessage):
                assert place is not None
                messages.setdefault(one.provider_id, (one, place))
        if messages:
            async with self.pool.acquire() as db:
                await queries.store_messages(db, list(messages.values()))

    async def rows(self, query: str) -> list[Any]:
        async with self.pool.acquire() as db:
            return await db.fetch(query, self.org_id)


_LINK = """
with sent as (
    select coalesce(a.conversation_id, m.conversation_id) as conversation_id,
        sha256(uuidv7()::text::bytea) as code_hash,
           min(m.content ->> 'text') as person
      from messages m left join conversation_aliases a on a.alias = m.conversation_id where m.org_id = $1 group by 1
), kept as (
    insert into portal_links (code_hash, org_id, conversation_id, message_id, host, phone, expires_at, created_at)
    select code_hash, $1, conversation_id, uuidv7(), 'x.link', '+4477', now() + interval '1 day', now() from sent
)
select code_hash, person from sent
"""
_THREADS = """
select conversation_id, array_agg(distinct content ->> 'text') as people, count(*) as messages from messages
    where org_id = $1 group by 1
"""
_LINKS = """
select l.code_hash, m.content ->> 'text'
  from portal_links l join messages m on m.conversation_id = l.conversation_id where l.org_id = $1
"""


async def in_every_order(
    pool: Pool, world: World, order: Sequence[int], cuts: Sequence[int], slices: Sequence[int]
) -> Garage:
    """Tell it in this order, so much at once; after each part so many slices of what is being merged are moved, a
    message each.
    """
    garage = Garage(pool, f"org-{uuid4().hex[:12]}", str(uuid4().int)[:15])
    async with pool.acquire() as db:
        await seeds.an_org(db, garage.org_id, garage.number, sms_number=None)
    told = [world.events[n % len(world.events)] for n in order] + world.events
    place = 0
    for size, moved in zip_longest((*cuts, len(told)), slices[: len(cuts) + 1], fillvalue=0):
        if batch := told[place : place + size]:
            await garage.hears(batch)
        place += size
        async with pool.acquire() as db:
            for _ in range(moved):
                await a_slice(db, 1)
    async with pool.acquire() as db:
        await all_moved(db)
    return garage


ORDER = {
    "order": st.lists(st.integers(0, 30), max_size=15),
    "cuts": st.lists(st.integers(1, 4), max_size=12),
    "slices": st.lists(st.integers(0, 3), max_size=12),
}
SETTINGS = settings(
    max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def an_example(steps: str, order: Sequence[int] = (), cuts: Sequence[int] = ()) -> dict[str, Any]:
    """``steps``: person, what they do, form of the notice or sender, index of the number."""
    found = [re.fullmatch(r"(\d) ([a-z ]+) (\d) (\d)", step) for step in steps.split("; ")]
    told = [(int(m[1]), m[2], int(m[3]), NUMBERS[int(m[4])]) for m in found if m is not None]
    assert len(told) == len(found)
    return {"steps": told, "order": list(order), "cuts": list(cuts), "slices": []}


@pytest.mark.parametrize("modern", [True, False])
@SETTINGS
@given(steps=STEPS, **ORDER)
# the directory tells late of a number that was given up meanwhile
@example(**an_example("1 is listed 0 1; 1 moves 0 0; 0 writes 0 1; 1 writes 0 0; 1 is listed 0 0"))
# who writes from the number later is heard before the directory, and all that was before comes last
@example(**an_example("1 writes 0 1; 1 is listed 0 1; 1 moves 0 0; 0 writes 0 1", [3, 1], [2]))
# who came to the number has left it, too, when it is told that it had been given up before
@example(**an_example("1 writes 2 1; 1 moves 1 0; 0 writes 2 1; 0 moves 1 2; 0 writes 2 2", [0, 2, 3, 4], [1, 1, 1, 1]))
# who came to the number, with words of before, is taken for whom the directory had named there
@example(**an_example("0 writes 0 2; 1 is listed 0 1; 1 moves 0 0; 0 moves 0 1; 1 writes 0 0", [0, 1, 3], [1, 1, 1]))
# a notice names no BSUID, and the first that is seen on the new number is of who took it next
@example(**an_example("1 writes 0 1; 1 moves 1 0; 1 writes 0 0; 1 leaves 0 0; 0 writes 0 0", [0, 1, 3], [1, 1, 1]))
# the directory's customer writes before the directory names them, and the notice from before that comes last
@example(**an_example("1 writes 0 1; 1 moves 0 0; 0 writes 2 1; 0 is listed 0 1; 0 writes 0 1", [2, 3], [3]))
async def test_every_message_stands_in_one_thread_and_every_thread_is_one_persons(
    pool: Pool, *, modern: bool, steps: Any, order: list[int], cuts: list[int], slices: list[int]
) -> None:
    world = World(modern)
    for step in steps:
        world.does(*step)
    if not world.events:
        return
    garage = await in_every_order(pool, world, order, cuts, slices)
    threads = await garage.rows(_THREADS)
    assert [row for row in threads if len(row["people"]) > 1] == [], world.events
    assert sum(row["messages"] for row in threads) == len({e.wamid for e in world.events if isinstance(e, Said)})
    assert [person for code, person in await garage.rows(_LINKS) if person != garage.links[code]] == []


@SETTINGS
@given(steps=STEPS, **ORDER)
async def test_where_meta_tells_all_that_it_may_tell_everybody_has_one_thread(
    pool: Pool, steps: Any, order: list[int], cuts: list[int], slices: list[int]
) -> None:
    world = World(modern=True)
    for person, what, _, number in steps:
        if what != "leaves":
            world.does(person, what, 0, number)
    if not world.events:
        return
    garage = await in_every_order(pool, world, order, cuts, slices)
    wrote = {str(one.person) for one in world.events if isinstance(one, Said)}
    found = sorted(row["people"] for row in await garage.rows(_THREADS))
    assert found == [[person] for person in sorted(wrote)], world.events


_CUSTOMERS = """
select array_agg(distinct m.content ->> 'text')
  from messages m join conversations c on c.conversation_id = m.conversation_id
 where m.org_id = $1
   and c.customer_id in ($2, (select a.customer_id from customer_aliases a where a.alias = $2))
"""
_BEFORE = [
    (0, "writes", 0, NUMBERS[1]),
    (0, "moves", 0, NUMBERS[0]),
    (1, "is listed", 0, NUMBERS[1]),
    (1, "writes", 0, NUMBERS[1]),
    (0, "writes", 0, NUMBERS[0]),
]
_AFTER = [
    (1, "writes", 0, NUMBERS[1]),
    (1, "is listed", 0, NUMBERS[1]),
    (1, "moves", 0, NUMBERS[0]),
    (0, "writes", 0, NUMBERS[1]),
    (1, "writes", 0, NUMBERS[0]),
]


@pytest.mark.parametrize("form", [0, 1])
@pytest.mark.parametrize(
    ("steps", "first"), [(_BEFORE, [0, 2]), (_BEFORE, [2, 0]), (_AFTER, [3, 1]), (_AFTER, [1, 3]), (_AFTER, [3, 1, 0])]
)
async def test_a_customer_of_the_directory_is_whoever_had_the_number_then(
    pool: Pool, *, form: int, steps: list[tuple[int, str, int, str]], first: list[int]
) -> None:
    world = World(modern=False)
    for person, what, _, number in steps:
        world.does(person, what, 2 * form if what == "writes" else form, number)
    garage = await in_every_order(pool, world, first, [1] * 9, [])
    async with pool.acquire() as db:
        assert await db.fetchval(_CUSTOMERS, garage.org_id, world.listed[1]) in (None, ["1"])
