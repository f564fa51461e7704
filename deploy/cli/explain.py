"""``transom explain``: everything that happened to an intent, in the order in which it happened.

Law: what is printed is plain text of one line. Markup, control characters and turned text of whoever wrote it do nothing to the terminal, and ids
that hold a number (a wamid does) are shown as a digest.

The facts, decisions, attempts, provider answers and statuses stand in Postgres, and so does what of it lies in a
dead-letter topic; nothing is asked of Kafka. The message's text is not shown: who
may read it has the inbox.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import click
import orjson

from deploy.cli import queries
from libs.common.db.pool import Connection, open_pool
from libs.common.db.schema import require_schema
from libs.common.errors import ConfigurationError
from libs.common.kafka.parked_queries import orgs_of, parked_of
from libs.common.printable import printable
from libs.common.redact import provider_id, scrub
from libs.common.settings import PostgresSettings, load
from services.router.record import unpack

Line = tuple[datetime, str, str]
_EVENT_WIDTH = 20
_END_OF_SECOND = timedelta(milliseconds=999)
Row = asyncpg.Record


async def explain_intent(intent_id: UUID) -> None:
    """Print the story of an intent. Raises ConfigurationError when no such intent is recorded, or the schema is not ours."""
    settings = load(PostgresSettings)
    async with open_pool(settings.postgres_dsn.get_secret_value(), application_name="transom-explain", size=1) as pool:
        await require_schema(pool)
        async with pool.acquire() as db:
            messages = await queries.messages_of(db, intent_id)
            orgs = sorted({message["org_id"] for message in messages} | set(await orgs_of(db, intent_id)))
            if not orgs:
                raise ConfigurationError(
                    f"no intent {intent_id} is recorded: has the router consumed it, and is the id right?"
                )
            for org_id in orgs:
                own = [message for message in messages if message["org_id"] == org_id]
                await _print_story(db, org_id, intent_id, own)


async def _print_story(db: Connection, org_id: str, intent_id: UUID, messages: list[asyncpg.Record]) -> None:
    decisions = await queries.decisions_of(db, org_id, intent_id)
    # Of what happened at the same instant, the first here comes first.
    lines = [line for message in messages for line in _arrival_lines(message)]
    lines += [_decision_line(decision) for decision in decisions]
    lines += [line for message in messages for line in _status_lines(message)]
    for send in await queries.sends_of(db, org_id, intent_id):
        lines += _send_lines(send)
    for found in await queries.provider_ids_of(db, org_id, intent_id):
        kept = "" if found["applied"] else " (came after its claim was lost: evidence only)"
        what = f"attempt {found['attempt']} is {provider_id(found['provider_id'])} at {found['provider']}{kept}"
        lines.append((found["recorded_at"], "provider answered", what))
    for charge in await queries.charges_of(db, org_id, [message["message_id"] for message in messages]):
        price = (
            "no rate card covers the day"
            if charge["price"] is None
            else f"{charge['price'].normalize():f} {charge['currency']}"
        )
        what = f"{charge['channel']} {charge['category']}, {charge['segments'] or 1} segment(s): {price}"
        lines.append((charge["at"], "charged", what))
    lines += [_parked_line(found) for found in await parked_of(db, org_id, intent_id)]
    lines += [_loose_line(end) for end in await queries.loose_ends_of(db, org_id, intent_id)]
    lines += [_waiting_line(kept) for kept in await queries.refusals_of(db, org_id, intent_id)]
    click.echo(f"intent {intent_id} of org {printable(org_id)}")
    for line in sorted(lines, key=lambda line: line[0]):
        click.echo(_text(line))
    for decision in decisions:
        click.echo(f"facts of attempt {decision['attempt']}:")
        click.echo(_facts(decision["record"]))


def _name(message: Row) -> str:
    return "bridge SMS" if message["notification_type"] == "bridge" else "message"


def _arrival_lines(message: Row) -> list[Line]:
    told = f"{message['kind']} by {message['actor'] or 'Transom'} on {message['channel']}, now {message['status']}"
    return [
        (message["occurred_at"], f"{_name(message)} created", f"conversation {message['conversation_id']}"),
        (message["received_at"], f"{_name(message)} taken in", told),
    ]


def _status_lines(message: Row) -> list[Line]:
    lines: list[Line] = []
    for status in ("sent", "delivered", "read", "failed"):
        if message[f"{status}_at"] is not None:
            why = " ".join(str(part) for part in (message["reason"], message["provider_code"]) if part)
            # Meta tells whole seconds, and what it tells came after what we did in that second.
            at = message[f"{status}_at"]
            lines.append(
                (
                    at if at.microsecond else at + _END_OF_SECOND,
                    f"{_name(message)} {status}",
                    why if status == "failed" else "",
                )
            )
    return lines


def _decision_line(decision: Row) -> Line:
    channel = f" on {decision['channel']}" if decision["channel"] else ""
    holder = f", the slot is held by {decision['slot_holder']}" if decision["slot_holder"] else ""
    what = f"attempt {decision['attempt']}: {decision['route']}{channel}, because {decision['reason']}{holder}"
    return decision["decided_at"], "decided", what


def _send_lines(send: Row) -> list[Line]:
    number = f"attempt {send['attempt']}"
    lines: list[Line] = [(send["created_at"], "queued to send", f"{number} by {send['provider']}")]
    if send["claimed_at"] is not None:
        lines.append((send["claimed_at"], "claimed", f"{number}, {send['tries']} call(s), {send['resends']} resend(s)"))
    if send["unknown_since"] is not None:
        lines.append((send["unknown_since"], "outcome unknown", number))
    outcome = "" if send["outcome"] is None else f": {orjson.dumps(send['outcome']).decode()}"
    if send["settled_at"] is not None:
        lines.append((send["settled_at"], f"send {send['state']}", f"{number}{outcome}"))
    elif send["state"] != "claimed":
        lines.append((send["due_at"], f"send {send['state']}", f"{number}, due then{outcome}"))
    return lines


def _parked_line(found: Row) -> Line:
    what = f"{found['records']} record(s) of {found['topic']} as {found['reason']}"
    what += f", of type {found['event_type']}" if found["event_type"] else ""
    return found["last_at"], "parked", f"{what}; `transom replay --dlq {found['topic']}` feeds them through"


def _loose_line(end: Row) -> Line:
    number = f"attempt {end['attempt']} is followed up, {end['tries']} time(s) so far"
    return (
        end["due_at"],
        "next look",
        f"{number}; without a send it ends at {end['deadline'].isoformat(timespec='seconds')}",
    )


def _waiting_line(kept: Row) -> Line:
    return (
        kept["waits_since"],
        "refused",
        f"attempt {kept['attempt']}, because {kept['reason']}; the router has not decided yet",
    )


def _facts(record: Mapping[str, Any]) -> str:
    """Everything that was decided on, defaults written out, without what the message says and to whom."""
    _, facts, now = unpack(record)
    told = {"decided_at": now, "facts": facts._asdict(), "intent": record.get("intent") or record["bad"]}
    return json.dumps(_quiet(orjson.loads(orjson.dumps(told, default=str))), indent=2)  # ASCII only


_PRIVATE = frozenset({"content", "to", "phone", "wa_id", "bsuid", "name", "parameters", "header", "buttons"})


_NUMBER_ID = re.compile(r"[0-9]{5,20}")  # Meta's ids; a phone number has its plus


def _quiet(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: {"kind": inner["kind"]}
            if key == "content" and isinstance(inner, Mapping) and "kind" in inner
            else "…"
            if key in _PRIVATE and inner is not None
            else _quiet(inner)
            for key, inner in value.items()
        }  # fmt: skip -- one line per case
    if isinstance(value, list):
        return [_quiet(inner) for inner in value]
    return scrub(value) if isinstance(value, str) and not _NUMBER_ID.fullmatch(value) else value


def _text(line: Line) -> str:
    at, event, what = line
    when = click.style(f"{at.isoformat(timespec='milliseconds')}  ", dim=True)
    return when + click.style(f"{printable(event):<{_EVENT_WIDTH}}  ", bold=True) + scrub(what)
