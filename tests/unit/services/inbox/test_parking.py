"""Which failures wait for the window, and as which messages they go when it opens."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.content import MAX_TEXT
from libs.common.ids import release_intent_id
from services.inbox.parking import Ended, ParkedText, parcels, waits

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
CONVERSATION = UUID(int=7)
MINUTE = timedelta(minutes=1)


def failure(**changes: Any) -> Ended:
    fields = {"kind": "text", "actor": "staff", "channel": "whatsapp", "reason": "window_expired_bridge_sent"}
    return Ended(**{"provider_code": None} | fields | changes)


def text(words: str = "Hi.", *, minute: int = 0, **changes: Any) -> ParkedText:
    fields: dict[str, Any] = {
        "org_id": "acme",
        "conversation_id": CONVERSATION,
        "message_id": uuid4(),
        "kind": "failed",
        "actor": "staff",
        "user_id": "priya",
        "content": {"kind": "text", "text": words},
        "reason": "window_expired_bridge_sent",
        "written_at": NOW + minute * MINUTE,
        "parked_at": NOW,
        "expires_at": NOW + timedelta(days=30),
    }
    return ParkedText(**fields | changes)


@pytest.mark.parametrize(
    "reason",
    [
        "window_expired_bridge_sent",
        "window_expired_bridge_failed",
        "window_expired_bridge_already_sent",
        "window_expired_credit_exhausted",
        "window_expired_no_phone",
        "window_expired_sms_opted_out",
        "window_expired_never_contacted",
        "whatsapp_unreachable_bridge_sent",
    ],
)
@pytest.mark.parametrize("actor", ["ai", "staff"])
def test_what_found_whatsapp_closed_waits(reason: str, actor: str) -> None:
    assert waits(failure(reason=reason, actor=actor))


@pytest.mark.parametrize(
    "changes",
    [
        {"reason": "intent_expired"},
        {"reason": "conversation_held"},
        {"reason": "whatsapp_consent_off"},
        {"reason": "not_permitted"},
        {"reason": "unknown_outcome"},
        {"reason": None},
        {"kind": "template"},
        {"kind": "bridge"},
        {"kind": "reaction"},
        {"kind": "of_a_later_release"},
        {"actor": "system"},
        {"actor": None},
        {"channel": "sms"},
        {"channel": "portal"},
        {"reason": "provider_refused", "provider_code": "131026"},
        {"reason": "provider_refused", "provider_code": None},
    ],
)
def test_every_other_failure_waits_for_nothing(changes: dict[str, Any]) -> None:
    assert not waits(failure(**changes))


def test_what_meta_refused_in_the_end_because_the_window_was_closed_waits() -> None:
    assert waits(failure(reason="provider_refused", provider_code="131047"))


def test_texts_become_one_message_the_oldest_first() -> None:
    two, one = text("Two.", minute=2), text("One.", minute=1)
    (parcel,) = parcels([two, one])
    assert parcel.content == {"kind": "text", "text": "One.\n\nTwo."}
    assert parcel.message_ids == (one.message_id, two.message_id)
    assert parcel.intent_id == release_intent_id("acme", [two.message_id, one.message_id])


def test_what_is_no_text_goes_in_its_place_as_a_message_of_its_own() -> None:
    image = {"kind": "image", "link": "https://example.org/a.png"}
    given_in = [text("One."), text("Two.", minute=1), text(minute=2, content=image), text("Three.", minute=3)]
    assert [parcel.content.get("text") for parcel in parcels(given_in)] == ["One.\n\nTwo.", None, "Three."]


def test_a_text_that_has_no_room_begins_the_next_message() -> None:
    sizes = [len(parcel.content["text"]) for parcel in parcels([text("x" * 2047), text("y" * 2047, minute=1)])]
    assert sizes == [MAX_TEXT]
    full = parcels([text("x" * 2047), text("y" * 2048, minute=1), text("z", minute=2)])
    assert [len(parcel.content["text"]) for parcel in full] == [2047, 2051]


def test_a_link_s_preview_is_kept_when_texts_are_joined() -> None:
    with_preview = {"kind": "text", "text": "https://example.org", "preview_url": True}
    (parcel,) = parcels([text("See:"), text(minute=1, content=with_preview)])
    assert parcel.content == {"kind": "text", "text": "See:\n\nhttps://example.org", "preview_url": True}


def test_a_release_is_of_staff_where_any_text_is_and_expires_with_the_first() -> None:
    (parcel,) = parcels(
        [
            text(minute=1, user_id="marek", expires_at=NOW + MINUTE),
            text(user_id="priya"),
            text(minute=2, actor="ai", user_id=None),
        ]
    )
    assert (parcel.actor, parcel.user_id, parcel.expires_at) == ("staff", "marek", NOW + MINUTE)
    (parcel,) = parcels([text(actor="ai", user_id=None)])
    assert (parcel.actor, parcel.user_id) == ("ai", None)


def test_what_was_tried_before_goes_under_the_same_id_and_without_other_company() -> None:
    tried = uuid4()
    company = [text("One."), text("Tried.", minute=1, intent_id=tried), text("Three.", minute=2)]
    assert [(p.content["text"], p.intent_id == tried) for p in parcels(company)] == [
        ("One.", False),
        ("Tried.", True),
        ("Three.", False),
    ]


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.sampled_from([1, 5, 2000, MAX_TEXT]),
            st.sampled_from([None, UUID(int=1)]),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_each_text_goes_once_in_order_and_in_a_message_that_can_be_sent(
    drawn: list[tuple[int, int, UUID | None, bool]], random: Any
) -> None:
    given_in = [
        text("x" * size, minute=minute, intent_id=tried if is_text else None)
        if is_text
        else text(minute=minute, content={"kind": "sticker", "media_id": "1"})
        for minute, size, tried, is_text in drawn
        if tried is None or size == 1
    ]
    found = parcels(given_in)
    carried = [one for parcel in found for one in parcel.message_ids]
    assert sorted(carried) == sorted(one.message_id for one in given_in)
    assert len({parcel.intent_id for parcel in found}) == len(found)
    assert all(len(parcel.content.get("text", "")) <= MAX_TEXT for parcel in found)
    untried = sorted((t for t in given_in if t.intent_id is None), key=lambda t: (t.written_at, t.message_id))
    assert [one for one in carried if one in {t.message_id for t in untried}] == [t.message_id for t in untried]
    random.shuffle(given_in)
    assert parcels(given_in) == found
