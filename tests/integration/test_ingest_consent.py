"""What a customer says in WhatsApp about marketing is consent: stored with its trail, by its own time, told once, and
nothing else changes.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import pytest

from libs.common.events.directory import ConsentChanged, CustomerUpserted
from libs.common.events.topics import DIRECTORY_CHANGES, INBOUND_MESSAGES
from libs.common.ids import callback_data
from tests.support.ingest import ORG, Ingest, now
from tests.support.messages_out import sent
from tests.support.topics import OwnTopics
from tests.support.waiting import DEADLINE_SECONDS, eventually_true
from tests.support.webhooks import BSUID, WA_ID, a_contact, a_message, a_status, a_value, a_webhook, of_messages

KIM = UUID("5f0c0000-0000-4000-8000-000000000001")
LONG_AGO = timedelta(days=30)


async def kim(ingest: Ingest, *, marketing: bool | None = True) -> None:
    """A customer of the directory, who agreed to marketing unless told otherwise."""
    at = now() - LONG_AGO
    changes: list[Any] = [CustomerUpserted(org_id=ORG, at=at, customer_id=KIM, name="Kim", phone=f"+{WA_ID}")]
    if marketing is not None:
        changes.append(ConsentChanged(org_id=ORG, at=at, customer_id=KIM, category="marketing", allowed=marketing))
    await ingest.publish_changes(*changes)
    await standing(ingest, {} if marketing is None else {"marketing": marketing}, customers=1)


async def standing(ingest: Ingest, wanted: Mapping[str, bool], customers: int = 0) -> None:
    """Wait until these consents stand, and no others."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            found = {
                row["category"]: row["allowed"] for row in await ingest.rows("select category, allowed from consents")
            }
            if found == wanted and len(await ingest.rows("select 1 from customers")) >= customers:
                return
            await asyncio.sleep(0.02)


def switched(value: str, at: datetime, **more: Any) -> dict[str, Any]:
    preference = {
        "wa_id": WA_ID,
        "detail": "…",
        "category": "marketing_messages",
        "value": value,
        "timestamp": int(at.timestamp()),
    }
    told = {name: part for name, part in (preference | more).items() if part is not None}
    return a_webhook(a_value(contacts=[a_contact()], user_preferences=[told]), field="user_preferences")


async def published_consents(ingest: Ingest, count: int) -> list[dict[str, Any]]:
    """What ingest itself published of consents, once there are ``count`` of them."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            changes = await ingest.published.events(DIRECTORY_CHANGES)
            ours = [one for one in changes if one.get("source") is not None]
            if len(ours) >= count:
                return ours
            await asyncio.sleep(0.02)


async def test_a_stop_in_whatsapp_itself_is_a_consent_with_a_trail_and_is_told(ingest: Ingest) -> None:
    await kim(ingest)
    at = now()
    for _ in range(2):
        assert await ingest.post(switched("stop", at)) == 200
    await standing(ingest, {"marketing": False})
    (published, *again) = await published_consents(ingest, 1)
    assert again == []
    assert ConsentChanged.model_validate(published) == ConsentChanged(
        org_id=ORG, at=at, customer_id=KIM, category="marketing", allowed=False, source="whatsapp", cause="preferences"
    )
    trail = await ingest.rows("select customer_id, action, detail, at from audit_log order by at")
    assert [dict(line) for line in trail][1:] == [
        {
            "customer_id": KIM,
            "action": "consent",
            "detail": {"category": "marketing", "allowed": False, "source": "whatsapp", "cause": "preferences"},
            "at": at,
        }
    ]
    assert await ingest.rows("select 1 from conversations") == []


async def test_consents_that_the_brokers_do_not_take_together_are_told_all_the_same(
    ingest: Ingest, topics: OwnTopics
) -> None:
    """An operator has lowered the topic's limit below what waits."""
    await topics.limit(DIRECTORY_CHANGES, 1000)
    webhook = switched("stop", now())
    webhook["entry"] = [
        entry for number in range(40) for entry in switched("stop", now(), wa_id=f"4477009{number:05}")["entry"]
    ]
    assert await ingest.post(webhook) == 200
    assert len({one["customer_id"] for one in await published_consents(ingest, 40)}) == 40


