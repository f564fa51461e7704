from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.directory import ConversationHeld, CustomerUpserted
from libs.common.events.inbound import InboundMessage
from libs.common.events.outbound import DeliveryUpdate, OutboundDecision
from libs.common.ids import bridge_message_id
from services.inbox.feed import Change, Mark, changes_of

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
CONVERSATION, MESSAGE = uuid4(), uuid4()
FEED = UUID("0193a5b0-7c1e-7000-8000-000000000001")


@given(st.uuids(), st.integers(0, 10**18 - 1))
def test_a_mark_is_read_as_it_was_written(feed: UUID, change: int) -> None:
    assert Mark.read(str(Mark(feed, change))) == Mark(feed, change)


@pytest.mark.parametrize("raw", [None, "", "12", f"{FEED}-1", f"{FEED.hex}--1", f"{FEED.hex}-1 ", "a" * 5000])
def test_what_is_no_mark_is_none(raw: str | None) -> None:
    assert Mark.read(raw) is None


def test_every_event_of_a_conversation_is_a_change_and_no_other_is() -> None:
    window = {"opened_at": None, "closes_at": None, "open": False}
    inbound = InboundMessage.model_validate(
        {
            "message_id": MESSAGE,
            "org_id": "acme",
            "conversation_id": CONVERSATION,
            "customer_id": None,
            "channel": "sms",
            "provider_id": "SM1",
            "content": {"kind": "text", "text": "hello"},
            "reply_to": None,
            "sent_at": NOW,
            "received_at": NOW,
            "window": window,
        }
    )
    decision = OutboundDecision(
        intent_id=MESSAGE,
        attempt=1,
        org_id="acme",
        conversation_id=CONVERSATION,
        route="silent",
        channel=None,
        reason="no_phone",
        window=None,
        decided_at=NOW,
    )
    update = DeliveryUpdate(
        message_id=MESSAGE, org_id="acme", conversation_id=CONVERSATION, channel="sms", seq=1, status="sent", at=NOW
    )
    held = ConversationHeld(org_id="acme", at=NOW, conversation_id=CONVERSATION, user_id="olga", until=NOW)
    nowhere = update.model_copy(update={"conversation_id": None})
    rejected = decision.model_copy(update={"conversation_id": None})
    customer = CustomerUpserted(org_id="acme", at=NOW, customer_id=uuid4())
    assert list(changes_of([inbound, decision, nowhere, update, rejected, customer, held])) == [
        Change("acme", CONVERSATION, MESSAGE, "message"),
        Change("acme", CONVERSATION, MESSAGE, "message"),
        Change("acme", CONVERSATION, MESSAGE, "update"),
        Change("acme", CONVERSATION, None, "conversation"),
    ]


def test_the_bridge_that_stands_in_for_a_message_is_told_with_it() -> None:
    failed = DeliveryUpdate(
        message_id=MESSAGE,
        org_id="acme",
        conversation_id=CONVERSATION,
        channel="whatsapp",
        seq=1,
        status="failed",
        reason="window_expired_bridge_sent",
        at=NOW,
    )
    assert list(changes_of([failed])) == [
        Change("acme", CONVERSATION, MESSAGE, "update"),
        Change("acme", CONVERSATION, bridge_message_id(MESSAGE), "message"),
    ]
    refused = failed.model_copy(update={"reason": "window_expired_bridge_failed"})
    assert [change.message_id for change in changes_of([refused])] == [MESSAGE]
