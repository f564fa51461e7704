"""What lines come to: repeats, order, limits, and organisations of their own."""

import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.panels.figures import OTHERS, Limits
from tests.support.panel_lines import NOON, a_reading, rows, written

HOUR, DAY = 3600.0, 24 * 3600.0


def decided(route: str = "session", reason: str = "window_open", **fields: object) -> bytes:
    return written("intent.decided", route=route, reason=reason, **{"org_id": "acme", "outcome": "decided", **fields})  # type: ignore[arg-type]  # fields of a line


def iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def test_decisions_count_once_and_by_organisation() -> None:
    reading = a_reading(
        decided(),
        decided(outcome="known"),
        decided("silent", "daily_cap"),
        decided(org_id="bolt"),
        decided(org_id=None),
    )
    assert rows(reading, "decisions") == {("session", "window_open"): 3, ("silent", "daily_cap"): 1}
    assert rows(reading, "decisions", org_id="bolt") == {("session", "window_open"): 1}
    assert rows(reading, "decisions", org_id="nobody") == {}
    assert reading.figures.organisations == ["acme", "bolt"]


def test_lines_of_a_release_that_did_not_mark_repeats_count() -> None:
    ancient = decided().replace(b'"outcome":"decided",', b"")
    assert rows(a_reading(ancient), "decisions") == {("session", "window_open"): 1}


def test_the_last_hour_is_told_beside_the_total() -> None:
    reading = a_reading(*(decided(at=NOON - ago) for ago in (0, HOUR / 2, 2 * HOUR, 90 * DAY)))
    (shown,) = [one for one in reading.figures.shown(NOON) if one.panel.name == "decisions"]
    assert [(int(row.value), int(row.recent or 0)) for row in shown.rows] == [(4, 2)]


def test_a_clock_that_is_years_ahead_does_not_hide_the_last_hour() -> None:
    ahead = [decided(at=NOON + 10 * 365 * DAY + n * HOUR) for n in range(200)]
    reading = a_reading(*ahead, decided(), written("consumer.lag", at=NOON + 99 * 365 * DAY, topic="t", records=9),
                        present=NOON + 5)  # fmt: skip
    (shown,) = [one for one in reading.figures.shown(NOON) if one.panel.name == "decisions"]
    assert [(int(row.value), int(row.recent or 0)) for row in shown.rows] == [(201, 1)]
    assert (reading.first, reading.last, rows(reading, "lag")) == (NOON, NOON, {})


def test_windows_are_open_until_their_latest_closing() -> None:
    def wrote(conversation: str, at: float, org_id: str = "acme") -> bytes:
        fields = {"conversation_id": conversation, "org_id": org_id, "closes_at": iso(at + DAY)}
        return written("message.received", at=at, channel="whatsapp", outcome="stored", **fields)

    reading = a_reading(
        wrote("a", NOON - 2), wrote("a", NOON - 2 * DAY), wrote("b", NOON - DAY + 60), wrote("c", NOON - DAY, "bolt")
    )
    assert rows(reading, "windows") == {("open",): 2, ("closing within the hour",): 1}
    assert rows(reading, "windows", now=NOON + DAY) == {}
    assert rows(reading, "windows", org_id="bolt", now=NOON - 1) == {("open",): 1, ("closing within the hour",): 1}


def bridge(conversation: str, at: float) -> bytes:
    return written("bridge.sent", at=at, org_id="acme", conversation_id=conversation, message_id=f"{conversation}{at}")


def answer(conversation: str, at: float, channel: str, outcome: str = "stored") -> bytes:
    fields = {"org_id": "acme", "conversation_id": conversation, "channel": channel, "outcome": outcome}
    return written("message.received", at=at, **fields)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_first_answer_to_a_bridge_counts_in_either_order_of_the_lines(*, reverse: bool) -> None:
    lines = [answer("a", NOON - 5, "whatsapp"), bridge("a", NOON), answer("a", NOON + 9, "sms")]
    lines += [bridge("b", NOON), answer("b", NOON + 7, "portal", "known")]
    lines += [bridge("c", NOON - 2 * DAY), answer("c", NOON - DAY / 2, "whatsapp"), bridge("d", NOON - 2 * DAY)]
    reading = a_reading(*(reversed(lines) if reverse else lines))
    assert rows(reading, "bridge-answers", now=NOON + 60) == {("sms",): 1, ("no answer yet",): 1, ("expired",): 2}


