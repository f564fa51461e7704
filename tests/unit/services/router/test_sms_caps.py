"""The caps on SMS: the intents of a batch take their segments one after the other."""

from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from libs.common.sms_policy import Answers, SegmentRate, SmsPolicy, Taken
from services.router.decide import Bridge, Decision, Session, Silent, decide
from services.router.facts import Attempt
from services.router.sms_caps import SmsUse, apply_caps, asking, is_sms
from tests.unit.services.router.builders import NOW, THREE_SEGMENTS, an_intent, closed_facts

CAPPED = Silent("spend_cap_reached")


def an_attempt(conversation: UUID | None = None, policy: SmsPolicy | None = None, **intent: Any) -> Attempt:
    at = conversation or uuid4()
    return Attempt(
        an_intent(intent_id=uuid4(), conversation_id=at, **intent),
        1,
        1,
        closed_facts(conversation_id=at, sms_countries=("GB",)),
        sms_policy=policy or SmsPolicy(("GB",), 500, 6),
    )


def capped(
    attempts: list[Attempt], spent: int = 0, answers: dict[UUID, Answers] | None = None
) -> tuple[list[Decision], SmsUse]:
    decisions = [decide(one.intent, one.facts, NOW) for one in attempts]
    asked = asking(attempts, decisions, ())
    rates = {"GB": SegmentRate(Decimal("0.04"), "GBP")}
    return apply_caps(decisions, asked, spent={"acme": spent}, answers=answers or {}, rates=rates, now=NOW)


@given(st.integers(0, 12), st.lists(st.sampled_from(["bridge", "short", "long"]), max_size=20))
def test_a_batch_never_takes_more_than_is_left(left: int, kinds: list[str]) -> None:
    long = {"channel": "sms", "content": THREE_SEGMENTS}
    changes: dict[str, dict[str, Any]] = {"bridge": {}, "short": {"channel": "sms"}, "long": long}
    attempts = [an_attempt(**changes[kind]) for kind in kinds]
    decisions, use = capped(attempts, 500 - left)
    assert sum(taken.segments for taken in use.taken.values()) <= left
    for at, decision in enumerate(decisions):
        assert is_sms(decision) == (at in use.taken)
        assert is_sms(decision) or decision == CAPPED
        assert decide(attempts[at].intent, attempts[at].facts, NOW) == decision  # as it will be stored
    used = 0
    for at, kind in enumerate(kinds):
        parts = 3 if kind == "long" else 1
        assert (at in use.taken) == (used + parts <= left)
        used += parts if at in use.taken else 0


def test_later_bridges_of_a_conversation_count_nothing_and_are_judged_as_the_first() -> None:
    conversation = uuid4()
    attempts = [an_attempt(conversation) for _ in range(3)] + [an_attempt()]
    decisions, use = capped(attempts, 499)
    assert decisions == [Bridge(), Bridge(), Bridge(), CAPPED]
    assert use.taken == {0: Taken("acme", NOW.date(), 1, 1)}


def test_the_seventh_answer_of_an_hour_is_silent_and_so_is_the_bridge_beside_it() -> None:
    conversation = uuid4()
    attempts = [an_attempt(conversation, channel="sms") for _ in range(4)] + [an_attempt(conversation)]
    decisions, use = capped(attempts, answers={conversation: Answers(3, 3)})
    assert decisions == [*[Session("sms", "live_channel")] * 3, CAPPED, CAPPED]
    assert use.answers == {("acme", conversation): 3}


def test_the_twenty_first_answer_of_a_day_is_silent_whatever_the_policy_says() -> None:
    conversation = uuid4()
    attempts = [an_attempt(conversation, SmsPolicy(("GB",), 500, 1000), channel="sms") for _ in range(3)]
    decisions, _ = capped(attempts, answers={conversation: Answers(0, 18)})
    assert decisions == [*[Session("sms", "live_channel")] * 2, CAPPED]


def test_a_bridge_whose_slot_is_known_to_be_held_asks_nothing() -> None:
    attempt = an_attempt()
    conversation = attempt.facts.conversation_id
    assert conversation is not None
    assert asking([attempt], [Bridge()], {conversation}) == []
    assert asking([attempt], [Session("whatsapp", "window_open")], ()) == []
    assert asking([attempt], [Session("sms", "live_channel")], {conversation}) == [(0, attempt)]


def test_an_answer_beside_a_bridge_takes_what_the_bridge_has_left() -> None:
    conversation = uuid4()
    attempts = [an_attempt(conversation), an_attempt(conversation, channel="sms")]
    assert capped(attempts, 498)[0] == [Bridge(), Session("sms", "live_channel")]
    assert capped(attempts, 499)[0] == [Bridge(), CAPPED]


def test_segments_and_price_are_known_before_anything_is_sent() -> None:
    attempts = [an_attempt(), an_attempt(channel="sms", content=THREE_SEGMENTS)]
    _, use = capped(attempts)
    assert list(use.taken.values()) == [Taken("acme", NOW.date(), 1, 1), Taken("acme", NOW.date(), 3, 0)]
    assert [(one.facts.sms_segments, one.facts.sms_estimate) for one in attempts] == [(1, "0.04 GBP"), (3, "0.12 GBP")]


def test_a_bridge_is_one_segment_however_long_the_text_is_that_it_stands_for() -> None:
    attempt = an_attempt(content=THREE_SEGMENTS)
    assert capped([attempt], 499)[0] == [Bridge()]
    assert (attempt.facts.sms_segments, attempt.facts.sms_estimate) == (1, "0.04 GBP")


def test_a_cap_counts_the_segments_of_the_text() -> None:
    intent = an_intent(channel="sms", content=THREE_SEGMENTS)
    for spent, decided in ((497, Session("sms", "live_channel")), (498, Silent("spend_cap_reached"))):
        found = closed_facts(sms_countries=("GB",), sms_spent=spent, sms_daily_segments=500)
        assert decide(intent, found, NOW) == decided
