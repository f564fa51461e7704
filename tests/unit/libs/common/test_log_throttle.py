import logging

from libs.common.log_throttle import LogThrottle, OncePerPeriod
from tests.support.waiting import eventually


async def test_a_flood_is_logged_at_once_and_then_together() -> None:
    throttle, logged = LogThrottle(seconds=0.05), list[tuple[str, int]]()

    def happens(key: str) -> None:
        throttle.report(key, lambda times: logged.append((key, times)))

    for _ in range(1000):
        happens("a")
    happens("b")
    assert logged == [("a", 1), ("b", 1)]
    await eventually(lambda: len(logged) == 3, "the rest is logged")
    assert logged == [("a", 1), ("b", 1), ("a", 999)]
    await eventually(lambda: not throttle._waiting, "nothing more happened for a while")
    happens("a")
    assert logged[3:] == [("a", 1)]


def complaint(line: int, level: int = logging.ERROR) -> logging.LogRecord:
    return logging.LogRecord("aiokafka", level, "/aiokafka/client.py", line, "Unable to connect to %s", ("b",), None)


def test_a_complaint_is_told_once_a_minute_and_another_one_at_once() -> None:
    now = [1000.0]
    once = OncePerPeriod(lambda: now[0])
    assert once.filter(complaint(10))
    now[0] += 59.0
    assert not once.filter(complaint(10))
    assert once.filter(complaint(20))
    now[0] += 2.0
    assert once.filter(complaint(10))
