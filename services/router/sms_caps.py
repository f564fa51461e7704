"""What the caps on SMS make of decisions: an organisation's day, a conversation's hour. Pure.

Rule 1: only an intent that would go by SMS asks. So the caps cost the others nothing.
Rule 2: the intents of a batch take their segments one after the other. What does not fit is decided again on the
        completed facts: it goes another way, or is silent as ``spend_cap_reached``.
Rule 3: a conversation has one bridge at most, so its later bridges of a batch count nothing. They are judged as the
        first was.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from libs.common.countries import country_of
from libs.common.events.intents import Intent
from libs.common.sms_policy import Answers, SegmentRate, Taken
from services.router.decide import Bridge, Decision, Session, decide, sms_parts
from services.router.facts import Attempt

NO_ANSWERS = Answers(0, 0)


@dataclass(slots=True)
class SmsUse:
    """What the decisions of a batch take: segments by intent, answers by conversation."""

    taken: dict[int, Taken] = field(default_factory=dict)
    """By the attempt's place in the batch."""
    answers: Counter[tuple[str, UUID]] = field(default_factory=Counter)


def asking(
    attempts: Sequence[Attempt], decisions: Sequence[Decision], refused: Collection[UUID]
) -> list[tuple[int, Attempt]]:
    """The intents that would go by SMS, with their places in the batch.

    ``refused``: conversations whose slot a bridge holds, as Redis and PostgreSQL agree. Their bridges take nothing.
    """
    return [
        (index, attempt)
        for index, (attempt, decision) in enumerate(zip(attempts, decisions, strict=True))
        if is_sms(decision) and not (isinstance(decision, Bridge) and attempt.facts.conversation_id in refused)
    ]


def is_sms(decision: Decision) -> bool:
    """Whether the decision buys an SMS."""
    match decision:
        case Session(channel="sms") | Bridge():
            return True
        case _:
            return False


def apply_caps(
    decisions: Sequence[Decision],
    asked: Sequence[tuple[int, Attempt]],
    *,
    spent: Mapping[str, int],
    answers: Mapping[UUID, Answers],
    rates: Mapping[str, SegmentRate],
    now: datetime,
) -> tuple[list[Decision], SmsUse]:
    """The decisions within the caps, and what they take. The facts of the attempts that asked are completed.

    ``rates`` are by country.
    """
    found, use = list(decisions), SmsUse()
    running = Counter(spent)
    bridged: dict[UUID, int] = {}
    for index, attempt in asked:
        intent, conversation_id, policy = attempt.intent, attempt.facts.conversation_id, attempt.sms_policy
        if conversation_id is None or policy is None:
            raise ValueError("an intent that would go by SMS has a conversation and an organisation")
        before = found[index]
        at = bridged.get(conversation_id, running[intent.org_id]) if isinstance(before, Bridge) else None
        had = answers.get(conversation_id, NO_ANSWERS)
        more = use.answers[intent.org_id, conversation_id]
        parts = 1 if isinstance(before, Bridge) or not isinstance(intent, Intent) else sms_parts(intent)
        rate = rates.get(country_of(attempt.facts.phone or ""))
        attempt.facts = attempt.facts._replace(
            sms_spent=running[intent.org_id] if at is None else at,
            sms_daily_segments=policy.daily_segments,
            sms_answers_hour=had.hour + more,
            sms_answers_day=had.day + more,
            sms_hourly_answers=policy.hourly_answers,
            sms_segments=parts,
            sms_estimate=None if rate is None else f"{rate.price * parts:f} {rate.currency}",
        )
        found[index] = decided = decide(intent, attempt.facts, now)
        segments = 0
        match decided:
            case Session(channel="sms") if isinstance(intent, Intent):
                segments = sms_parts(intent)
                use.answers[intent.org_id, conversation_id] += 1
            case Bridge() if conversation_id not in bridged:
                bridged[conversation_id] = running[intent.org_id]
                segments = 1
            case _:
                pass
        if segments:
            running[intent.org_id] += segments
            bridges = 1 if isinstance(decided, Bridge) else 0
            use.taken[index] = attempt.counted = Taken(intent.org_id, now.date(), segments, bridges)
    return found, use
