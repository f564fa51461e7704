"""What a stranger gets whose identities were taken for another person's, and what that person keeps."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from libs.common.directory.identity_facts import INSTANT, Misattribution, Notice
from libs.common.directory.identity_history import Holding, Kind, Person
from libs.common.directory.identity_register import Register
from libs.common.directory.reattribution import mover, reattribute

ORG = "acme"
LINE, NEXT, THIRD = "+447700900111", "+447700900222", "+447700900333"
START = datetime(2026, 11, 22, tzinfo=UTC)


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


class World(NamedTuple):
    """A register in which all that is held is Kim's, until something is given to the stranger."""

    register: Register
    kim: Person
    stranger: Person

    def held(self, kind: Kind, value: str, since: float, until: float | None = None, **others: Any) -> Holding:
        others = dict[str, Any](person=self.kim, source="message") | others
        found = Holding(ORG, kind, value, since=at(since), until=None if until is None else at(until), **others)
        self.register.history((ORG, kind, value)).holdings.append(found)
        return found

    def told(
        self, hour: float, old: str | None, new: str | None, before: str | None = None, now: str | None = None
    ) -> None:
        self.register.notices.add(Notice(ORG, old, before, new, now, at(hour)))

    def give(
        self, *lines: Holding, bsuids: tuple[str, ...] = (), until: datetime | None = None
    ) -> list[Misattribution]:
        reattribute(self.register, self.kim, self.stranger, iter(lines), bsuids, until=until)
        assert set(self.register.touched.values()) >= {self.kim, self.stranger}
        return self.register.mistakes


@pytest.fixture
def world() -> World:
    return World(Register(), Person(ORG, "inbound", UUID(int=1)), Person(ORG, "inbound", UUID(int=2)))


def test_a_line_goes_with_what_was_written_while_the_stranger_had_it(world: World) -> None:
    line, other = world.held("phone", LINE, 1, 5), world.held("phone", NEXT, 5)
    assert world.give(line) == [Misattribution(world.kim, LINE, at(1) - INSTANT, (), world.stranger, at(5))]
    assert (line.person, other.person) == (world.stranger, world.kim)


def test_messages_after_a_given_time_stay_where_they_are(world: World) -> None:
    [mistake] = world.give(world.held("phone", LINE, 1, 5), until=at(3))
    assert mistake.until == at(3)


@pytest.mark.parametrize(
    ("since", "line", "is_theirs"),
    [(1, LINE, True), (4.9, LINE, True), (0.9, LINE, False), (5, LINE, False), (3, NEXT, False), (3, None, False)],
)
def test_a_user_id_that_was_learned_on_the_line_meanwhile_is_theirs(
    world: World,
    since: float,
    line: str | None,
    is_theirs: bool,  # noqa: FBT001 -- a case
) -> None:
    bsuid = world.held("bsuid", "GB.1", since, line=line)
    given = world.give(world.held("phone", LINE, 1, 5))
    assert bsuid.person is (world.stranger if is_theirs else world.kim)
    assert {mistake.bsuids for mistake in given} == {("GB.1",) if is_theirs else ()}


def test_so_is_one_that_is_learned_later_on_a_line_that_they_still_have(world: World) -> None:
    bsuid = world.held("bsuid", "GB.1", 90, line=LINE)
    world.give(world.held("phone", LINE, 1))
    assert bsuid.person is world.stranger


def test_a_wa_id_of_the_line_is_no_user_id(world: World) -> None:
    spelled = world.held("wa_id", LINE[1:], 2, line=LINE)
    assert [mistake.bsuids for mistake in world.give(world.held("phone", LINE, 1, 5))] == [()]
    assert spelled.person is world.kim


def test_whatever_is_known_by_their_user_id_is_theirs_before_and_after(world: World) -> None:
    line = world.held("phone", LINE, 3, 5, bsuid="GB.1")
    first, last = world.held("bsuid", "GB.1", 1, 2), world.held("bsuid", "GB.1", 4)
    another, not_known = world.held("phone", NEXT, 8, 9, bsuid="GB.1"), world.held("phone", THIRD, 8, bsuid="GB.2")
    given = world.give(line)
    assert {one.person for one in (line, first, last, another)} == {world.stranger}
    assert not_known.person is world.kim
    of_bsuid: dict[str, Any] = {"bsuids": ("GB.1",), "stranger": world.stranger, "person": world.kim}
    assert given == [
        Misattribution(line=LINE, at=at(3) - INSTANT, until=at(5), **of_bsuid),
        Misattribution(line=NEXT, at=at(8) - INSTANT, until=at(9), **of_bsuid),
        Misattribution(line=LINE, at=at(1) - INSTANT, until=at(1) - INSTANT, **of_bsuid),
    ]


