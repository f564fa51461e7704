"""Finding the one among many: for rows that come again by themselves, and for statements that take rows."""

from collections.abc import Sequence

import asyncpg
import pytest

from libs.common.bisection import AdaptiveBatchSize, run_bisected
from libs.common.errors import Transient

SLOW = asyncpg.QueryCanceledError("canceling statement due to statement timeout")


async def worked(bad: dict[int, Exception]) -> tuple[list[int], list[tuple[int, str]]]:
    """What was worked on of twenty, and what was told of the others."""
    done, told = list[int](), list[tuple[int, str]]()

    async def work(items: Sequence[int]) -> None:
        for item in items:
            if item in bad:
                raise bad[item]
        done.extend(items)

    def failed(item: int, error: Exception) -> None:
        told.append((item, type(error).__name__))

    await run_bisected(range(20), work, key=lambda item: item, failed=failed)
    return done, told


async def test_what_fails_or_is_too_slow_is_told_and_all_others_are_done_once() -> None:
    done, told = await worked({3: ValueError(), 17: SLOW})
    assert sorted(done) == [n for n in range(20) if n not in (3, 17)]
    assert sorted(told) == [(3, "ValueError"), (17, "QueryCanceledError")]


async def test_what_is_slow_for_everybody_or_away_is_raised_and_nobody_is_told() -> None:
    with pytest.raises(asyncpg.QueryCanceledError):
        await worked(dict.fromkeys(range(20), SLOW))
    with pytest.raises(Transient):
        await worked({0: Transient("away")})


def test_a_statement_that_was_too_slow_takes_half_as_many_the_next_time_and_more_again_when_it_passed() -> None:
    portion, sizes = AdaptiveBatchSize(500), []
    for slow in (True, True, False, False, False):
        try:
            with portion.taken() as size:
                sizes.append(size)
                if slow:
                    raise SLOW
        except asyncpg.QueryCanceledError:
            pass
    assert sizes == [500, 250, 125, 250, 500]
    with pytest.raises(ValueError, match="a bug"), portion.taken():
        raise ValueError("a bug")
    assert portion.size == 500


async def test_rows_are_taken_until_fewer_are_left_than_asked_for_and_fewer_at_once_where_that_is_too_slow() -> None:
    left, taken = 300, list[int]()

    async def some(size: int) -> int:
        nonlocal left
        if size > 125:
            raise SLOW
        taken.append(min(size, left))
        left -= taken[-1]
        return taken[-1]

    await AdaptiveBatchSize(500).until_done(some)
    assert taken == [125, 125, 50]

    async def locked(_size: int) -> int:
        raise SLOW

    with pytest.raises(asyncpg.QueryCanceledError):
        await AdaptiveBatchSize(500).until_done(locked)
