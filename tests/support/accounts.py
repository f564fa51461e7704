"""Law 8, counted: every intent ends in exactly one terminal state, and what was published of it is what is stored."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from tests.support.system import System

Ending = tuple[str, str | None]
_STANDING = """
select message_id, status, reason, seq,
       (select count(*) from decisions d where d.org_id = m.org_id and d.intent_id = m.message_id) as attempts
  from messages m
 where org_id = $1 and message_id = any($2::uuid[])
"""
ENDED = {"read", "failed"}
"""Where a message comes to rest: the sandbox's customers read everything that reaches them by WhatsApp."""


async def endings(system: System, intents: Iterable[Mapping[str, Any]]) -> Counter[Ending]:
    """How many of these intents, all of one organisation, ended with which status and reason.

    Fails where the books do not balance.
    """
    wanted = {intent["intent_id"]: intent["org_id"] for intent in intents}
    (org_id,) = set(wanted.values())
    rows = await system.rows(_STANDING, org_id, list(wanted))
    assert {str(row["message_id"]) for row in rows} == wanted.keys(), (
        f"{len(wanted)} intents came in, {len(rows)} stand"
    )
    for row in rows:
        message_id = str(row["message_id"])
        assert row["status"] in ENDED, f"{message_id} is still {row['status']}"
        updates = [record.event for record in system.published.all("delivery.updates.v1", message_id=message_id)]
        statuses = {event["seq"]: (event["status"], event["reason"]) for event in updates}
        assert statuses[row["seq"]] == (row["status"], row["reason"]), f"{message_id}: its end was not published"
        assert max(statuses) == row["seq"]
        assert all(statuses[event["seq"]] == (event["status"], event["reason"]) for event in updates), (
            "a status published in two ways"
        )
        decisions = system.published.all("outbound.decisions.v1", intent_id=message_id)
        assert {record.event["attempt"] for record in decisions} == set(range(1, row["attempts"] + 1))
    return Counter((row["status"], row["reason"]) for row in rows)
