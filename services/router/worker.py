"""Handles batches of intents and of refusals: read the facts, decide, record once, tell what stands recorded.

Round trips, whatever the size of the batch: two to Postgres (facts; decisions and messages in one statement, which is its own transaction). Where an
intent would be a bridge, one to Redis and four more to Postgres (begin, conversations, slots, commit); where a contact is the first, up to six more; where
an intent was decided before, one more (what stands). A batch of refusals costs one more (its messages locked) and a begin and a commit.

Rule 1: what is published was committed before, and comes from what stands recorded, now or from an earlier try.
Rule 2: the same intent id twice in a batch is one message: the first counts, and it is told once.
Rule 3: whoever loses a race for an intent after slots or conversations were touched undoes all of it and reads again.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common import metrics
from libs.common.bridge import queries as slot_queries
from libs.common.bridge.redis_gate import RedisGate
from libs.common.clock import Clock
from libs.common.db.pool import Connection, Pool
from libs.common.errors import Transient
from libs.common.events.intents import BadIntent, Intent, decode_intent
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.records import RawRecord, Received
from libs.common.logging import get_logger
from libs.common.phone import normalise
from services.router import contacts, queries
from services.router.contacts import Contact
from services.router.decide import Decision, Rejected, decide
from services.router.outcome import Case, outcome
from services.router.present import Event, Standing, just_recorded, present
from services.router.queries import Key, Question, WindowRule
from services.router.slots import Alignment, alignment, judged, wanted

log = get_logger()

_FAULT_IN_LOG = 200  # characters


@dataclass(frozen=True, slots=True)
class Deps:
    """What the handlers work with."""

    pool: Pool
    redis_gate: RedisGate
    producer: Producer
    now: Clock
    window_length: timedelta
    margin: timedelta
    doubt: timedelta

    @property
    def rule(self) -> WindowRule:
        return WindowRule(self.window_length, self.margin, self.doubt)


def read_intent(record: RawRecord) -> Intent | BadIntent:
    """The intent in a record. Raises Undecodable when there is nobody to answer."""
    return decode_intent(record.value)


async def on_intents(batch: Sequence[Received[Intent | BadIntent]], deps: Deps) -> None:
    """Decide each intent once; tell what stands recorded."""
    arrived: dict[Key, Received[Intent | BadIntent]] = {}
    for received in batch:
        arrived.setdefault((received.value.org_id, received.value.intent_id), received)
    questions = [Question(received.value, 1) for received in arrived.values()]
    async with deps.pool.acquire() as db:
        answers = await queries.facts_for(db, questions, deps.rule)
        now = deps.now()
        fresh = [
            Case(question.intent.bounded(now), answer.facts, 1, answer.sequence)
            for question, answer in zip(questions, answers, strict=True)
            if not answer.decided
        ]
        found, aligned = await decide_and_record(db, fresh, deps, now)
        missing = [(*key, 1) for key in arrived if key not in found]
        found |= {s.key: s for s in await queries.standing(db, missing)}
    await deps.redis_gate.sync(*aligned)
    await tell(deps, (event for key in arrived for event in present(found[key])))
    for key, received in arrived.items():
        log_decision(found[key], received.record, now, _fault_of(received.value))


async def decide_and_record(
    db: Connection, cases: Sequence[Case], deps: Deps, now: datetime, *, again: bool = False
) -> tuple[dict[Key, Standing], Alignment]:
    """Decide these cases, and record those that nobody else has recorded; what was recorded, and how Redis must follow after the commit.

    ``again``: the cases are later attempts, and the caller's transaction holds their messages.
    """
    if not cases:
        return {}, Alignment()
    decisions = [decide(case.intent, case.facts, now) for case in cases]
    asked = wanted(cases, decisions)
    redis = await deps.redis_gate.acquire(asked)
    strangers = [case for case, decision in zip(cases, decisions, strict=True) if _is_stranger(case, decision)]
    aligned = Alignment()
    async with AsyncExitStack() as transaction:
        if (asked or strangers) and not again:
            await transaction.enter_async_context(db.transaction())
        if strangers:
            await _open_conversations(db, strangers, now)
        if asked:
            if not await slot_queries.hold_conversations(db, asked):
                raise Transient("a conversation was merged meanwhile")
            holders = await slot_queries.take(db, asked, now)
            decisions = judged(cases, decisions, holders, now)
            aligned = alignment(asked, redis, holders)
        rows = [outcome(case, decision, now) for case, decision in zip(cases, decisions, strict=True)]
        seqs = await (queries.record_again if again else queries.record_first)(db, rows, now)
        if len(seqs) < len(rows) and (asked or strangers or again):
            raise Transient("another router decides the same intents at this moment")
    found = {row[:2]: just_recorded(row, seqs[row[:2]], now) for row in rows if row[:2] in seqs}
    for (route, reason), number in Counter((s.route, s.reason) for s in found.values()).items():
        metrics.count("transom_decisions_total", number, route=route, reason=reason)
    return found, aligned


async def tell(deps: Deps, events: Iterable[Event]) -> None:
    """Publish, and return when everything is acknowledged."""
    await deps.producer.publish([Record(*event) for event in events])


def log_decision(found: Standing, record: RawRecord, now: datetime, fault: str | None = None) -> None:
    """``fault``: which fields of the intent are wrong, and how; never their values."""
    log.info(
        "intent.decided",
        org_id=found.org_id,
        conversation_id=found.conversation_id,
        intent_id=found.intent_id,
        attempt=found.attempt,
        route=found.route,
        channel=found.channel,
        reason=found.reason,
        lag_ms=record.lag_ms(int(now.timestamp() * 1000)),
        **({} if fault is None else {"detail": fault[:_FAULT_IN_LOG]}),
    )


def _fault_of(intent: Intent | BadIntent) -> str | None:
    return intent.detail if isinstance(intent, BadIntent) else None


def _is_stranger(case: Case, decision: Decision) -> bool:
    """Whether a conversation must be opened: whatever is not rejected belongs into a thread."""
    return case.facts.conversation_id is None and not isinstance(decision, Rejected)


async def _open_conversations(db: Connection, cases: Sequence[Case], now: datetime) -> None:
    opened = await contacts.open_conversations(db, [_contact(case) for case in cases], now)
    for case, (conversation_id, customer_id) in zip(cases, opened, strict=True):
        case.facts = case.facts._replace(conversation_id=conversation_id, customer_id=customer_id)


def _contact(case: Case) -> Contact:
    to = case.intent.to if isinstance(case.intent, Intent) else None
    phone = None if to is None else normalise(to.phone)
    if to is None or phone is None:
        raise ValueError("an intent that is not rejected names a conversation or a phone number")
    return Contact(case.intent.org_id, to.phone_number_id, phone, case.facts.customer_id)
