"""Handles batches of intents and of refusals: read the facts, decide, record once, tell what stands recorded.

Round trips, whatever the size of the batch: two to PostgreSQL (facts; decisions and messages in one statement, which is its own transaction).
Further ones are made

- where an intent would be a bridge: one to Redis; and, unless Redis refuses every such intent of the batch (``libs.common.bridge.slot``), four to
  PostgreSQL (begin, conversations, slots, commit);
- where a contact is the first: up to six;
- where an intent was decided before: one (what stands);
- in a batch of refusals: three (begin, its messages locked, commit).

Rule 1: what is published was committed before, and comes from what stands recorded, now or from an earlier try.
Rule 2: the same intent id twice in a batch is one message: the first counts, and it is told once.
Rule 3: a batch that loses a race for an intent after slots or conversations were touched is undone and read again. The same holds for an intent that
        Redis refused, where the holder gives its slot back meanwhile.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common import metrics
from libs.common.bridge import queries as slot_queries
from libs.common.bridge.redis_gate import RedisGate
from libs.common.bridge.slot import Slot, refused_by_redis, stale_in_redis
from libs.common.clock import Clock
from libs.common.db.pool import Connection, Pool
from libs.common.errors import Transient
from libs.common.events.intents import BadIntent, Intent, decode_intent
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.records import RawRecord, Received
from libs.common.logging import get_logger
from libs.common.phone import normalise
from services.router import contacts, queries
from services.router.bridging import apply_holders, bridge_requests, known_holders
from services.router.contacts import Contact
from services.router.decide import Decision, Rejected, decide
from services.router.outcome import Case, outcome
from services.router.present import Event, Standing, just_recorded, present
from services.router.queries import Key, Question, WindowRule

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
        now = deps.now()
        answers = await queries.facts_for(db, questions, deps.rule, now)
        fresh = [
            Case(question.intent.bounded(now), answer.facts, 1, answer.sequence, known_holder=answer.slot_holder)
            for question, answer in zip(questions, answers, strict=True)
            if not answer.decided
        ]
        found, stale = await decide_and_record(db, fresh, deps, now)
        missing = [(*key, 1) for key in arrived if key not in found]
        found |= {s.key: s for s in await queries.standing(db, missing)}
    await deps.redis_gate.sync(held=stale)
    await tell(deps, (event for key in arrived for event in present(found[key])))
    for key, received in arrived.items():
        log_decision(found[key], received.record, now, _fault_of(received.value))


async def decide_and_record(
    db: Connection, cases: Sequence[Case], deps: Deps, now: datetime, *, again: bool = False
) -> tuple[dict[Key, Standing], list[Slot]]:
    """Decide these cases, and record those that are not recorded yet.

    Returns what was recorded, and the slots that Redis must be set to after the commit.
    ``again``: the cases are later attempts, and the caller's transaction holds their messages.
    """
    if not cases:
        return {}, []
    decisions = [decide(case.intent, case.facts, now) for case in cases]
    requests = bridge_requests(cases, decisions)
    redis_holders = await deps.redis_gate.acquire(requests)
    holders = refused_by_redis(requests, redis_holders, known_holders(cases))
    strangers = [case for case, decision in zip(cases, decisions, strict=True) if _is_stranger(case, decision)]
    locking = bool(strangers) or len(holders) < len(requests)
    async with AsyncExitStack() as transaction:
        if locking and not again:
            await transaction.enter_async_context(db.transaction())
        if strangers:
            await _open_conversations(db, strangers, now)
            requests = bridge_requests(cases, decisions)
        if len(holders) < len(requests):
            # all of them, also what Redis refused: one statement locks the slots of a batch in their order
            if not await slot_queries.hold_conversations(db, requests):
                raise Transient("a conversation was merged meanwhile")
            holders = await slot_queries.take(db, requests, now)
        decisions = apply_holders(cases, decisions, holders, now)
        rows = [outcome(case, decision, now) for case, decision in zip(cases, decisions, strict=True)]
        seqs = await (queries.record_again if again else queries.record_first)(db, rows, now)
        lost = [row for row in rows if row[:2] not in seqs]
        if lost and (locking or again or any(row.slot_holder is not None for row in lost)):
            raise Transient("another router decides the same intents, or a bridge slot is given back, at this moment")
    found = {row[:2]: just_recorded(row, seqs[row[:2]], now) for row in rows if row[:2] in seqs}
    for (route, reason), number in Counter((s.route, s.reason) for s in found.values()).items():
        metrics.DECISIONS.labels(route=route, reason=reason).inc(number)
    return found, stale_in_redis(requests, redis_holders, holders)


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
