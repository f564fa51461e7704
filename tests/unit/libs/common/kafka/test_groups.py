"""What is asked of the coordinators of consumer groups, while they move."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    GroupCoordinatorNotAvailableError,
    GroupLoadInProgressError,
    NotCoordinatorForGroupError,
)
from aiokafka.structs import OffsetAndMetadata

from libs.common.kafka import groups

HERE, THERE = TopicPartition("webhooks.v1", 0), TopicPartition("webhooks.v1", 1)


class Described:
    """An answer about one group."""

    def __init__(self, error: int, members: int) -> None:
        self._group = {"error_code": error, "group": "g", "members": [{}] * members}

    def to_object(self) -> dict[str, Any]:
        return {"groups": [self._group]}


class Admin:
    """Gives these answers in turn, the last one for ever; an exception is raised."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    async def describe_consumer_groups(self, names: list[str]) -> list[Any]:
        return [self._next()]

    async def list_consumer_group_offsets(self, name: str, partitions: Any) -> Any:
        return self._next()

    def _next(self) -> Any:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_ASK_EVERY", 0.0)


async def test_offsets_are_asked_for_again_until_the_coordinator_knows_them() -> None:
    known = {HERE: OffsetAndMetadata(7, ""), THERE: OffsetAndMetadata(-1, "")}
    moving = [GroupCoordinatorNotAvailableError(), NotCoordinatorForGroupError(), {}]  # the last one loads its groups
    assert await groups.committed(Admin(*moving, known), "g", [HERE, THERE]) == {HERE: 7}
    assert await groups.committed(Admin({}), "g") == {}  # nobody says which partitions it has committed


async def test_a_group_whose_coordinator_moves_is_not_taken_for_an_empty_one() -> None:
    moving = [GroupLoadInProgressError(), Described(NotCoordinatorForGroupError.errno, 0)]
    assert await groups.members(Admin(*moving, Described(0, 2)), "g") == 2
    assert await groups.members(Admin(Described(0, 0)), "g") == 0


@pytest.mark.parametrize(
    "last", [GroupCoordinatorNotAvailableError, NotCoordinatorForGroupError, GroupAuthorizationFailedError]
)
async def test_what_stays_is_raised(monkeypatch: pytest.MonkeyPatch, last: type[Exception]) -> None:
    monkeypatch.setattr(groups, "PATIENCE_SECONDS", 0.0)
    with pytest.raises(last):
        await groups.members(Admin(last()), "g")


async def test_a_right_that_is_missing_is_no_empty_group() -> None:
    with pytest.raises(GroupAuthorizationFailedError):
        await groups.members(Admin(Described(GroupAuthorizationFailedError.errno, 0)), "g")
