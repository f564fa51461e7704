"""What comes again under a number that another organisation has by now stays where it is stored, on real servers."""

from collections.abc import Sequence
from typing import Any

import pytest

from libs.common.events.directory import NumberRemoved, NumberUpserted, OrgUpserted
from libs.common.events.topics import DELIVERY_UPDATES, INBOUND_MESSAGES, WEBHOOKS
from tests.support import world
from tests.support.ingest import ORG, Ingest, ingest, now
from tests.support.texts import CALLED, a_twilio_sms, post_twilio
from tests.support.webhooks import NUMBER, WABA, a_message, an_echo, of_echoes, of_messages

__all__ = ["ingest"]

OTHER, STRANGER = "beta", "447700900555"


async def hand_on(ingest: Ingest) -> None:
    """The WhatsApp number and the SMS number of the garage are another one's from now on."""
    async with ingest.pool.acquire() as db:
        await world.an_org(db, OTHER, "106400000000009", waba="206400000000009", sms_number=None)
        number = {"phone_number_id": NUMBER, "at": now()}
        await world.change(
            db,
            NumberRemoved(org_id=ORG, **number),
            NumberUpserted(org_id=OTHER, waba_id=WABA, display_number="+447700900123", **number),
            OrgUpserted(org_id=ORG, at=now(), name="AcmeMotors", sms_number=None),
            OrgUpserted(org_id=OTHER, at=now(), name="Beta", sms_number=CALLED, sms_active=True),
        )


async def told(ingest: Ingest, count: int) -> list[tuple[str, str]]:
    """Organisation and text of what was published."""
    events = await ingest.published.events(INBOUND_MESSAGES, count)
    return [(one["org_id"], one["content"]["text"]) for one in events]


async def people(ingest: Ingest, org_id: str) -> Sequence[Any]:
    return await ingest.rows("select from customers where org_id = $1", org_id)


@pytest.mark.parametrize("group", [None, "Y2FwaV9ncm91cDpodW50MDE"])
async def test_a_message_that_comes_again_is_told_under_the_organisation_that_has_it(
    ingest: Ingest, group: str | None
) -> None:
    before = of_messages(a_message(now(), "before", group_id=group))
    await ingest.post(before)
    [first] = await ingest.published.events(INBOUND_MESSAGES, 1)
    await hand_on(ingest)
    await ingest.post(before)
    await ingest.post(of_messages(a_message(now(), "after", **{"from": STRANGER}), contacts=[]))
    assert await told(ingest, 3) == [(ORG, "before"), (ORG, "before"), (OTHER, "after")]
    assert (await ingest.published.events(INBOUND_MESSAGES))[1] == first
    assert len(await people(ingest, OTHER)) == 1


async def test_it_is_also_told_so_where_the_other_organisation_knows_the_customer(ingest: Ingest) -> None:
    before = of_messages(a_message(now(), "before"))
    await ingest.post(before)
    await told(ingest, 1)
    await hand_on(ingest)
    await ingest.post(of_messages(a_message(now(), "after")))
    await told(ingest, 2)
    await ingest.post(before)
    await ingest.post(of_messages(a_message(now(), "and more")))
    assert await told(ingest, 4) == [(ORG, "before"), (OTHER, "after"), (ORG, "before"), (OTHER, "and more")]
    stored = await ingest.rows("select org_id, content ->> 'text' as text from messages order by sequence")
    assert [tuple(row) for row in stored] == [(ORG, "before"), (OTHER, "after"), (OTHER, "and more")]


async def test_an_echo_that_comes_again_makes_no_customer_of_the_other_organisation(ingest: Ingest) -> None:
    before = of_echoes(an_echo(now()))
    await ingest.post(before)
    await ingest.published.events(DELIVERY_UPDATES, 1)
    await hand_on(ingest)
    await ingest.post(before)
    updates = await ingest.published.events(DELIVERY_UPDATES, 2)
    assert [one["org_id"] for one in updates] == [ORG, ORG]
    assert await people(ingest, OTHER) == []


@pytest.mark.parametrize("known", [False, True])
async def test_an_sms_that_comes_again_is_told_under_the_organisation_that_has_it(
    ingest: Ingest, *, known: bool
) -> None:
    before, after = a_twilio_sms("before"), a_twilio_sms("after", **({} if known else {"From": f"+{STRANGER}"}))
    await post_twilio(ingest.http, ingest.url, before)
    await told(ingest, 1)
    await hand_on(ingest)
    forms, expected = ([after, before], [OTHER, ORG]) if known else ([before, after], [ORG, OTHER])
    for count, form in enumerate(forms, 2):
        await post_twilio(ingest.http, ingest.url, form)
        await told(ingest, count)
    assert [org_id for org_id, _ in await told(ingest, 3)] == [ORG, *expected]
    assert await ingest.published.records(WEBHOOKS.dlq) == []
    assert len(await people(ingest, OTHER)) == 1
