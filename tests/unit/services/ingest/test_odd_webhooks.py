"""A webhook of Meta with any type of JSON in any place: it is taken, and each of its records is read or refused."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from libs.common.errors import Undecodable
from services.ingest.meta import split
from services.ingest.parse import parse
from tests.support.odd_values import with_odd_values
from tests.support.webhooks import a_value, a_webhook

AT = datetime(2026, 11, 27, 10, tzinfo=UTC)
RECORDED = sorted((Path(__file__).parents[3] / "data" / "meta").rglob("*.json"))
TEMPLATE = {
    "event": "APPROVED",
    "message_template_id": 594425479261596,
    "message_template_name": "car_ready",
    "message_template_language": "en_GB",
    "reason": None,
}
TOLD = {
    "message_template_status_update": TEMPLATE,
    "user_preferences": a_value(
        user_preferences=[
            {"wa_id": "447700900999", "category": "marketing_messages", "value": "stop", "timestamp": 1795348800}
        ]
    ),
    "user_id_update": a_value(
        user_id_update=[
            {"wa_id": "447700900999", "user_id": {"previous": "GB.1", "current": "GB.2"}, "timestamp": "1795348800"}
        ]
    ),
}


def webhooks() -> Iterator[Any]:
    for file in RECORDED:
        yield pytest.param(orjson.loads(file.read_bytes()), id=file.stem)
    for field, value in TOLD.items():
        webhook = a_webhook(value, field=field)
        webhook["entry"][0]["time"] = 1795348800
        yield pytest.param(webhook, id=field)


@pytest.mark.parametrize("webhook", list(webhooks()))
def test_any_type_in_any_place_is_taken_and_read_or_refused(webhook: Any) -> None:
    for odd in with_odd_values(webhook):
        records = split(odd, AT)
        assert records
        for _key, value in records:
            try:
                parse(value, reaction_opens=True)
            except Undecodable as refused:
                assert refused.reason  # noqa: PT017 -- any other exception is a bug, which dead-letters and stops
