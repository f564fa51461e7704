"""``transom explain`` of an intent whose every text wants to do something to the terminal, and of one that failed."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson
import pytest

from libs.common.ids import bridge_message_id
from tests.support.command import environment, transom

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
WAMID = "wamid.HBgMNDQ3NzAwOTAwOTk5FQIAERgSOUEzQkY2MTdFMjkwQzE0RDhBAA=="
HOSTILE = "acme[/bold][link=https://evil.example]x[/link]\x1b]0;owned\x07\x9b2J\u202emoc.live\r\n[red]"


async def stored(database: str, hostile: str, outcome: dict[str, Any] | None = None) -> UUID:
    """A sent message of an organisation that has this text for a name, a code and a reason.

    ``outcome`` is what its send is stored with, by default a hostile one.
    """
    message_id, conversation = uuid4(), uuid4()
    db = await asyncpg.connect(database)
    await db.set_type_codec(
        "jsonb", encoder=lambda v: orjson.dumps(v).decode(), decoder=orjson.loads, schema="pg_catalog"
    )
    try:
        await db.execute("insert into orgs (org_id, name, upserted_at) values ($1, $1, $2)", hostile, AT)
        await db.execute(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content,"
            " status, reason, provider_code, failed_at,"
            " occurred_at, received_at) values ($1, $2, $3, 'out', 'whatsapp', $4, '{}', 'failed', $4, $4, $5, $5, $5)",
            hostile,
            message_id,
            conversation,
            hostile,
            AT,
        )
        await db.execute(
            "insert into provider_ids (channel, provider, account, provider_id, org_id, message_id, send_id,"
            " attempt, recorded_at)"
            " values ('whatsapp', 'meta', '106400000000001', $1, $2, $3, $3, 1, $4)",
            WAMID,
            hostile,
            message_id,
            AT,
        )
        await db.execute(
            "insert into sends (org_id, message_id, attempt, channel, provider, conversation_id, sequence,"
            " account, command, state, due_at, expires_at, outcome,"
            " settled_at, created_at) values ($1, $2, 1, 'whatsapp', 'meta', $3, 1, '106400000000001', '{}',"
            " 'failed', $4, $4, $5, $4, $4)",
            hostile,
            message_id,
            conversation,
            AT,
            outcome or {"code": hostile, "ids": [WAMID], "to": "+447700900999"},
        )
    finally:
        await db.close()
    return message_id


@pytest.mark.parametrize("hostile", [HOSTILE, "acme[/x]", "\x1b[31m", "[blink]"])
async def test_what_others_wrote_is_printed_and_nothing_else(database: str, hostile: str) -> None:
    told = transom("explain", str(await stored(database, hostile)), env=environment(POSTGRES_DSN=database))
    assert (told.returncode, told.stderr) == (0, "")
    assert all(line.isprintable() for line in told.stdout.split("\n"))
    for bracket in ("[/bold]", "[/x]", "[blink]", "[red]"):
        assert (bracket in hostile) is (bracket in told.stdout)
    assert "provider answered" in told.stdout


async def test_no_id_that_holds_a_number_is_shown(database: str) -> None:
    told = transom("explain", str(await stored(database, "acme")), env=environment(POSTGRES_DSN=database)).stdout
    assert "HBg" not in told
    assert "447700900999" not in told
    assert "attempt 1 is wamid…" in told


async def test_the_code_and_the_reason_of_a_failed_send_are_shown(database: str) -> None:
    refused = {"answer": "refused", "code": "131042", "reason": "provider_refused", "refusals": [], "limit": 3}
    told = transom(
        "explain", str(await stored(database, "acme", refused)), env=environment(POSTGRES_DSN=database)
    ).stdout
    (line,) = [line for line in told.splitlines() if "send failed" in line]
    said = line.partition(": ")[2].split(", ")
    assert sorted(said) == ["answer refused", "code 131042", "limit 3", "reason provider_refused"]


async def test_the_id_of_a_bridge_sms_leads_to_the_intent_that_it_stands_for(database: str) -> None:
    intent = await stored(database, "acme")
    sms = bridge_message_id(intent)
    db = await asyncpg.connect(database)
    try:
        await db.execute(
            "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content,"
            " notification_type, parent_id, status, occurred_at, received_at)"
            " select org_id, $1, conversation_id, 'out', 'sms', 'text', '{}', 'bridge', message_id, 'delivered', $2, $2"
            "   from messages where message_id = $3",
            *(sms, AT, intent),
        )
    finally:
        await db.close()
    env = environment(POSTGRES_DSN=database)
    assert transom("explain", str(sms), env=env).stdout == transom("explain", str(intent), env=env).stdout
