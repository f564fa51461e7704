"""Whatever hangs or breaks in one check, the others count and the run ends."""

import asyncio
import threading
import time

from deploy.cli.doctor.findings import Finding, Report
from deploy.cli.doctor.running import CALL_SECONDS, CHECK_SECONDS, WHOLE_SECONDS, Check, Tell, run_checks
from tests.support.doctor import codes

GOOD = Finding("redis_good", "Redis", "It answers.")


async def good(_site: None, tell: Tell) -> None:
    tell(GOOD)


async def hangs(_site: None, tell: Tell) -> None:
    tell(Finding("kafka_old", "Kafka", "It is old."))
    await asyncio.Event().wait()


async def breaks(_site: None, _tell: Tell) -> None:
    raise LookupError("planted-secret-of-a-library")


def test_what_a_hanging_check_has_told_counts_and_that_it_hangs_is_told() -> None:
    found = run_checks((Check("kafka", hangs, 0.05), Check("redis", good)), None)
    assert {one.code for one in found} == {"kafka_old", "kafka_silent", "redis_good"}


def test_a_blocked_thread_holds_up_nothing() -> None:
    release = threading.Event()

    async def blocks(_site: None, _tell: Tell) -> None:
        release.wait()  # as a name that does not resolve, or a library that is not asynchronous

    try:
        found = run_checks((Check("postgres", blocks), Check("redis", good)), None, seconds=2.0)
        assert {one.code for one in found} == {"postgres_silent", "redis_good"}
    finally:
        release.set()


def test_a_thread_of_the_systems_resolver_that_hangs_holds_up_nothing() -> None:
    release = threading.Event()

    async def resolves(_site: None, _tell: Tell) -> None:
        await asyncio.get_running_loop().run_in_executor(None, release.wait)

    try:
        found = run_checks((Check("kafka", resolves, 0.05), Check("redis", good)), None)
        assert {one.code for one in found} == {"kafka_silent", "redis_good"}
    finally:
        release.set()


def test_a_check_that_does_not_heed_its_end_is_left_behind() -> None:
    async def stubborn(_site: None, _tell: Tell) -> None:
        while True:
            try:
                await asyncio.sleep(0.01)
                if time.monotonic() > deadline:
                    return
            except asyncio.CancelledError:
                continue

    deadline = time.monotonic() + 1.0
    found = run_checks((Check("graph", stubborn, 0.05), Check("redis", good)), None, seconds=5.0)
    assert {one.code for one in found} == {"graph_silent", "redis_good"}


def test_a_check_that_breaks_is_a_finding_without_the_librarys_words() -> None:
    found = run_checks((Check("sign-in", breaks), Check("redis", good)), None)
    report = Report.of(found)
    assert codes(report) == {"sign_in_failed", "redis_good"}
    assert "planted-secret-of-a-library" not in repr(report)
    assert "LookupError" in repr(report)


def test_the_deadlines_leave_room_within_thirty_seconds() -> None:
    assert CALL_SECONDS < CHECK_SECONDS < WHOLE_SECONDS
    assert WHOLE_SECONDS + 5 < 30
