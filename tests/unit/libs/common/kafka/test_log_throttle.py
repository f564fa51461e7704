import logging

from libs.common.kafka.log_throttle import OncePerPeriod


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
