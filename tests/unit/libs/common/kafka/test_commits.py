"""When offsets are committed, and which together."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from libs.common.kafka import commits as commits_module
from libs.common.kafka.commits import Commits
from tests.support.waiting import eventually

PLACE = TopicPartition("bench.webhooks.v1", 0)
FOR_EVER = 1e9
"""Seconds; longer than any host has been up, for the event loop counts from its start."""


def commits_of(brokers: Any) -> Commits:
    return Commits("webhooks.v1", PLACE.topic, lambda: brokers)


@dataclass
class SlowBrokers:
    """Takes each commit when it is let."""

    commits: list[dict[TopicPartition, int]] = field(default_factory=list)
    let: asyncio.Event = field(default_factory=asyncio.Event)
    refusing: bool = False

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.commits.append(offsets)
        await self.let.wait()
        if self.refusing:
            raise KafkaError


async def test_offsets_that_come_while_a_commit_is_under_way_are_the_next_one_together() -> None:
    brokers: Any = SlowBrokers()
    commits = commits_of(brokers)
    for offset in range(1, 4):
        commits.soon({0: offset})
        await asyncio.sleep(0)
    brokers.let.set()
    await commits.until_done()
    assert brokers.commits == [{PLACE: 1}, {PLACE: 3}]
    assert commits.pending == {}


async def test_the_first_is_committed_at_once_and_the_next_together_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_module, "APART", FOR_EVER)
    brokers: Any = SlowBrokers()
    brokers.let.set()
    commits = commits_of(brokers)
    commits.soon({0: 1})
    await eventually(lambda: not commits.pending)
    commits.soon({0: 2})
    await asyncio.sleep(0)
    commits.soon({0: 3})
    await asyncio.sleep(0)
    assert brokers.commits == [{PLACE: 1}]
    await commits.until_done()
    assert brokers.commits == [{PLACE: 1}, {PLACE: 3}]


async def test_a_wait_for_silent_brokers_that_is_given_up_hurries_no_later_commit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commits_module, "APART", FOR_EVER)
    brokers: Any = SlowBrokers()
    commits = commits_of(brokers)
    commits.soon({0: 1})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await commits.until_done()
    brokers.let.set()
    await eventually(lambda: not commits.pending)
    commits.soon({0: 2})
    for _turn in range(10):
        await asyncio.sleep(0)
    assert brokers.commits == [{PLACE: 1}]
    await commits.until_done()
    assert brokers.commits == [{PLACE: 1}, {PLACE: 2}]


async def test_a_commit_that_fails_stays_pending_and_is_made_up_for() -> None:
    brokers: Any = SlowBrokers(refusing=True)
    brokers.let.set()
    commits = commits_of(brokers)
    commits.soon({0: 1})
    await eventually(lambda: brokers.commits == [{PLACE: 1}])
    assert commits.pending == {0: 1}
    brokers.refusing = False
    await commits.retry()
    assert (brokers.commits[-1], commits.pending) == ({PLACE: 1}, {})


async def test_a_commit_that_fails_before_a_stop_is_tried_once_more() -> None:
    brokers: Any = SlowBrokers(refusing=True)
    brokers.let.set()
    commits = commits_of(brokers)
    commits.soon({0: 1})
    await eventually(lambda: brokers.commits == [{PLACE: 1}])
    commits.soon({0: 2})
    await commits.until_done()
    assert brokers.commits == [{PLACE: 1}, {PLACE: 2}, {PLACE: 2}]
    brokers.refusing = False
    await commits.until_done()
    assert (brokers.commits[-1], commits.pending) == ({PLACE: 2}, {})


async def test_what_is_pending_since_a_rebalance_is_committed_behind_the_commit_of_before() -> None:
    brokers: Any = SlowBrokers()
    commits = commits_of(brokers)
    commits.soon({0: 1})
    await asyncio.sleep(0)
    commits.forget()
    commits.soon({0: 1})
    brokers.let.set()
    await commits.until_done()
    assert brokers.commits == [{PLACE: 1}, {PLACE: 1}]
    assert commits.pending == {}


async def test_one_commit_is_under_way_at_a_time() -> None:
    brokers: Any = SlowBrokers()
    commits = commits_of(brokers)
    both = []
    for offset in (1, 2):
        commits.pending = {0: offset}
        both.append(asyncio.create_task(commits.commit()))
        await asyncio.sleep(0)
    assert brokers.commits == [{PLACE: 1}]
    brokers.let.set()
    assert [await one for one in both] == [True, True]
    assert brokers.commits == [{PLACE: 1}, {PLACE: 2}]


async def test_after_a_rebalance_nothing_of_before_is_committed_also_what_waited_for_its_turn() -> None:
    brokers: Any = SlowBrokers()
    commits = commits_of(brokers)
    both = []
    for partition in (0, 1):
        commits.pending[partition] = 1
        both.append(asyncio.create_task(commits.commit()))
        await asyncio.sleep(0)
    commits.forget()
    assert commits.pending == {}
    brokers.let.set()
    assert [await one for one in both] == [False, False]
    assert (brokers.commits, commits.pending) == ([{PLACE: 1}], {})


@pytest.mark.parametrize("ending", ["committed", "a rebalance"])
async def test_commits_fail_from_the_first_that_does_until_one_is_made_or_a_rebalance_begins(ending: str) -> None:
    brokers: Any = SlowBrokers(refusing=True)
    brokers.let.set()
    commits = commits_of(brokers)
    commits.pending = {0: 1}
    await commits.commit()
    since = commits.failing_since
    assert since is not None
    await asyncio.sleep(0.001)
    await commits.retry()
    assert commits.failing_since == since
    if ending == "committed":
        brokers.refusing = False
        await commits.retry()
    else:
        commits.forget()
    assert commits.failing_since is None


async def test_a_commit_of_before_a_rebalance_that_fails_after_it_is_no_failure() -> None:
    brokers: Any = SlowBrokers(refusing=True)
    commits = commits_of(brokers)
    commits.pending = {0: 1}
    commit = asyncio.create_task(commits.commit())
    await asyncio.sleep(0)
    commits.forget()
    brokers.let.set()
    assert not await commit
    assert (commits.failing_since, commits.pending) == (None, {})
