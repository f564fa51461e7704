"""A decision's record: everything that it was taken on, in one versioned JSON object.

``{"v": 1, "intent": {…} | "bad": {…}, "facts": {…}, "now": "…"}``, and ``"refused"`` where it follows a refusal at a
later gate. Pure.
"""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
from pydantic import ValidationError

from libs.common.errors import Permanent
from libs.common.events.base import misfit
from libs.common.events.intents import BadIntent, Intent
from libs.common.events.outbound import OutboundRefused
from libs.common.sanitize import sanitize
from services.router.facts import Facts, facts_from_json, facts_to_json

VERSION = 1


def dumps(value: Any) -> bytes:
    """JSON as Transom's events have it: times in UTC with a Z, ids as text."""
    return orjson.dumps(value, default=str, option=orjson.OPT_UTC_Z)


def stored(json: bytes) -> str:
    """The same JSON as PostgreSQL can store it: U+0000 becomes U+FFFD.

    Neither orjson nor pydantic lets a lone surrogate in.
    """
    if b"\\u0000" in json:
        json = orjson.dumps(sanitize(orjson.loads(json)))
    return json.decode()


def intent_json(intent: Intent | BadIntent) -> bytes:
    """The intent as records keep it. A BadIntent is kept without what made it bad, which may be anything."""
    if isinstance(intent, Intent):
        return intent.__pydantic_serializer__.to_json(intent, exclude_none=True)
    return dumps(asdict(intent))


def pack(
    intent: Intent | BadIntent, facts: Facts, now: datetime, refused: OutboundRefused | Mapping[str, Any] | None = None
) -> str:
    """The record as text for a json column."""
    found: dict[str, Any] = {
        "v": VERSION,
        "intent" if isinstance(intent, Intent) else "bad": orjson.Fragment(intent_json(intent)),
        "facts": facts_to_json(facts),
        "now": now,
    }
    if refused is not None:
        found["refused"] = orjson.Fragment(refused.encode()) if isinstance(refused, OutboundRefused) else refused
    return stored(dumps(found))


def intent_of(record: Mapping[str, Any]) -> Intent | BadIntent:
    """The intent that a record was made for.

    Raises Permanent when a later release wrote it, in a version or in words that are not known here.
    """
    if record["v"] != VERSION:
        raise Permanent("unknown_version", "the decision's record is of another version")
    if "intent" in record:
        try:
            return Intent.model_validate_json(orjson.dumps(record["intent"]))
        except ValidationError as error:
            raise misfit(error, "the decision's record: ") from None
    bad = record["bad"]
    conversation_id, created_at = bad["conversation_id"], bad["created_at"]
    return BadIntent(
        **bad
        | {
            "intent_id": UUID(bad["intent_id"]),
            "conversation_id": conversation_id and UUID(conversation_id),
            "created_at": created_at and datetime.fromisoformat(created_at),
        }
    )


def unpack(record: Mapping[str, Any]) -> tuple[Intent | BadIntent, Facts, datetime]:
    """What ``decide`` was called with; calling it again must give the decision that stands beside the record."""
    return intent_of(record), facts_from_json(record["facts"]), datetime.fromisoformat(record["now"]).astimezone(UTC)
