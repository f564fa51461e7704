import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from services.inbox import streams as module
from services.inbox.feed import Mark
from services.inbox.html import LANGUAGES
from services.inbox.people import Person
from services.inbox.streams import AT_ALL, OF_A_PERSON, OF_AN_ORGANISATION, SLOW_SECONDS, Stream, Streams

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
MARK = Mark(uuid4(), 7)


def a_person(org_id: str = "acme", user_id: str = "olga", ends_at: datetime = NOW + timedelta(hours=1)) -> Person:
    return Person(org_id, user_id, frozenset({"*"}), ends_at)


def a_stream(person: Person | None = None) -> Stream:
    return Stream(person or a_person(), LANGUAGES.of("en"), None, MARK, MARK, NOW)


def filled(streams: Streams, org_id: str, count: int) -> None:
    for n in range(count):
        streams.add(a_stream(a_person(org_id, f"user-{n // OF_A_PERSON}")))


async def test_a_person_has_five_and_a_colleague_still_gets_one() -> None:
    streams = Streams()
    filled(streams, "acme", OF_A_PERSON)
    assert streams.why_not(a_person(user_id="user-0")) == "of_a_person"
    assert streams.why_not(a_person(user_id="user-1")) is None
    assert streams.why_not(a_person("bolt", "user-0")) is None


async def test_an_organisation_does_not_take_the_places_of_others() -> None:
    streams = Streams()
    filled(streams, "acme", OF_AN_ORGANISATION)
    assert streams.why_not(a_person()) == "of_an_organisation"
    for n in range(1, AT_ALL // OF_AN_ORGANISATION):
        assert streams.why_not(a_person(f"org-{n}")) is None
        filled(streams, f"org-{n}", OF_AN_ORGANISATION)
    assert streams.why_not(a_person("bolt")) == "at_all"


async def test_a_place_that_was_given_back_is_given_back_once() -> None:
    streams, one = Streams(), a_stream()
    streams.add(one)
    streams.remove(one)
    streams.remove(one)
    assert (len(streams), streams.organisations, streams.why_not(one.person)) == (0, {}, None)


async def test_a_stream_says_where_it_begins_then_what_is_new_and_then_ends() -> None:
    stream = a_stream()
    events = stream.events()
    stream.mark = Mark(MARK.feed, 9)
    stream.put(b"one")
    stream.put(b"two")
    assert str(MARK).encode() in await anext(events)
    assert await anext(events) == b"onetwo"
    stream.end()
    assert [chunk async for chunk in events] == []


async def test_only_news_wakes_a_reader() -> None:
    stream = a_stream()
    reading = asyncio.create_task(stream.next())
    await asyncio.sleep(0)
    stream.put(b"")
    assert not reading.done()
    stream.put(b"news")
    assert await reading == b"news"


async def test_a_client_that_does_not_read_costs_one_chunk_and_is_dropped() -> None:
    streams, slow, quick = Streams(), a_stream(), a_stream()
    streams.add(slow)
    streams.add(quick)
    for stream in (slow, quick):
        stream.put(b"chunk")
    assert await quick.next() == b"chunk"
    assert (slow.is_busy, quick.is_busy) == (True, False)
    streams.end_overdue(NOW)
    assert not slow.ended
    slow.put_at -= SLOW_SECONDS + 1
    streams.end_overdue(NOW)
    assert (slow.ended, quick.ended) == (True, False)
    assert await slow.next() == b""


async def test_a_stream_ends_when_its_person_does() -> None:
    streams, one = Streams(), a_stream(a_person(ends_at=NOW))
    streams.add(one)
    streams.end_overdue(NOW - timedelta(microseconds=1))
    assert not one.ended
    streams.end_overdue(NOW)
    assert one.ended


async def test_a_service_that_stops_ends_all_and_takes_no_more() -> None:
    streams, one = Streams(), a_stream()
    streams.add(one)
    streams.end_all()
    assert await one.next() == b""
    assert streams.why_not(a_person("bolt")) == "at_all"


def test_the_bounds_are_those_of_the_contract() -> None:
    assert (module.OF_A_PERSON, module.OF_AN_ORGANISATION, module.AT_ALL) == (5, 200, 1_000)