@pytest.mark.parametrize("value", ["resume", "signup"])
async def test_who_switches_marketing_on_again_has_it_on(ingest: Ingest, value: str) -> None:
    await kim(ingest)
    await ingest.post(switched("stop", now() - timedelta(minutes=2)))
    await standing(ingest, {"marketing": False})
    await ingest.post(switched(value, now()))
    await standing(ingest, {"marketing": True})


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_the_last_word_counts_in_whatever_order_it_comes(ingest: Ingest, order: tuple[int, ...]) -> None:
    await kim(ingest)
    words = ["stop", "resume", "stop"]
    at = now() - timedelta(minutes=5)
    for said in (*order, *order):
        await ingest.post(switched(words[said], at + timedelta(minutes=said)))
    await ingest.post(of_messages(a_message(now())))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    await standing(ingest, {"marketing": False})
    (row,) = await ingest.rows("select at from consents")
    assert row["at"] == at + timedelta(minutes=2)


async def test_what_the_directory_learnt_later_stays(ingest: Ingest) -> None:
    await kim(ingest)
    at = now()
    await ingest.publish_changes(ConsentChanged(org_id=ORG, at=at, customer_id=KIM, category="marketing", allowed=True))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await ingest.row("select at from consents"))["at"] != at:  # noqa: ASYNC110 -- a row, not an event
            await asyncio.sleep(0.02)
    await ingest.post(switched("stop", at - timedelta(minutes=1)))
    await ingest.post(of_messages(a_message(at - timedelta(minutes=2), "STOP")))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    await standing(ingest, {"marketing": True})


async def test_a_stop_counts_at_once_though_the_directory_dated_its_yes_ahead(ingest: Ingest) -> None:
    """A platform that calls its local time UTC dates everything an hour ahead."""
    await kim(ingest, marketing=None)
    ahead = now() + timedelta(hours=1)
    yes = ConsentChanged(org_id=ORG, at=ahead, customer_id=KIM, category="marketing", allowed=True)
    await ingest.publish_changes(yes)
    await standing(ingest, {"marketing": True})
    for _ in range(2):
        await ingest.post(of_messages(a_message(now(), "STOP")))
        await standing(ingest, {"marketing": False})
    (published, *again) = await published_consents(ingest, 1)
    assert again == []
    assert ConsentChanged.model_validate(published).at > ahead  # whoever has the platform's word takes it for newer
    await ingest.publish_changes(yes)
    late = yes.model_copy(update={"at": now(), "category": "transactional"})
    await ingest.publish_changes(late)
    await standing(ingest, {"marketing": False, "transactional": True})
    lines = await ingest.rows("select detail ->> 'allowed' as allowed from audit_log where action = 'consent'")
    assert sorted(line["allowed"] for line in lines) == ["false", "true", "true"]


async def test_a_stop_behind_a_yes_from_the_end_of_time_counts_and_is_told_once(ingest: Ingest) -> None:
    await kim(ingest, marketing=None)
    ever = datetime(9999, 12, 31, tzinfo=UTC)
    yes = ConsentChanged(org_id=ORG, at=ever, customer_id=KIM, category="marketing", allowed=True)
    await ingest.publish_changes(yes)
    await standing(ingest, {"marketing": True})
    await ingest.post(of_messages(a_message(now(), "STOP")))
    await standing(ingest, {"marketing": False})
    await published_consents(ingest, 1)

    async def is_told() -> bool:
        return not await ingest.rows("select 1 from consents where not published")

    await eventually_true(is_told)
    await ingest.publish_changes(yes, yes.model_copy(update={"category": "transactional"}))
    await standing(ingest, {"marketing": False, "transactional": True})


@pytest.mark.parametrize("text", ["STOP", " stop. ", "Unsubscribe", "STOPP"])
async def test_a_typed_stop_switches_marketing_off_and_nothing_else(ingest: Ingest, text: str) -> None:
    await kim(ingest)
    webhook = of_messages(a_message(now(), text))
    for copies in (1, 2):
        await ingest.post(webhook)
        published = await ingest.published.events(INBOUND_MESSAGES, copies)
        assert [one["keyword"] for one in published] == ["stop"] * copies
    await standing(ingest, {"marketing": False})
    assert published[0]["window"]["open"] is True
    (change,) = await published_consents(ingest, 1)
    assert (change["allowed"], change["source"], change["cause"]) == (False, "whatsapp", "keyword")
    assert len(await ingest.rows("select 1 from audit_log")) == 2


