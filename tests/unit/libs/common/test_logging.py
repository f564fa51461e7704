import asyncio
import inspect
import io
import logging as stdlib_logging
import subprocess
import sys
from datetime import UTC, datetime
from uuid import UUID

import pytest
from uvicorn.protocols.http import httptools_impl

from libs.common import logging
from libs.common.redact import MASK
from tests.support.logs import SCHEMA, LogLines, validated

IN_A_PROCESS = """
import asyncio, os, signal, sys
from libs.common import logging

logging.configure(service="test", version="0")
log = logging.get_logger()

async def main():
    log.info("service.started")
    log.info("service.started")
    await asyncio.sleep(0)
    log.info("intent.decided")
    {last}

log.info("service.started")
asyncio.run(main())
"""

COLLECTED = """
import gc, logging as stdlib
from libs.common import logging

class Lost:
    def __init__(self):
        self.itself = self

    def __del__(self):
        stdlib.getLogger("asyncio").error("was never retrieved")

logging.configure(service="test", version="0")
log = logging.get_logger()
gc.collect()
gc.freeze()
for allocation in range(1, 200):  # wherever in the way of a line the collector comes by
    gc.disable()
    gc.collect()
    Lost()
    gc.set_threshold(allocation)
    gc.enable()
    log.info("intent.decided")
gc.collect()
"""


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


def test_an_answer_that_was_broken_off_is_told_by_who_did_so(log_lines: LogLines) -> None:
    """uvicorn tells it once more, as an error and without the reason (its words are those of the pinned version)."""
    stdlib_logging.getLogger("uvicorn.error").error("ASGI callable returned without completing response.")
    assert log_lines.of("library.log") == []
    assert "ASGI callable returned without completing response." in inspect.getsource(httptools_impl)


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


@pytest.mark.parametrize("records", [1, 2**70])  # the second is beyond what orjson writes
def test_a_time_is_written_as_rfc_3339_has_it(log_lines: LogLines, records: int) -> None:
    at = datetime(2026, 11, 27, 12, 30, tzinfo=UTC)
    logging.get_logger().info("window.opened", closes_at=at, records=records)
    (line,) = log_lines.all()
    assert line["closes_at"] == "2026-11-27T12:30:00+00:00"


def test_people_read_a_time_as_machines_do(log_lines: LogLines) -> None:
    stream = io.BytesIO()
    logging.configure(service="test", version="0", fmt="console", stream=stream)
    logging.get_logger().info("window.opened", closes_at=datetime(2026, 11, 27, 12, 30, tzinfo=UTC))
    assert "closes_at=2026-11-27T12:30:00+00:00" in stream.getvalue().decode()


def test_people_read_of_an_exception_and_its_cause(log_lines: LogLines) -> None:
    stream = io.BytesIO()
    logging.configure(service="test", version="0", fmt="console", stream=stream)
    error = KeyError("of +447700900999")
    error.__cause__ = OSError(111, "refused")
    logging.get_logger().error("task.failed", exc_info=error)
    said = stream.getvalue().decode()
    assert all(word in said for word in ("task.failed", "KeyError", "ConnectionRefusedError"))
    assert "447700900999" not in said


def test_people_get_the_same_redacted(log_lines: LogLines) -> None:
    stream = io.BytesIO()
    logging.configure(service="test", version="0", fmt="console", stream=stream)
    logging.get_logger().info("send.failed", detail="to +447700900999")
    assert "send.failed" in stream.getvalue().decode()
    assert "447700900999" not in stream.getvalue().decode()


@pytest.mark.parametrize(
    ("last", "events"),
    [
        ("return", ["service.started"] * 3 + ["intent.decided"]),
        ("raise ValueError", ["service.started"] * 3 + ["intent.decided"]),
        ("sys.exit(3)", ["service.started"] * 3 + ["intent.decided"]),
        ("log.warning('send.failed'); os.kill(os.getpid(), signal.SIGKILL)", ["intent.decided", "send.failed"]),
        ("await asyncio.sleep(0); os.kill(os.getpid(), signal.SIGKILL)", ["service.started"] * 3 + ["intent.decided"]),
        ("os.kill(os.getpid(), signal.SIGKILL)", ["service.started"] * 3),
    ],
    ids=["ends", "fails", "exits", "warns and is killed", "is killed a turn later", "is killed"],
)
def test_only_the_turn_of_the_loop_that_was_not_over_is_lost(last: str, events: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS.format(last=last)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert [line["event"] for line in validated(ended.stdout)][-len(events) :] == events


def test_a_finaliser_may_log_while_a_line_is_being_written() -> None:
    ended = subprocess.run([sys.executable, "-c", COLLECTED], stdout=subprocess.PIPE, timeout=60, check=True)
    events = [line["event"] for line in validated(ended.stdout)]
    assert sorted(set(events)) == ["intent.decided", "library.log"]
    assert [events.count("intent.decided"), events.count("library.log")] == [199, 199]
