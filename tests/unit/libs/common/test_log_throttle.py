from libs.common.log_throttle import LogThrottle
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