async def test_a_sentence_with_stop_in_it_is_a_sentence(ingest: Ingest) -> None:
    await kim(ingest)
    await ingest.post(of_messages(a_message(now(), "Can I stop by tomorrow?")))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert "keyword" not in published
    await standing(ingest, {"marketing": True})


@pytest.mark.parametrize(("before", "after"), [(True, True), (False, False), (None, False)])
async def test_start_gives_back_what_a_typed_stop_took_and_no_more(
    ingest: Ingest, *, before: bool | None, after: bool
) -> None:
    await kim(ingest, marketing=before)
    at = now() - timedelta(minutes=5)
    for minutes, text in enumerate(["stop", "Stop!", "start", "START"]):
        await ingest.post(of_messages(a_message(at + timedelta(minutes=minutes), text)))
        published = await ingest.published.events(INBOUND_MESSAGES, minutes + 1)
    assert [one["keyword"] for one in published] == ["stop", "stop", "start", "start"]
    await standing(ingest, {"marketing": after})


async def test_start_lifts_no_stop_that_was_not_typed(ingest: Ingest) -> None:
    await kim(ingest)
    await ingest.post(switched("stop", now() - timedelta(minutes=1)))
    await standing(ingest, {"marketing": False})
    await ingest.post(of_messages(a_message(now(), "start")))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    assert published["keyword"] == "start"
    await standing(ingest, {"marketing": False})


async def test_a_customer_without_a_number_is_known_by_the_user_id(ingest: Ingest) -> None:
    await ingest.post(of_messages(a_message(now(), from_user_id=BSUID), contacts=[a_contact(bsuid=BSUID)]))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    await ingest.post(switched("stop", now(), wa_id=None, user_id=BSUID))
    await standing(ingest, {"marketing": False})


async def test_a_stop_that_comes_after_the_first_message_with_the_user_id_is_heard(ingest: Ingest) -> None:
    await kim(ingest)
    await ingest.post(of_messages(a_message(now(), from_user_id=BSUID), contacts=[a_contact(bsuid=BSUID)]))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    late = switched("stop", now() - timedelta(minutes=1), wa_id=None, user_id=BSUID)
    del late["entry"][0]["changes"][0]["value"]["contacts"]  # Meta names no number
    await ingest.post(late)
    await standing(ingest, {"marketing": False})


async def test_a_stop_that_is_older_than_the_first_message_of_its_number_is_heard(ingest: Ingest) -> None:
    at = now()
    await ingest.post(of_messages(a_message(at)))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    (row,) = await ingest.rows("select customer_id from customers")
    consent = {"customer_id": row["customer_id"], "category": "marketing", "allowed": True}
    await ingest.publish_changes(ConsentChanged(org_id=ORG, at=at - LONG_AGO, **consent))
    await standing(ingest, {"marketing": True})
    await ingest.post(switched("stop", at - timedelta(minutes=5)))
    await standing(ingest, {"marketing": False})


async def test_a_stop_before_the_number_was_given_to_somebody_is_not_theirs(ingest: Ingest) -> None:
    await kim(ingest)
    other, at = "447700900222", now()
    moved = {"type": "user_changed_number", "body": f"Kim changed from {WA_ID} to {other}", "wa_id": other}
    await ingest.post(of_messages(a_message(at, type="system", system=moved), contacts=[]))
    await ingest.post(of_messages(a_message(at, **{"from": other}), contacts=[]))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    await ingest.post(switched("stop", at - timedelta(minutes=5), wa_id=other))
    async with asyncio.timeout(DEADLINE_SECONDS):
        while len(await ingest.rows("select 1 from consents")) < 2:  # noqa: ASYNC110 -- rows, not an event
            await asyncio.sleep(0.02)
    (row,) = await ingest.rows("select allowed from consents where customer_id = $1", KIM)
    assert row["allowed"] is True


