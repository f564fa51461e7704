"""``transom explain``: everything that happened to an intent, in the order in which it happened.

A message that staff wrote in the WhatsApp Business app has no intent: its id leads to when it came, and its statuses.
The id of a bridge SMS leads to the intent that it stands for.

Rule 1: every printed line is plain text. Markup, control characters and bidirectional formats in stored text have no
        effect on the terminal.
Rule 2: a provider id that holds a phone number, as a wamid does, is printed as a digest.
Rule 3: the text of the message is not printed. The inbox shows it to staff who may read it.

Facts, decisions, attempts, provider answers, statuses and dead letters are read from PostgreSQL. Kafka is not asked.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import click
import orjson

from deploy.cli import queries
from deploy.cli.queries import Charge, DecisionRow, Message, ProviderId, Refusal, Send, StaleAttempt
from deploy.cli.saying import say
from libs.common.db.pool import Connection, open_pool
from libs.common.db.schema import require_schema
from libs.common.errors import ConfigurationError
from libs.common.kafka.parked import orgs_of, parked_of
from libs.common.printable import printable
from libs.common.redact import provider_id, scrub
from libs.common.settings import PostgresSettings, load
from libs.common.thread.message_status import ECHO
from services.router.recorded_decision import detail_of, unpack

Line = tuple[datetime, str, str]
_EVENT_WIDTH = 20
_END_OF_SECOND = timedelta(milliseconds=999)
_PRIVATE = frozenset({"content", "to", "phone", "wa_id", "bsuid", "name", "parameters", "header", "buttons"})
_NUMBER_ID = re.compile(r"[0-9]{5,20}")  # an id of Meta's; a phone number begins with a plus


async def explain_intent(message_id: UUID) -> None:
    """Print the story of an intent. The id of its bridge SMS leads to it, too.

    Raises ConfigurationError when the intent is not recorded, or when the schema is not that of this release.
    """
    dsn = load(PostgresSettings).postgres_dsn.get_secret_value()
    async with open_pool(dsn, application_name="transom-explain", size=1) as pool:
        await require_schema(pool)
        async with pool.acquire() as db:
            intent_id, messages = message_id, await queries.messages_of(db, message_id)
            if messages and messages[0].parent_id is not None:
                intent_id = messages[0].parent_id
                messages = await queries.messages_of(db, intent_id)
            orgs = sorted({message.org_id for message in messages} | set(await orgs_of(db, intent_id)))
            if not orgs:
                raise ConfigurationError(
                    f"no intent {message_id} is recorded: has the router consumed it, and is the id right?"
                    " `transom replay --dlq outbound.intents.v1 --dry-run` counts those that could not be read"
                )
            for org_id in orgs:
                own = [message for message in messages if message.org_id == org_id]
                await _print_story(db, org_id, intent_id, own)


async def _print_story(db: Connection, org_id: str, intent_id: UUID, messages: Sequence[Message]) -> None:
    decisions = await queries.decisions_of(db, org_id, intent_id)
    charges = await queries.charges_of(db, org_id, [message.message_id for message in messages])
    # The sort keeps this order among lines of the same instant.
    lines = [
        *(line for message in messages for line in _arrival_lines(message)),
        *(line for send in await queries.sends_of(db, org_id, intent_id) for line in _send_lines(send)),
        *(line for decision in decisions for line in (*_refused_lines(decision), _decision_line(decision))),
        *(line for message in messages for line in _status_lines(message)),
        *map(_answer_line, await queries.provider_ids_of(db, org_id, intent_id)),
        *map(_charge_line, charges),
        *map(_parked_line, await parked_of(db, org_id, intent_id)),
        *map(_stale_attempt_line, await queries.stale_attempts_of(db, org_id, intent_id)),
        *map(_refusal_line, await queries.refusals_of(db, org_id, intent_id)),
    ]
    is_echo = any(message.attempt == ECHO for message in messages)
    say(f"{'message' if is_echo else 'intent'} {intent_id} of org {printable(org_id)}")
    if is_echo:
        say("staff wrote it in the WhatsApp Business app: it has no intent, and nothing was decided")
    for at, event, what in sorted(lines, key=lambda line: line[0]):
        when = click.style(f"{at.isoformat(timespec='milliseconds')}  ", dim=True)
        say(when + click.style(f"{printable(event):<{_EVENT_WIDTH}}  ", bold=True) + scrub(what))
    for decision in decisions:
        say(f"facts of attempt {decision.attempt}:")
        say(_facts(decision.record))


def _arrival_lines(message: Message) -> list[Line]:
    state = f"{message.kind} by {message.actor or 'Transom'} on {message.channel}, now {message.status}"
    return [
        (message.occurred_at, f"{_name(message)} created", f"conversation {message.conversation_id}"),
        (message.received_at, f"{_name(message)} taken in", state),
    ]


def _status_lines(message: Message) -> list[Line]:
    times = {
        "sent": message.sent_at,
        "delivered": message.delivered_at,
        "read": message.read_at,
        "failed": message.failed_at,
    }
    why = " ".join(part for part in (message.reason, message.provider_code) if part)
    return [
        (_shown_at(at), f"{_name(message)} {status}", why if status == "failed" else "")
        for status, at in times.items()
        if at is not None
    ]


def _name(message: Message) -> str:
    return "bridge SMS" if message.notification_type == "bridge" else "message"


def _shown_at(at: datetime) -> datetime:
    """Meta's times are whole seconds. What it says is shown after what Transom did within that second."""
    return at if at.microsecond else at + _END_OF_SECOND


