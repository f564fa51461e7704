from libs.common.seldom import Seldom
from tests.support.waiting import eventually


async def test_a_flood_is_told_at_once_and_then_together() -> None:
    seldom, told = Seldom(seconds=0.05), list[tuple[str, int]]()

    def happens(key: str) -> None:
        seldom.happened(key, lambda times: told.append((key, times)))

    for _ in range(1000):
        happens("a")
    happens("b")
    assert told == [("a", 1), ("b", 1)]
    await eventually(lambda: len(told) == 3, "the rest is told")
    assert told == [("a", 1), ("b", 1), ("a", 999)]
    await eventually(lambda: not seldom._waiting, "nothing more happened for a while")
    happens("a")
    assert told[3:] == [("a", 1)]