@pytest.mark.parametrize("ids", [{}, {"wa_id": None, "user_id": BSUID}], ids=["number", "user id"])
@pytest.mark.parametrize("known", [LONG_AGO, timedelta(0)], ids=["of old", "as of now"])
async def test_a_stop_of_somebody_unknown_stands_when_the_directory_knows_them(
    ingest: Ingest, ids: dict[str, Any], known: timedelta
) -> None:
    at = now()
    stop = switched("stop", at - timedelta(minutes=5), **ids)
    if ids:
        del stop["entry"][0]["changes"][0]["value"]["contacts"]
    await ingest.post(stop)
    await standing(ingest, {"marketing": False}, customers=1)
    assert await ingest.rows("select 1 from conversations") == []
    consent = {"customer_id": KIM, "category": "marketing", "allowed": True}
    await ingest.publish_changes(
        CustomerUpserted(org_id=ORG, at=at - known, customer_id=KIM, name="Kim", phone=f"+{WA_ID}"),
        ConsentChanged(org_id=ORG, at=at - LONG_AGO, **consent),
    )
    await ingest.post(of_messages(a_message(at, from_user_id=BSUID), contacts=[a_contact(bsuid=BSUID)]))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    async with asyncio.timeout(DEADLINE_SECONDS):
        while [tuple(row) for row in await ingest.rows("select customer_id from customers")] != [(KIM,)]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await standing(ingest, {"marketing": False})


async def test_a_resume_of_somebody_unknown_changes_nothing(ingest: Ingest) -> None:
    await ingest.post(switched("resume", now()))
    await ingest.post(of_messages(a_message(now(), **{"from": "447700900111"}), contacts=[]))
    await ingest.published.events(INBOUND_MESSAGES, 1)
    assert len(await ingest.rows("select 1 from customers")) == 1
    assert await ingest.rows("select 1 from consents") == []


STOPPED = [{"code": 131050, "title": "User has stopped marketing messages"}]


@pytest.mark.parametrize("early", [False, True], ids=["after its id", "before its id"])
async def test_metas_word_that_the_customer_stopped_marketing_is_a_consent(ingest: Ingest, *, early: bool) -> None:
    await kim(ingest)
    await ingest.post(of_messages(a_message(now() - timedelta(hours=1))))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    conversation, at, message_id = UUID(published["conversation_id"]), now(), uuid4()
    ours = {"biz_opaque_callback_data": callback_data(ORG, message_id, 1)}
    webhook = a_webhook(a_value(statuses=[a_status("wamid.promo", "failed", at, errors=STOPPED, **ours)]))
    if early:
        await ingest.post(webhook)
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not await ingest.rows("select 1 from early_statuses"):  # noqa: ASYNC110 -- a row, not an event
                await asyncio.sleep(0.02)
    await sent(ingest.pool, conversation, "wamid.promo", message_id, kind="template")
    for _ in range(2):
        await ingest.post(webhook)
    await standing(ingest, {"marketing": False})
    (change,) = await published_consents(ingest, 1)
    assert ConsentChanged.model_validate(change) == ConsentChanged(
        org_id=ORG, at=at, customer_id=KIM, category="marketing", allowed=False, source="whatsapp", cause="refusal"
    )
    assert len(await ingest.rows("select 1 from audit_log")) == 2


async def test_an_old_refusal_does_not_undo_a_newer_word(ingest: Ingest) -> None:
    await kim(ingest)
    await ingest.post(of_messages(a_message(now() - timedelta(hours=1))))
    (published,) = await ingest.published.events(INBOUND_MESSAGES, 1)
    await sent(ingest.pool, UUID(published["conversation_id"]), "wamid.promo", kind="template")
    await ingest.post(switched("resume", now()))
    refused = a_status("wamid.promo", "failed", now() - timedelta(minutes=30), errors=STOPPED)
    await ingest.post(a_webhook(a_value(statuses=[refused])))
    await ingest.post(of_messages(a_message(now())))
    await ingest.published.events(INBOUND_MESSAGES, 2)
    await standing(ingest, {"marketing": True})