def _decision_line(decision: DecisionRow) -> Line:
    channel = f" on {decision.channel}" if decision.channel else ""
    holder = f", the slot is held by {decision.slot_holder}" if decision.slot_holder else ""
    detail = detail_of(decision.route, decision.reason, decision.record)
    what = f"attempt {decision.attempt}: {decision.route}{channel}, because {decision.reason}{holder}"
    return decision.decided_at, "decided", f"{what} ({detail})" if detail else what


def _refused_lines(decision: DecisionRow) -> list[Line]:
    """What the decision follows. A provider's word for it is dated in whole seconds."""
    refused = decision.record.get("refused")
    if refused is None:
        return []
    at = min(_shown_at(datetime.fromisoformat(refused["at"])), decision.decided_at)
    why = " ".join(part for part in (refused["reason"], refused.get("provider_code")) if part)
    return [(at, "refused", f"attempt {refused['attempt']}, because {why}")]


def _send_lines(send: Send) -> list[Line]:
    number = f"attempt {send.attempt}"
    lines: list[Line] = [(send.created_at, "queued to send", f"{number} by {send.provider}")]
    if send.claimed_at is not None:
        lines.append((send.claimed_at, "claimed", f"{number}, {send.tries} call(s), {send.resends} resend(s)"))
    if send.unknown_since is not None:
        lines.append((send.unknown_since, "outcome unknown", number))
    outcome = "" if send.outcome is None else f": {_outcome(send.outcome)}"
    if send.settled_at is not None:
        lines.append((send.settled_at, f"send {send.state}", f"{number}{outcome}"))
    elif send.state != "claimed":
        lines.append((send.due_at, f"send {send.state}", f"{number}, due then{outcome}"))
    return lines


def _outcome(outcome: Mapping[str, Any]) -> str:
    """The outcome in words: ``code: …`` would be masked as a secret. What it refused has its reason in it already."""
    told = ((name, value) for name, value in outcome.items() if name != "refusals" and value not in (None, []))
    return ", ".join(
        f"{name} {value if isinstance(value, str) else orjson.dumps(value).decode()}" for name, value in told
    )


def _answer_line(answer: ProviderId) -> Line:
    if answer.attempt == ECHO:
        return answer.recorded_at, "echo stored", f"it is {provider_id(answer.provider_id)} at {answer.provider}"
    kept = "" if answer.applied else " (came after its claim was lost: evidence only)"
    what = f"attempt {answer.attempt} is {provider_id(answer.provider_id)} at {answer.provider}{kept}"
    return answer.recorded_at, "provider answered", what


def _charge_line(charge: Charge) -> Line:
    at, what = _shown_at(charge.at), f"{charge.channel} {charge.category}, {charge.segments or 1} segment(s)"
    if charge.price is None:
        return at, "charged", f"{what}: no rate card covers the day"
    price = _price(charge.price, charge.currency)
    if charge.estimated:
        return at, "charged", f"{what}: {price} (estimated)"
    before = "" if charge.estimate is None else f", estimated as {_price(charge.estimate, charge.estimate_currency)}"
    return at, "charged", f"{what}: {price} by the provider{before}"


def _price(price: Decimal, currency: str | None) -> str:
    return f"{price.normalize():f} {currency or 'in an unknown currency'}"


def _parked_line(parked: asyncpg.Record) -> Line:
    what = f"{parked['records']} record(s) of {parked['topic']} as {parked['reason']}"
    what += f", of type {parked['event_type']}" if parked["event_type"] else ""
    return parked["last_at"], "parked", f"{what}; `transom replay --dlq {parked['topic']}` feeds them through"


def _stale_attempt_line(end: StaleAttempt) -> Line:
    number = f"attempt {end.attempt} is followed up, {end.tries} time(s) so far"
    return end.due_at, "next look", f"{number}; without a send it ends at {end.deadline.isoformat(timespec='seconds')}"


def _refusal_line(refusal: Refusal) -> Line:
    what = f"attempt {refusal.attempt}, because {refusal.reason}; the router has not decided yet"
    return refusal.waits_since, "refused", what


def _facts(record: Mapping[str, Any]) -> str:
    """The facts of a decision with their defaults, in ASCII; what the message says, and to whom, is left out."""
    _, facts, now = unpack(record)
    shown = {"decided_at": now, "facts": facts._asdict(), "intent": record.get("intent") or record["bad"]}
    return json.dumps(_quiet(orjson.loads(orjson.dumps(shown, default=str))), indent=2)


def _quiet(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _quiet_field(key, inner) for key, inner in value.items()}
        case list():
            return [_quiet(inner) for inner in value]
        case str() if not _NUMBER_ID.fullmatch(value):
            return scrub(value)
        case _:
            return value


def _quiet_field(key: str, value: Any) -> Any:
    if key == "content" and isinstance(value, Mapping) and "kind" in value:
        return {"kind": value["kind"]}
    if key == "sms_estimate":  # a price of six decimals would be taken for a phone number
        return value
    return "…" if key in _PRIVATE and value is not None else _quiet(value)
