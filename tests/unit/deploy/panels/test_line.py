"""Lines are found among what others write around them, and everything else is counted as what it is."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.panels.line import LONGEST, read_line
from tests.support.panel_lines import EVENTS, written

OURS = written("intent.decided", route="session", reason="window_open")
FIELDS = orjson.loads(OURS)


def kind_of(raw: bytes) -> str | None:
    line = read_line(raw, EVENTS)
    return None if line is None else line.kind


def docker_file(line: bytes) -> bytes:
    return orjson.dumps({"log": line.decode() + "\n", "stream": "stdout", "time": "2026-03-04T12:00:00.1Z"})


@pytest.mark.parametrize(
    "raw",
    [
        OURS,
        OURS + b"\r\n",
        b"  " + OURS,
        json.dumps(FIELDS).encode(),
        b"router-1  | " + OURS,
        b"\x1b[36mrouter-1  | \x1b[0m" + OURS,
        b"[pod/router-7d/router] " + OURS,
        b"2026-03-04T12:00:00.000000000Z stdout F " + OURS,
        b"{router} " + OURS,
        docker_file(OURS),
        orjson.dumps({"line": docker_file(OURS).decode(), "labels": {"job": "transom"}}),
        orjson.dumps({"MESSAGE": OURS.decode(), "_PID": "7"}),
        OURS + b" <- look at this",
    ],
)
def test_a_line_is_found_in_what_stands_around_it(raw: bytes) -> None:
    line = read_line(raw, EVENTS)
    assert line is not None
    assert (line.kind, line.fields, line.at) == ("ours", FIELDS, 1772625600.0)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", None),
        (b" \t\r\n", None),
        (b"LOG:  database system is ready to accept connections", "foreign"),
        (b"Traceback (most recent call last):", "foreign"),
        (b'{"level":"info","ts":1,"msg":"caddy"}', "foreign"),
        (b'{"event":"boot","uptime":3}', "foreign"),
        (b"[1, 2]", "foreign"),
        (b"17", "foreign"),
        (b"\x00\xff\x1f\x8b{{{{{\x80", "foreign"),
        (OURS[:-20], "torn"),
        (OURS[40:], "torn"),
        (docker_file(OURS[:-20]), "torn"),
        (b'{"event":"' + b"x" * LONGEST, "torn"),
        (b'{"a":' * 5000, "torn"),
        (written("intent.guessed"), "ancient"),
        (orjson.dumps({"event": "intent.decided", "service": "router"}), "ancient"),
        (orjson.dumps(FIELDS | {"timestamp": "yesterday"}), "ancient"),
        (orjson.dumps(FIELDS | {"timestamp": "2026-03-04T12:00:00"}), "ancient"),
        (orjson.dumps(FIELDS | {"timestamp": "0001-01-01T00:00:00+14:00"}), "ancient"),
    ],
)
def test_what_is_not_a_line_of_today_is_called_what_it_is(raw: bytes, kind: str | None) -> None:
    assert kind_of(raw) == kind


@given(st.binary(max_size=300))
def test_any_bytes_are_something(raw: bytes) -> None:
    assert kind_of(raw) in {None, "foreign", "torn"}


@given(
    st.dictionaries(
        st.text(), st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
    )
)
def test_any_object_is_something(found: dict[str, Any]) -> None:
    assert kind_of(json.dumps(found).encode()) in {"foreign", "torn", "ancient", "ours"}


@given(st.integers(1, len(OURS) - 1))
def test_no_piece_of_a_line_counts_as_one(length: int) -> None:
    assert kind_of(OURS[:length]) in {"torn", "foreign", None}