def test_a_user_id_of_somebody_else_stays_theirs(world: World) -> None:
    ruth = Person(ORG, "inbound", UUID(int=3))
    bsuid = world.held("bsuid", "GB.1", 1, person=ruth)
    given = world.give(world.held("phone", LINE, 3, 5, bsuid="GB.1"), bsuids=("GB.1",))
    assert (bsuid.person, [mistake.bsuids for mistake in given]) == (ruth, [()])


def test_a_user_id_alone_is_given_without_a_line(world: World) -> None:
    bsuid = world.held("bsuid", "GB.1", 1)
    assert world.give(bsuids=("GB.1", "GB.1")) == []
    assert bsuid.person is world.stranger


def test_the_line_from_which_they_came_and_that_to_which_they_went_are_theirs(world: World) -> None:
    before, line, after = (
        world.held("phone", THIRD, 0, 1),
        world.held("phone", LINE, 1, 5),
        world.held("phone", NEXT, 5),
    )
    came, went = world.held("bsuid", "GB.3", 0), world.held("bsuid", "GB.2", 5)
    world.told(1, THIRD, LINE, before="GB.3")
    world.told(5, LINE, NEXT, now="GB.2")
    world.give(line)
    assert {one.person for one in (before, line, after, came, went)} == {world.stranger}


@pytest.mark.parametrize(
    ("hour", "old", "new"),
    [(4, LINE, NEXT), (5, THIRD, NEXT), (2, NEXT, LINE), (1, NEXT, THIRD)],
)
def test_a_change_of_another_time_or_line_leads_nowhere(world: World, hour: float, old: str, new: str) -> None:
    line, other = world.held("phone", LINE, 1, 5), world.held("phone", NEXT, hour)
    earlier = world.held("phone", NEXT, 0, hour)
    world.told(hour, old, new)
    world.give(line)
    assert (other.person, earlier.person) == (world.kim, world.kim)


def test_a_line_that_somebody_else_has_since_the_change_stays_theirs(world: World) -> None:
    ruth = Person(ORG, "inbound", UUID(int=3))
    line, other = world.held("phone", LINE, 1, 5), world.held("phone", NEXT, 5, person=ruth)
    world.told(5, LINE, NEXT)
    assert len(world.give(line)) == 1
    assert other.person is ruth


def test_a_change_that_names_a_user_id_leads_on_both_ways(world: World) -> None:
    world.held("bsuid", "GB.1", 1)
    earlier, later = world.held("phone", LINE, 0, 1), world.held("phone", NEXT, 5)
    of_others = world.held("phone", THIRD, 5)
    world.told(1, LINE, None, now="GB.1")
    world.told(5, None, NEXT, before="GB.1")
    world.give(bsuids=("GB.1",))
    assert (earlier.person, later.person, of_others.person) == (world.stranger, world.stranger, world.kim)


def test_a_line_of_today_is_where_they_are_reached_and_the_person_no_more(world: World) -> None:
    world.kim.phone = LINE
    world.give(world.held("phone", LINE, 1))
    assert world.stranger.phone == LINE
    assert world.kim.phone is None


@pytest.mark.parametrize(("until", "kims", "theirs"), [(5, LINE, None), (None, NEXT, None)])
def test_nobodys_phone_changes_by_a_line_that_was_given_up_or_is_not_the_persons_phone(
    world: World, until: float | None, kims: str, theirs: str | None
) -> None:
    world.kim.phone = kims
    world.give(world.held("phone", LINE, 1, until))
    assert world.kim.phone == kims
    assert world.stranger.phone == (theirs if until is not None else LINE)


def test_a_phone_that_they_have_already_stays(world: World) -> None:
    world.stranger.phone = THIRD
    world.give(world.held("phone", LINE, 1))
    assert world.stranger.phone == THIRD


@pytest.mark.parametrize(
    ("until", "ended_by", "moved"),
    [(5, "notice", True), (None, None, False), (3, "notice", False), (2, "notice", False), (5, "message", False)],
)
def test_who_left_the_line_after_a_notice_by_another_one_has_moved(
    world: World,
    until: float | None,
    ended_by: Any,
    moved: bool,  # noqa: FBT001 -- a case
) -> None:
    notice = Notice(ORG, LINE, None, NEXT, None, at(3))
    world.register.notices.add(notice)
    world.told(until or 9, LINE, THIRD)
    assert mover(world.register, world.held("phone", LINE, 1, until, ended_by=ended_by), notice) is moved


@pytest.mark.parametrize(
    ("hour", "old", "new"),
    [(5, LINE, NEXT), (6, LINE, THIRD), (5, NEXT, THIRD)],
)
def test_a_repeat_of_the_notice_or_a_change_elsewhere_moves_nobody(
    world: World, hour: float, old: str, new: str
) -> None:
    notice = Notice(ORG, LINE, None, NEXT, None, at(3))
    world.told(hour, old, new)
    assert not mover(world.register, world.held("phone", LINE, 1, 5, ended_by="notice"), notice)
