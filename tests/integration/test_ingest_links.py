"""Links and the directory's phones, where a number changes hands, or two threads become one or part."""

from uuid import uuid4

import pytest

from services.ingest.items import Sender
from tests.support.people import B1, B2, KIM, NEW, OLD, STRANGER, People

# ── Links
# ──────────────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_links_end_with_the_number_that_they_were_sent_to(people: People) -> None:
    kims = await people.writes(0, KIM)
    await people.is_sent_a_link(kims)
    await people.writes(1, STRANGER)
    assert await people.links(kims) == 0


async def test_links_end_where_a_notice_moves_the_person_or_doubts_it(people: People) -> None:
    kims = await people.writes(0, KIM)
    await people.is_sent_a_link(kims)
    assert await people.changes(1, Sender(OLD, None), alarm=True) == kims
    assert await people.links(kims) == 0
    assert (await people.who(kims))["identity_changed_at"] == people.at(1)
    assert await people.writes(2, KIM) == kims
    await people.is_sent_a_link(kims)
    await people.changes(3, Sender(OLD, B1), Sender(NEW, B2))
    assert await people.links(kims) == 0


async def test_links_end_on_both_sides_where_two_threads_become_one(people: People) -> None:
    one, other = await people.writes(0, Sender(OLD, None)), await people.writes(0, Sender(None, B1))
    for conversation in (one, other):
        await people.is_sent_a_link(conversation)
    joint = await people.writes(1, KIM)
    assert joint in (one, other)
    assert await people.links(one) + await people.links(other) == 0


async def test_links_stay_where_the_directory_merely_names_the_same_thread(people: People) -> None:
    kims = await people.writes(0, KIM)
    await people.is_sent_a_link(kims)
    customer_id = uuid4()
    await people.is_listed(1, customer_id, f"+{OLD}")
    assert (await people.who(kims))["customer_id"] == customer_id
    assert await people.links(kims) == 1
    await people.is_listed(2, customer_id, f"+{OLD}", name="Kim B.")
    assert await people.links(kims) == 1
    await people.is_listed(3, customer_id, f"+{NEW}")
    assert await people.links(kims) == 0


async def test_links_end_on_both_sides_where_a_thread_is_parted(people: People) -> None:
    kims = await people.writes(0, KIM)
    assert await people.writes(3, Sender(OLD, None)) == kims  # nobody can know
    pats = await people.writes(5, STRANGER)
    for conversation in (kims, pats):
        await people.is_sent_a_link(conversation)
    await people.changes(2, KIM, Sender(NEW, B2), received=6)
    assert ((await people.who(kims))["messages"], (await people.who(pats))["messages"]) == (1, 2)
    assert await people.links(kims) + await people.links(pats) == 0


# ── The directory
# ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_corrected_phone_keeps_the_thread_and_the_number_that_they_write_from(people: People) -> None:
    customer_id = uuid4()
    await people.is_listed(0, customer_id, f"+{OLD}")
    kims = await people.writes(1, KIM)
    await people.is_listed(2, customer_id, f"+{NEW}")
    assert (await people.who(kims))["phone"] == f"+{NEW}"
    assert await people.writes(3, KIM) == kims
    assert await people.writes(3, Sender(NEW, B2)) == kims
    assert await people.writes(4, STRANGER) != kims


async def test_a_phone_that_was_never_confirmed_is_nobodys_once_the_directory_corrects_it(people: People) -> None:
    customer_id = uuid4()
    await people.is_listed(0, customer_id, f"+{OLD}")
    await people.is_listed(1, customer_id, f"+{NEW}")
    theirs = await people.writes(2, Sender(OLD, None))
    assert (await people.who(theirs))["customer_id"] != customer_id
    kims = await people.writes(2, Sender(NEW, None))
    assert (await people.who(kims))["customer_id"] == customer_id


@pytest.mark.parametrize("by", ["notice", "directory"])
async def test_a_number_that_two_share_is_the_others_once_the_first_gives_it_up(people: People, by: str) -> None:
    kim, pat = uuid4(), uuid4()
    await people.is_listed(0, kim, f"+{OLD}")
    await people.is_listed(1, pat, f"+{OLD}", name="Pat")
    kims = await people.writes(2, KIM)
    assert (await people.who(kims))["customer_id"] == kim
    if by == "notice":
        await people.changes(3, Sender(None, B1), Sender(None, B2))
    else:
        await people.is_listed(3, kim, f"+{NEW}")
    pats = await people.writes(4, Sender(OLD, None))
    assert (await people.who(pats))["customer_id"] == pat
    assert (await people.who(kims))["messages"] == 1


async def test_two_customers_of_the_directory_stay_two_whatever_whatsapp_says(people: People) -> None:
    one, other = uuid4(), uuid4()
    await people.is_listed(0, one, f"+{OLD}")
    await people.is_listed(0, other, f"+{NEW}")
    first, second = await people.writes(1, Sender(OLD, B1)), await people.writes(1, Sender(NEW, B2))
    await people.is_bound(2, wa_id=NEW, bsuid=B1)
    await people.changes(3, Sender(OLD, B1), Sender(NEW, B2))
    assert [(await people.who(c))["customer_id"] for c in (first, second)] == [one, other]
    assert await people.writes(4, Sender(None, B1)) == first
    assert await people.writes(4, Sender(None, B2)) == second