def test_the_newest_line_of_each_replica_counts_for_what_is_measured() -> None:
    def lag(records: int, at: float) -> bytes:
        return written("consumer.lag", at=at, topic="webhooks.v1", records=records)

    reading = a_reading(lag(900, NOON - 600), lag(7, NOON - 50), lag(40, NOON - 20))
    assert rows(reading, "lag") == {("webhooks.v1",): 40}
    assert rows(reading, "lag", now=NOON + 600) == {}


def test_amounts_are_exact_and_may_become_less() -> None:
    def changed(amount: float) -> bytes:
        return written("spend.changed", org_id="acme", channel="sms", category="sms", currency="GBP", amount=amount)

    reading = a_reading(*[changed(0.1)] * 10, changed(-0.0159))
    assert rows(reading, "spend") == {("sms", "sms", "GBP"): 0.9841}


def test_a_line_without_its_number_counts_nothing() -> None:
    bad: list[object] = ["3", None, True, []]
    lines = [written("record.dead_lettered", topic="webhooks.v1", reason="x", records=n) for n in bad]
    assert rows(a_reading(*lines), "dead-letters") == {}


@given(st.permutations([decided(at=NOON - n, reason=f"r{n % 3}", org_id=f"o{n % 2}") for n in range(6)]))
def test_totals_do_not_depend_on_the_order_of_the_lines(lines: list[bytes]) -> None:
    assert rows(a_reading(*lines), "decisions", org_id="o1") == {("session", f"r{n}"): 1 for n in range(3)}


def test_what_goes_beyond_a_limit_is_counted_together() -> None:
    limits = Limits(rows=2, organisations=2, keys=3)
    reading = a_reading(*(decided(reason=f"r{n}", org_id=f"o{n}") for n in range(5)), limits=limits)
    assert rows(reading, "decisions") == {("session", "r0"): 1, ("session", "r1"): 1, (OTHERS, OTHERS): 3}
    assert (reading.figures.organisations, reading.figures.organisations_left_out) == (["o0", "o1"], 3)
    lags = [written("consumer.lag", topic=f"t{n}", records=n) for n in range(5)]
    assert rows(a_reading(*lags, limits=limits), "lag") == {("t0",): 0, ("t1",): 1, (OTHERS,): 4}
    closes = iso(NOON + DAY)
    fields: dict[str, Any] = {"org_id": "o0", "channel": "whatsapp", "closes_at": closes}
    opened = [written("window.opened", conversation_id=str(n), **fields) for n in range(9)]
    reading = a_reading(*opened, limits=limits)
    (shown,) = [one for one in reading.figures.shown(NOON) if one.panel.name == "windows"]
    assert (int(shown.rows[0].value), shown.left_out) == (3, 6)


def test_memory_does_not_grow_with_the_lines() -> None:
    limits = Limits(rows=20, organisations=20, keys=200)
    reading = a_reading(limits=limits)

    def read(start: int) -> int:
        for n in range(start, start + 600):
            at = NOON + n * 60
            fields = {"org_id": f"o{n}", "conversation_id": f"c{n}", "channel": f"ch{n}", "closes_at": iso(at + DAY)}
            reading.take(written("message.received", at=at, **fields))
            reading.take(written("bridge.sent", at=at, **fields))
            reading.take(written("consumer.lag", at=at, topic=f"t{n}", records=1))
            reading.take(written("intent.decided", at=at, route=f"r{n}", reason="x" * 5_000, **fields))
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = read(0)
        assert read(600) - first < 60_000
    finally:
        tracemalloc.stop()
