import asyncio
import io
import logging as stdlib_logging
from uuid import UUID

import pytest
import structlog

from libs.common import logging
from libs.common.redact import MASK
from tests.support.logs import SCHEMA, LogLines

CONTRACT_EVENTS = {
    *("webhook.received", "webhook.rejected", "window.opened", "message.received", "intent.decided", "send.accepted"),
    *("send.deferred", "send.refused", "send.failed", "send.unknown", "bridge.sent", "status.applied"),
    *("record.dead_lettered", "record.retried", "link.redeemed", "service.started", "service.drained"),
}
CONTRACT_FIELDS = {
    *("timestamp", "level", "service", "version", "org_id", "conversation_id", "intent_id", "message_id", "route"),
    *("reason", "channel", "provider_code", "attempt", "lag_ms", "duration_ms"),
}


def test_the_schema_knows_the_contracts_events_and_fields() -> None:
    assert {one["const"] for one in SCHEMA["properties"]["event"]["oneOf"]} >= CONTRACT_EVENTS
    assert set(SCHEMA["properties"]) >= CONTRACT_FIELDS


def test_a_line_says_when_how_bad_who_and_what(log_lines: LogLines) -> None:
    intent_id = UUID("7e3f0c7a-5e8a-4b39-9d0b-0d6b3c5f1a11")
    logging.get_logger().info(
        "intent.decided", intent_id=intent_id, org_id="acme", route="bridge", channel="sms", lag_ms=1.5
    )
    (line,) = log_lines.all()
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "intent.decided",
        "intent_id": str(intent_id),
        "org_id": "acme",
        "route": "bridge",
        "channel": "sms",
        "lag_ms": 1.5,
        "level": "info",
        "service": "test",
        "version": "0",
    }


def test_what_is_bound_to_the_context_is_on_every_line(log_lines: LogLines) -> None:
    with structlog.contextvars.bound_contextvars(topic="webhooks.v1", partition=3):
        logging.get_logger().warning("record.retried")
    assert [(line["topic"], line["partition"]) for line in log_lines.all()] == [("webhooks.v1", 3)]


def test_what_is_private_is_masked_on_its_way_out(log_lines: LogLines) -> None:
    logging.get_logger().info("send.failed", detail="no route to +447700900999", reason="447700900999")
    (line,) = log_lines.all()
    assert line["detail"] == f"no route to {MASK}"
    assert line["reason"] == MASK


def test_an_exception_says_what_and_where_and_quotes_nothing(log_lines: LogLines) -> None:
    try:
        int("customer said hello")
    except ValueError:
        logging.get_logger().exception("task.failed", task="sweep")
    (line,) = log_lines.all()
    assert line["level"] == "error"
    assert line["exception"][0]["type"] == "ValueError"
    assert "hello" not in log_lines.raw


@pytest.mark.parametrize("name", ["aiokafka.conn", "uvicorn.error"])
def test_a_known_librarys_words_are_told_scrubbed(log_lines: LogLines, name: str) -> None:
    stdlib_logging.getLogger(name).warning("Unable to connect to %s for %s", "127.0.0.1:9092", "+447700900999")
    (line,) = log_lines.of("library.log")
    assert (line["logger"], line["level"]) == (name, "warning")
    assert line["message"] == f"Unable to connect to 127.0.0.1:9092 for {MASK}"


def test_an_unknown_librarys_words_stay_inside(log_lines: LogLines) -> None:
    stdlib_logging.getLogger("faststream").error("validation failed for {'text': 'my car is broken'}")
    (line,) = log_lines.of("library.log")
    assert line["logger"] == "faststream"
    assert "broken" not in log_lines.raw


def test_access_logs_are_off(log_lines: LogLines) -> None:
    stdlib_logging.getLogger("uvicorn.access").warning("GET /a8Bc3dEf")
    assert log_lines.all() == []


async def test_a_forgotten_task_says_so_without_its_exceptions_words(log_lines: LogLines) -> None:
    loop = asyncio.get_running_loop()
    loop.call_exception_handler({"message": "Task exception was never retrieved", "exception": ValueError("hello")})
    (line,) = log_lines.of("library.log")
    assert line["message"] == "Task exception was never retrieved"
    assert "hello" not in log_lines.raw


def test_values_without_a_json_form_do_not_lose_the_line(log_lines: LogLines) -> None:
    logging.get_logger().info("status.applied", status=200, detail="lone \ud800 surrogate")
    assert log_lines.all()[0]["status"] == 200


def test_people_get_the_same_redacted(log_lines: LogLines) -> None:
    stream = io.BytesIO()
    logging.configure(service="test", version="0", fmt="console", stream=stream)
    logging.get_logger().info("send.failed", detail="to +447700900999")
    assert "send.failed" in stream.getvalue().decode()
    assert "447700900999" not in stream.getvalue().decode()
