"""Events are written by orjson alone, with or without a model, for the path of every message."""

import json
from datetime import UTC, datetime
from typing import Literal, get_args
from uuid import UUID, uuid4

import asyncpg.pgproto.pgproto
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.fields import EARLIEST, LATEST
from libs.common.events.inbound import MetaWebhook
from libs.common.events.outbound import Channel, DeliveryUpdate, NewStatus, OutboundDecision

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


_TIMES = st.datetimes(EARLIEST.replace(tzinfo=None), LATEST.replace(tzinfo=None), timezones=st.just(UTC))
_IDS = st.uuids().map(lambda one: asyncpg.pgproto.pgproto.UUID(str(one)))


@given(_IDS, _IDS | st.none(), st.sampled_from(["whatsapp", "sms", "portal", None]), st.text() | st.none(), _TIMES)
def test_a_new_status_is_written_as_a_delivery_update_writes_itself(
    message_id: UUID, conversation_id: UUID | None, channel: Channel | None, said: str | None, at: datetime
) -> None:
    for seq, status in enumerate(get_args(Literal["sent", "delivered", "read", "failed"]), 1):
        new = NewStatus(message_id, "acme", conversation_id, channel, seq, status, said, said, at)
        model = DeliveryUpdate(**new._asdict())
        assert (new.key, new.encode()) == (str(conversation_id or message_id).encode(), model.encode())
        assert DeliveryUpdate.decode(new.encode()) == model


def test_ids_as_postgresql_gives_them_cost_no_second_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise AssertionError("pydantic wrote the event")

    monkeypatch.setattr(OutboundDecision, "model_dump_json", refuse)
    intent_id = uuid4()
    event = OutboundDecision(
        intent_id=asyncpg.pgproto.pgproto.UUID(str(intent_id)),
        attempt=1,
        org_id="acme",
        conversation_id=None,
        route="rejected",
        channel=None,
        reason="invalid_intent",
        window=None,
        decided_at=FIELDS["received_at"],
    )
    assert json.loads(event.encode())["intent_id"] == str(intent_id)
