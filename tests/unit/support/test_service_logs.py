"""Logs that grow are read on, and miss nothing of what stood in them before."""

import json
from pathlib import Path

import pytest

from tests.support.service_logs import ServiceLogs


def a_line(event: str = "service.started", **fields: str) -> bytes:
    line = {"timestamp": "2026-11-22T10:00:00.000Z", "level": "info", "service": "router", "version": "0"}
    return json.dumps({**line, "event": event, **fields}).encode() + b"\n"


def add(log: Path, *parts: bytes) -> None:
    with log.open("ab") as file:
        file.write(b"".join(parts))


def test_a_line_counts_once_and_when_it_is_whole(tmp_path: Path) -> None:
    logs, log = ServiceLogs(tmp_path), tmp_path / "router.log"
    add(log, a_line(), a_line("service.drained")[:20])
    assert [line["event"] for line in logs.lines()] == ["service.started"]
    add(log, a_line("service.drained")[20:], a_line())
    add(tmp_path / "ingest.log", a_line())
    assert [line["event"] for line in logs.lines("router")] == ["service.started", "service.drained", "service.started"]
    assert len(logs.lines()) == 4


def test_a_line_against_the_schema_fails_whoever_asks(tmp_path: Path) -> None:
    logs = ServiceLogs(tmp_path)
    add(tmp_path / "router.log", b'{"event": "Nothing like it"}\n')
    for _ in range(2):
        with pytest.raises(pytest.fail.Exception):
            logs.lines()


def test_a_private_word_is_found_before_and_after_it_became_one(tmp_path: Path) -> None:
    logs, log = ServiceLogs(tmp_path), tmp_path / "router.log"
    add(log, a_line(reason="early"))
    assert logs.holding({"late"}) == []
    assert logs.holding({"late", "early"}) == ["early"]
    add(log, a_line(reason="late"))
    assert logs.holding({"late", "early", "never"}) == ["early", "late"]
    assert logs.holding({"never"}) == []
