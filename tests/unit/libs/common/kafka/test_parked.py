"""Which dead letters leave a trace of an intent."""

from typing import Any
from uuid import UUID

import orjson
import pytest

from libs.common.kafka.batch_processor import DeadLetter
from libs.common.kafka.parked import trace_of
from tests.support.records import a_record

MESSAGE = "0193a000-0000-7000-8000-000000000001"


def a_letter(value: bytes) -> DeadLetter:
    return DeadLetter(a_record(value, topic="outbound.whatsapp.v1", offset=7), "unknown_type", "", 1)


@pytest.mark.parametrize("name", ["intent_id", "message_id"])
def test_a_record_that_names_an_organisation_and_an_intent_leaves_one(name: str) -> None:
    value = orjson.dumps({"type": "outbound.whatsapp.v2", "org_id": "acme", name: MESSAGE})
    trace = trace_of(a_letter(value))
    assert trace == ("outbound.whatsapp.v1", 0, 7, "acme", UUID(MESSAGE), "unknown_type", "outbound.whatsapp.v2")


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "text",
        {},
        {"org_id": "acme"},
        {"org_id": "acme", "intent_id": 5},
        {"org_id": "acme", "intent_id": "+447700900123"},
        {"org_id": "a\x00", "intent_id": MESSAGE},
        {"org_id": ["acme"], "intent_id": MESSAGE},
        {"org_id": "acme", "intent_id": MESSAGE, "more": "x" * 300_000},
    ],
)
def test_what_names_none_leaves_none(value: Any) -> None:
    assert trace_of(a_letter(orjson.dumps(value))) is None


@pytest.mark.parametrize("value", [b"", b"\xff", b"{"])
def test_what_nobody_can_read_leaves_none(value: bytes) -> None:
    assert trace_of(a_letter(value)) is None
