"""Handles batches of intents and of refusals: read the facts, decide, record once, publish what stands recorded.

Round trips, whatever the size of the batch: two to PostgreSQL (facts; decisions and messages in one statement, which is
its own transaction). Further ones are made

- where an intent would be a bridge: one to Redis; and, unless Redis refuses every such intent of the batch
  (``libs.common.bridge.slot``), four to PostgreSQL (begin, conversations, slots, commit);
- where an intent would go by SMS, bridges that Redis refuses excepted: four more for the caps (days locked, answers
  and rates read, days written), one where it is an answer, and begin and commit;
- where a contact is the first: up to six;
- where an intent was decided before: one (what stands recorded);
- in a batch of refusals: three (begin, its messages locked, commit).

Rule 1: events are built from committed rows, of this try or an earlier one.
Rule 2: the same intent id twice in a batch is one message: the first counts, and it is published once.
Rule 3: a batch that loses a race for an intent after slots or conversations were touched is rolled back and read again.
        The same holds for an intent that Redis refused, where the holder gives its slot back meanwhile.
Rule 4: a refused attempt is decided again, as the next attempt, exactly once (``refusal_actions``). A redelivered
        refusal publishes again what was decided for the next attempt.
Rule 5: a refusal is kept in ``refusals`` until the next decision is published. ``reconcile`` takes lost ones from
        there.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from libs.common import metrics
from libs.common.bridge import queries as slot_queries
from libs.common.bridge.redis_gate import RedisGate
from libs.common.bridge.slot import Slot, refused_by_redis, stale_in_redis
from libs.common.clock import Clock
from libs.common.countries import country_of
from libs.common.db.pool import Connection, Pool
from libs.common.errors import Transient
from libs.common.events.intents import BadIntent, Intent, decode_intent
from libs.common.events.outbound import NewStatus, OutboundRefused
from libs.common.events.topics import DELIVERY_UPDATES, OUTBOUND_DECISIONS, OUTBOUND_SMS, OUTBOUND_WHATSAPP
from libs.common.ids import AttemptKey, MessageKey
from libs.common.kafka.producer import Producer, Record
from libs.common.kafka.records import RawRecord, Received, Reject
from libs.common.logging import get_logger
from libs.common.sending import refusals, refused_windows
from libs.common.sending import sms_caps as day_queries
from libs.common.sending.refused_windows import RefusedSend
from libs.common.sending.sms_charges import segment_rates
from libs.common.thread.message_status import PROVIDER_REFUSED
from libs.common.thread.messages import LocalFailure, fail_locally
from services.router import contacts, queries, sms_caps
from services.router.bridging import apply_holders, bridge_requests, known_holders
from services.router.decide import Decision, Rejected, decide
from services.router.fact_queries import WindowRule, attempts_of
from services.router.facts import Attempt
from services.router.media_order import MediaOrder
from services.router.recorded_decision import RecordedDecision, intent_of, record_of
from services.router.refusal_actions import RefusalAction, RefusedMessage, action_for
from services.router.sms_caps import SmsUse

log = get_logger()


@dataclass(frozen=True, slots=True)
class Deps:
    pool: Pool
    redis_gate: RedisGate
    producer: Producer
    now: Clock
    window_length: timedelta
    margin: timedelta
    doubt: timedelta
    media_order: MediaOrder = field(default_factory=MediaOrder)

    @property
    def rule(self) -> WindowRule:
        return WindowRule(self.window_length, self.margin, self.doubt)


def read_intent(record: RawRecord) -> Intent | BadIntent:
    """The intent in a record. Raises Undecodable where it names no intent to answer."""
    return decode_intent(record.value)


async def on_intents(batch: Sequence[Received[Intent | BadIntent]], deps: Deps) -> None:
    """Decide each intent once and publish the recorded decisions."""
    arrived: dict[MessageKey, Received[Intent | BadIntent]] = {}
    for received in batch:
        arrived.setdefault((received.value.org_id, received.value.intent_id), received)
    async with deps.pool.acquire(kept_plans=True) as db:
        now = deps.now()
        wanted = [(received.value.bounded(now), 1) for received in arrived.values()]
        attempts = await attempts_of(db, wanted, deps.rule, now)
        fresh = [attempt for attempt in attempts if not attempt.decided]
        recorded, stale = await decide_and_record(db, fresh, deps, now)
        decided_now = set(recorded)
        missing = [(*key, 1) for key in arrived if key not in recorded]
        recorded |= {decision.key: decision for decision in await queries.recorded(db, missing)}
    await deps.redis_gate.sync(held=stale)
    details = {key: recorded[key].detail for key in arrived}
    await deps.producer.publish([record for key in arrived for record in records_of(recorded[key], details[key])])
    for key, received in arrived.items():
        log_decision(recorded[key], details[key], received.record, now, known=key not in decided_now)


async def on_refusals(batch: Sequence[Received[OutboundRefused]], deps: Deps) -> list[Reject]:
    """Decide each refused attempt again, once, and publish the recorded decisions.

    A refusal of an unknown intent is a dead letter.
    """
    known: list[Received[OutboundRefused]] = []
    unknown: list[Reject] = []
    async with deps.pool.acquire() as db, db.transaction():
        now = deps.now()
        messages = await queries.lock_refused(db, {(r.value.org_id, r.value.intent_id) for r in batch})
        for received in batch:
            if (received.value.org_id, received.value.intent_id) in messages:
                known.append(received)
            else:
                unknown.append(Reject(received.record, "unknown_message", "no intent has this id"))
        refused = {next_attempt(r.value): r.value for r in reversed(known)}
        actions = {key: action_for(refusal, messages[key[:2]], now) for key, refusal in refused.items()}
        again = [refusal for key, refusal in refused.items() if actions[key] == "decide"]
        decided, stale = await decide_and_record(
            db, await _next_attempts(db, again, messages, deps, now), deps, now, again=True
        )
        repeated = await queries.recorded(db, [key for key, action in actions.items() if action == "repeat"])
        recorded = {decision.attempt_key: decision for decision in (*decided.values(), *repeated)}
        ended = [_end(refusal, now) for key, refusal in refused.items() if actions[key] == "end"]
        updates = {(u.org_id, u.message_id): u for u in await fail_locally(db, ended)} if ended else {}
        await refused_windows.reopen(db, [_send_of(r) for r in refused.values() if _is_disproved(r, messages)])
    await deps.redis_gate.sync(held=stale)
    records: dict[AttemptKey, list[Record]] = {}
    fresh, told = set(decided), set[AttemptKey]()
    for received in known:
        key = next_attempt(received.value)
        if key in recorded:
            detail = recorded[key].detail
            records[key] = list(records_of(recorded[key], detail))
            log_decision(recorded[key], detail, received.record, now, known=key[:2] not in fresh)
            fresh.discard(key[:2])
        else:
            update = updates.get(key[:2]) if actions[key] == "end" else None
            records[key] = [] if update is None else [update_record(update)]
            _log_refusal(
                received.value, actions[key], update, known=messages[key[:2]].status == "failed" or key in told
            )
            told.add(key)
    await deps.producer.publish([record for some in records.values() for record in some])
    async with deps.pool.acquire() as db:
        await refusals.forget(db, {r.value.attempt_key for r in batch})
    return unknown


def _is_disproved(refusal: OutboundRefused, messages: Mapping[MessageKey, RefusedMessage]) -> bool:
    """Whether the message reached the customer before the router read that Meta had refused it."""
    message = messages[refusal.org_id, refusal.intent_id]
    return refusal.reason == "window_closed" and refusal.attempt == message.attempt and message.arrived


def _send_of(refusal: OutboundRefused) -> RefusedSend:
    return RefusedSend(refusal.org_id, refusal.conversation_id, refusal.intent_id, refusal.attempt)


async def decide_and_record(
    db: Connection, attempts: Sequence[Attempt], deps: Deps, now: datetime, *, again: bool = False
) -> tuple[dict[MessageKey, RecordedDecision], list[Slot]]:
    """Decide these attempts, and record those that are not recorded yet.

    Returns what was recorded, and the slots that Redis must be set to after the commit.
    ``again``: they are later attempts, and the caller's transaction has locked their messages.
    """
    if not attempts:
        return {}, []
    decisions = [decide(attempt.intent, attempt.facts, now) for attempt in attempts]
    requests = bridge_requests(attempts, decisions)
    redis_holders = await deps.redis_gate.acquire(requests)
    holders = refused_by_redis(requests, redis_holders, known_holders(attempts))
    strangers = [a for a, decision in zip(attempts, decisions, strict=True) if _is_stranger(a, decision)]
    by_sms = sms_caps.asking(attempts, decisions, holders)
    use = SmsUse()
    locking = bool(strangers) or bool(by_sms)
    async with AsyncExitStack() as transaction:
        if locking and not again:
            await transaction.enter_async_context(db.transaction())
        if strangers:
            await contacts.open_conversations(db, strangers, now)
        if by_sms:
            decisions, use = await _within_caps(db, decisions, by_sms, now)
        requests = bridge_requests(attempts, decisions)
        if any(slot.conversation_id not in holders for slot in requests):
            # all of them, also those that Redis refused: one statement locks the slots of a batch in their order
            if not await slot_queries.hold_conversations(db, requests):
                raise Transient("a conversation was merged meanwhile")
            holders = await slot_queries.take(db, requests, now)
        decisions = apply_holders(attempts, decisions, holders, now)
        await day_queries.add(db, [taken for at, taken in use.taken.items() if sms_caps.is_sms(decisions[at])])
        await day_queries.note_answers(db, use.answers, now)
        files = deps.media_order.arrange(attempts, decisions, now)
        rows = [record_of(attempt, decision, now) for attempt, decision in zip(attempts, decisions, strict=True)]
        recorded = await (queries.record_again if again else queries.record_first)(db, rows)
        lost = [row for row in rows if row.key not in recorded]
        if lost and (locking or again or any(row.slot_holder is not None for row in lost)):
            raise Transient("another router decides the same intents, or a bridge slot is given back, at this moment")
    deps.media_order.keep(files, now)
    for (route, reason), number in Counter((d.route, d.reason) for d in recorded.values()).items():
        metrics.DECISIONS.labels(route=route, reason=reason).inc(number)
    return recorded, stale_in_redis(requests, redis_holders, holders)


async def _within_caps(
    db: Connection, decisions: Sequence[Decision], by_sms: Sequence[tuple[int, Attempt]], now: datetime
) -> tuple[list[Decision], SmsUse]:
    """The decisions within the caps on SMS; the days of the organisations stay locked until the commit."""
    days = await day_queries.lock_days(db, {(now.date(), attempt.intent.org_id) for _, attempt in by_sms})
    spent = {org_id: segments for (_, org_id), segments in days.items()}
    # read after the lock, because another transaction may have noted answers before
    conversations = {
        (attempt.intent.org_id, at) for _, attempt in by_sms if (at := attempt.facts.conversation_id) is not None
    }
    answers = await day_queries.answers_of(db, conversations, now)
    countries = {country_of(attempt.facts.phone or "") for _, attempt in by_sms}
    rates = await segment_rates(db, countries, now.date())
    return sms_caps.apply_caps(decisions, by_sms, spent=spent, answers=answers, rates=rates, now=now)


async def _next_attempts(
    db: Connection,
    refused: Sequence[OutboundRefused],
    messages: Mapping[MessageKey, RefusedMessage],
    deps: Deps,
    now: datetime,
) -> list[Attempt]:
    """The attempts that follow these refusals, on facts read afresh.

    The messages keep their places in their threads.
    """
    if not refused:
        return []
    rows = [messages[refusal.org_id, refusal.intent_id] for refusal in refused]
    attempts = await attempts_of(
        db, [(intent_of(message.record), message.attempt + 1) for message in rows], deps.rule, now
    )
    for attempt, refusal, message in zip(attempts, refused, rows, strict=True):
        attempt.refused = refusal
        attempt.sequence = message.sequence
        attempt.facts = attempt.facts._replace(
            refusals=(*message.refusals, refusal.reason), first_decided_at=message.first_decided_at
        )
        if refusal.reason == "window_open":
            # the bridge's gate judges without margin: with one, the message would bounce between the two until the
            # window closes
            attempt.facts = attempt.facts._replace(margin=timedelta(0))
    return attempts


def records_of(recorded: RecordedDecision, detail: str | None) -> Iterator[Record]:
    """The records of a decision: the decision itself, and the sender's command or the message's status."""
    key = str(recorded.conversation_id or recorded.intent_id).encode()
    yield Record(OUTBOUND_DECISIONS, key, recorded.decision_event(detail))
    if recorded.command is not None:
        topic = OUTBOUND_SMS if recorded.channel == "sms" else OUTBOUND_WHATSAPP
        yield Record(topic, key, recorded.command.encode())
    elif (update := recorded.delivery_update()) is not None:
        yield update_record(update)


def update_record(update: NewStatus) -> Record:
    return Record(DELIVERY_UPDATES, update.key, update.encode())


def next_attempt(refusal: OutboundRefused) -> AttemptKey:
    return refusal.org_id, refusal.intent_id, refusal.attempt + 1


def log_decision(
    recorded: RecordedDecision, detail: str | None, record: RawRecord, now: datetime, *, known: bool
) -> None:
    """Log a decision. ``known``: it was recorded before, and is published again."""
    log.info(
        "intent.decided",
        org_id=recorded.org_id,
        conversation_id=recorded.conversation_id,
        intent_id=recorded.intent_id,
        attempt=recorded.attempt,
        route=recorded.route,
        channel=recorded.channel,
        reason=recorded.reason,
        lag_ms=record.lag_ms(int(now.timestamp() * 1000)),
        outcome="known" if known else "decided",
        **({} if detail is None else {"detail": detail}),
    )


def _log_refusal(refusal: OutboundRefused, action: RefusalAction, ended: NewStatus | None, *, known: bool) -> None:
    """Log a refusal after which nothing is decided. ``ended``: the end of the message, where the refusal is its end."""
    log.info(
        "send.refused" if ended is None else "send.failed",
        org_id=refusal.org_id,
        intent_id=str(refusal.intent_id),
        attempt=refusal.attempt,
        reason=refusal.reason if ended is None else ended.reason,
        outcome="known" if known and ended is not None else action,
        provider_code=refusal.provider_code,
        **({} if ended is None else {"channel": ended.channel}),
    )


def _is_stranger(attempt: Attempt, decision: Decision) -> bool:
    """Whether a conversation must be opened: every message that is not rejected belongs into a thread."""
    return attempt.facts.conversation_id is None and not isinstance(decision, Rejected)


def _end(refusal: OutboundRefused, now: datetime) -> LocalFailure:
    return LocalFailure(
        org_id=refusal.org_id,
        message_id=refusal.intent_id,
        attempt=refusal.attempt,
        reason=PROVIDER_REFUSED,
        code=refusal.provider_code,
        at=now,
    )
