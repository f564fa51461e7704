"""Handles batches of refusals: an attempt that a later gate refused is decided again, as the next attempt, exactly once.

Rule 1: a refusal counts only for the attempt that the message is at, and only while that attempt is unsettled; ``slot_freed`` only for a message
        that a bridge silenced. Anything else is late: what stands is told again, or nothing.
Rule 2: a redelivered refusal tells again what was decided for the next attempt.
Rule 3: the third refusal ends the message: ``failed``/``provider_refused``. What lay with the account or with our haste uses up no attempt; its
        message ends when a day has passed since the first attempt.
Rule 4: a refusal is remembered in ``refusals`` until what follows from it is told; what got lost on the way is taken from there (``reconcile``).
Rule 5: trouble of the provider's own is tried again once. A template that was asked for itself, and that Meta does not take, fails with the code:
        there is nothing else that could go.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.events.outbound import DeliveryUpdate, OutboundRefused
from libs.common.events.topics import DELIVERY_UPDATES
from libs.common.kafka.records import Received
from libs.common.kafka.records import Reject as DeadLetter
from libs.common.logging import get_logger
from libs.common.thread import refusals
from libs.common.thread.messages import LocalFailure, fail_locally
from services.router import queries
from services.router.outcome import Case
from services.router.present import Event, Standing, present
from services.router.queries import Question, Refused
from services.router.record import intent_of
from services.router.worker import Deps, decide_and_record, log_decision, tell

log = get_logger()

LAST_ATTEMPT = 3
"""So many refusals that count, and a message ends."""
FREE = frozenset({"account", "throttled"})
"""Refusals that use up no attempt."""
LIFETIME = timedelta(hours=24)
_SILENCED = ("window_expired_bridge_already_sent", "whatsapp_unreachable_bridge_already_sent")

Course = Literal["decide", "repeat", "end", "ignore"]


def course(refusal: OutboundRefused, message: Refused, now: datetime) -> Course:
    """What a refusal means for the message as it stands. Pure."""
    if refusal.attempt < message.attempt:
        return "repeat"
    if refusal.attempt > message.attempt:
        return "ignore"
    last = _is_last(refusal, message, now)
    if refusal.reason == "slot_freed":
        silenced = message.status == "failed" and message.reason in _SILENCED
        return "decide" if silenced and not last else "ignore"
    unsettled = message.status in ("pending", "sent")
    if not last:
        return "decide" if unsettled else "ignore"
    ended = message.status == "failed" and message.reason == "provider_refused"
    return "end" if unsettled or ended else "ignore"


def _is_last(refusal: OutboundRefused, message: Refused, now: datetime) -> bool:
    refusals = [*message.refusals, refusal.reason]
    if sum(reason not in FREE for reason in refusals) >= LAST_ATTEMPT:
        return True
    match refusal.reason:
        case "account" | "throttled":
            return now >= message.first_decided_at + LIFETIME
        case "transient":
            return refusals.count("transient") > 1
        case "template_refused":
            return isinstance(intent := message.record.get("intent"), dict) and intent["content"]["kind"] == "template"
        case _:
            return False


async def on_refusals(batch: Sequence[Received[OutboundRefused]], deps: Deps) -> list[DeadLetter]:
    """Decide each refused attempt again, once; tell what stands recorded. A refusal of nothing we know is a dead letter."""
    known: list[Received[OutboundRefused]] = []
    unknown: list[DeadLetter] = []
    found: dict[tuple[str, UUID, int], Standing] = {}
    async with deps.pool.acquire() as db, db.transaction():
        now = deps.now()
        locked = await queries.lock_refused(db, {(r.value.org_id, r.value.intent_id) for r in batch})
        for received in batch:
            if (received.value.org_id, received.value.intent_id) in locked:
                known.append(received)
            else:
                unknown.append(DeadLetter(received.record, "unknown_message", "no intent has this id"))
        pairs = {_next(r.value): (r.value, locked[r.value.org_id, r.value.intent_id]) for r in reversed(known)}
        courses = {key: course(*pair, now) for key, pair in pairs.items()}
        cases = await _cases(db, [pair for key, pair in pairs.items() if courses[key] == "decide"], deps, now)
        decided, stale = await decide_and_record(db, cases, deps, now, again=True)
        found |= {(*s.key, s.attempt): s for s in decided.values()}
        repeated = [key for key, what in courses.items() if what == "repeat"]
        found |= {(*s.key, s.attempt): s for s in await queries.standing(db, repeated)}
        ended = [_end(refusal, now) for key, (refusal, _) in pairs.items() if courses[key] == "end"]
        updates = {(u.org_id, u.message_id): u for u in await fail_locally(db, ended)} if ended else {}
    await deps.redis_gate.sync(held=stale)
    events: dict[tuple[str, UUID, int], list[Event]] = {}
    for received in known:
        refusal, key = received.value, _next(received.value)
        if key in found:
            events[key] = list(present(found[key]))
            log_decision(found[key], received.record, now)
        else:
            events[key] = [update_of(updates[refusal.org_id, refusal.intent_id])] if courses[key] == "end" else []
            log.info(
                "send.failed" if courses[key] == "end" else "send.refused",
                org_id=refusal.org_id,
                intent_id=str(refusal.intent_id),
                attempt=refusal.attempt,
                reason=refusal.reason,
                outcome=courses[key],
                provider_code=refusal.provider_code,
            )
    await tell(deps, (event for some in events.values() for event in some))
    async with deps.pool.acquire() as db:
        await refusals.forget(db, {(r.value.org_id, r.value.intent_id, r.value.attempt) for r in batch})
    return unknown


async def _cases(
    db: Connection, pairs: Sequence[tuple[OutboundRefused, Refused]], deps: Deps, now: datetime
) -> list[Case]:
    """The next attempts to be decided, on facts read afresh, keeping the messages' places in their threads."""
    if not pairs:
        return []
    questions = [Question(intent_of(message.record), message.attempt + 1) for _, message in pairs]
    answers = await queries.facts_for(db, questions, deps.rule, now)
    cases = []
    for (refusal, message), question, answer in zip(pairs, questions, answers, strict=True):
        facts = answer.facts._replace(
            refusals=(*message.refusals, refusal.reason), first_decided_at=message.first_decided_at
        )
        if refusal.reason == "window_open":
            # the bridge's gate judges without margin: with it the message would bounce between the two until the window closes
            facts = facts._replace(margin=timedelta(0))
        cases.append(Case(question.intent, facts, message.attempt + 1, message.sequence, refusal, answer.slot_holder))
    return cases


def _next(refusal: OutboundRefused) -> tuple[str, UUID, int]:
    return refusal.org_id, refusal.intent_id, refusal.attempt + 1


def _end(refusal: OutboundRefused, now: datetime) -> LocalFailure:
    return LocalFailure(
        refusal.org_id, refusal.intent_id, refusal.attempt, "provider_refused", refusal.provider_code, now
    )


def update_of(update: DeliveryUpdate) -> Event:
    """As it is published."""
    return DELIVERY_UPDATES, str(update.conversation_id or update.message_id).encode(), update.encode()
