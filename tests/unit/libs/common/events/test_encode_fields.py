"""``encode_fields`` writes what the model would write, for the path of every message."""

import json
from datetime import UTC, datetime

import pytest

from libs.common.events.inbound import MetaWebhook

FIELDS = {
    "received_at": datetime(2026, 11, 22, 10, tzinfo=UTC),
    "waba_id": "1",
    "field": "messages",
    "phone_number_id": "2",
    "item_kind": "message",
    "item": {"id": "wamid.1"},
    "contact": None,
}


def test_fields_are_written_as_the_model_writes_them() -> None:
    assert json.loads(MetaWebhook.encode_fields(FIELDS)) == json.loads(MetaWebhook.model_validate(FIELDS).encode())


def test_a_field_that_the_event_does_not_declare_is_a_bug() -> None:
    with pytest.raises(ValueError, match="colour"):
        MetaWebhook.encode_fields(FIELDS | {"colour": "red"})
