"""The register of who is who, without a database: whose ids these are, and since when."""

from datetime import UTC, datetime, timedelta
from typing import ClassVar
from uuid import UUID

import pytest

from libs.common.directory.identity_changes import change
from libs.common.directory.identity_facts import Notice, Observation
from libs.common.directory.identity_history import Person
from libs.common.directory.identity_register import Register
from libs.common.directory.phone_claims import claim, inherit

ORG = "acme"
OLD, NEW, BRAZIL = "+447700900111", "+447700900222", "+5511990000001"
B1, B2 = "GB.1", "GB.2"
START = datetime(2026, 11, 22, tzinfo=UTC)


def at(hour: float) -> datetime:
    return START + timedelta(hours=hour)


def seen(hour: float, number: str | None, bsuid: str | None = None) -> Observation:
    wa_id = None if number is None else number[1:]
    return Observation(ORG, number, wa_id, bsuid, at(hour), "message", origin="inbound")


def changed(hour: float, old: str | None, new: str | None, before: str | None = None, now: str | None = None) -> Notice:
    return Notice(ORG, old, before, new, now, at(hour))


def listed(register: Register, number: int = 1) -> Person:
    customer_id = UUID(int=number)
    person = register.people[customer_id] = Person(ORG, "directory", customer_id)
    return person


def test_every_spelling_of_a_line_is_one_persons() -> None:
    register = Register()
    assert register.see(seen(0, BRAZIL)) is register.see(seen(1, "+551190000001"))


def test_what_was_given_up_is_nobodys_until_somebody_is_seen_with_it() -> None:
    register = Register()
    kim = register.see(seen(0, OLD))
    change(register, changed(5, OLD, NEW))
    assert register.of_line(ORG, OLD, at(6)) is None
    stranger = register.see(seen(9, OLD))
    found = [register.of_line(ORG, OLD, at(hour)) for hour in (4, 6, 10)]
    assert [h and h.owner for h in found] == [kim, stranger, stranger]
    assert register.see(seen(7, NEW)) is kim


def test_a_notice_said_again_changes_nothing() -> None:
    register = Register()
    register.see(seen(0, OLD, B1))
    notice = changed(5, OLD, NEW, B1, B2)
    change(register, notice)
    register.see(seen(6, OLD))
    before = {key: [h.row for h in history.holdings] for key, history in register.histories.items()}
    assert change(register, notice)[1] == []
    assert {key: [h.row for h in history.holdings] for key, history in register.histories.items()} == before


@pytest.mark.parametrize("before", [None, B1])
@pytest.mark.parametrize("stranger", [None, "GB.3"])
def test_the_same_change_under_a_later_time_moves_no_stranger(before: str | None, stranger: str | None) -> None:
    register = Register()
    kim = register.see(seen(0, OLD, B1))
    change(register, changed(5, OLD, NEW))
    pat = register.see(seen(6, OLD, stranger))
    assert change(register, changed(7, OLD, NEW, before, B2)) == (kim, [])
    change(register, changed(8, OLD, None, B1, B2))
    assert register.see(seen(9, OLD, stranger)) is pat is not kim
    assert register.see(seen(9, NEW)) is register.see(seen(9, None, B2)) is kim


def test_whoever_had_the_new_number_before_the_notice_is_somebody_else() -> None:
    register = Register()
    before = register.see(seen(0, NEW, "GB.9"))
    kim = register.see(seen(1, OLD, B1))
    change(register, changed(5, OLD, NEW))
    assert register.see(seen(6, NEW)) is kim
    assert register.see(seen(4, NEW)) is before
    assert register.see(seen(7, None, "GB.9")) is before


def test_a_chain_of_notices_that_comes_backwards_leads_to_one_person() -> None:
    register = Register()
    last = register.see(seen(9, "+447700900333", "GB.3"))
    notices = [changed(5, NEW, "+447700900333"), changed(3, OLD, NEW)]
    for notice in notices:
        change(register, notice)
    first = register.see(seen(1, OLD))
    for notice in reversed(notices):
        change(register, notice)
    assert first is not None
    assert last is not None
    assert first.now is last.now


def test_a_customer_of_the_directory_is_adopted_with_a_phone_and_never_joined_with_another() -> None:
    register = Register()
    kim, pat = listed(register, 1), listed(register, 2)
    kim.directory_phone = pat.directory_phone = OLD
    claim(register, kim, OLD, at(0))
    claim(register, pat, OLD, at(1))
    assert register.see(seen(2, OLD, B1)) is kim
    assert register.join(kim, pat) is None
    kim.directory_phone = NEW
    claim(register, pat, OLD, at(3))
    assert register.see(seen(4, OLD)) is pat
    assert register.see(seen(4, None, B1)) is kim


def test_a_line_that_is_given_up_goes_to_whoever_shares_it_by_the_directorys_word() -> None:
    register = Register()
    kim, pat = listed(register, 1), listed(register, 2)
    for person, hour in ((kim, 0), (pat, 1)):
        person.directory_phone = OLD
        person.reach_at(OLD, at(hour))
        claim(register, person, OLD, at(hour))
    register.see(seen(2, OLD, B1))
    change(register, changed(5, OLD, NEW))
    inherit(register)
    assert register.see(seen(6, OLD)) is pat
    assert register.see(seen(6, NEW)) is register.see(seen(4, OLD)) is kim


def test_a_number_that_meta_names_for_the_one_written_to_is_the_same_persons() -> None:
    register = Register()
    kim = listed(register)
    claim(register, kim, OLD, at(0))
    writer = register.see(seen(1, NEW))
    answer = Observation(
        ORG, NEW, NEW[1:], None, at(2), "answer", meant=kim.customer_id, origin="outbound", sent_to=OLD
    )
    assert register.see(answer) is kim
    assert writer is not None
    assert writer.now is kim


class Watched(Notice):
    """A notice that counts how often it is looked at."""

    __slots__ = ()
    looks: ClassVar[int] = 0

    def __getattribute__(self, name: str) -> object:
        Watched.looks += 1
        return super().__getattribute__(name)


def test_of_notices_about_others_none_is_looked_at() -> None:
    """A batch applies hundreds of them while it holds the locks of everybody whom they name."""
    register = Register()
    for number in range(100):
        change(register, Watched(*changed(number, f"+4477009003{number:02}", f"+4477009004{number:02}")))
    register.see(seen(0, OLD, B1))
    before = Watched.looks
    assert before > 0
    for hour in range(1, 9):
        change(register, changed(hour, *((OLD, NEW) if hour % 2 else (NEW, OLD))))
    kim = register.see(seen(9, OLD))
    assert kim is register.see(seen(9, None, B1))
    assert Watched.looks == before


def test_the_number_on_the_senders_card_is_theirs_unless_it_is_somebodys() -> None:
    register = Register()
    kim = register.see(seen(0, OLD)._replace(also=NEW[1:]))
    assert register.see(seen(1, NEW)) is kim
    pat = register.see(seen(0, BRAZIL))
    register.see(seen(1, OLD)._replace(also=BRAZIL[1:]))
    assert register.see(seen(2, BRAZIL)) is pat is not kim


def test_nothing_is_bound_that_is_older_than_seven_days() -> None:
    register = Register()
    kim, pat = register.see(seen(0, OLD, B1)), register.see(seen(0, NEW, B2))
    assert register.see(seen(1, NEW, B1)._replace(source="stale")) is kim
    found = register.of_line(ORG, NEW, at(2))
    assert found is not None
    assert found.owner is pat


def test_who_is_seen_after_the_directorys_word_is_not_its_customer_where_the_number_changed_hands_in_between() -> None:
    register = Register()
    register.see(seen(9, OLD, "GB.9"))
    kim = listed(register)
    kim.reach_at(OLD, at(4))
    claim(register, kim, OLD, at(4))
    assert register.see(seen(10, OLD, "GB.9")) is kim
    change(register, changed(5, OLD, NEW, B1, B2))
    stranger, now = register.see(seen(10, OLD, "GB.9")), register.see(seen(10, NEW, B2))
    assert stranger is not None
    assert now is not None
    assert stranger.now is not now.now is kim


def test_who_came_to_a_number_and_left_it_is_where_they_went_when_it_is_told_that_it_had_been_given_up_before() -> None:
    register = Register()
    kim = register.see(seen(0, OLD))
    change(register, changed(8, OLD, BRAZIL))
    change(register, changed(5, OLD, NEW))
    assert register.see(seen(9, NEW)) is kim
    pat = register.see(seen(9, BRAZIL))
    assert pat is register.see(seen(6, OLD)) is not kim


def test_the_first_user_id_on_a_new_number_is_the_persons_unless_an_earlier_one_is_heard_of_late() -> None:
    register = Register()
    kim = register.see(seen(0, OLD, B1))
    change(register, changed(5, OLD, NEW))
    assert register.see(seen(9, NEW, "GB.9")) is kim
    assert register.see(seen(7, NEW, B2)) is kim
    assert register.see(seen(10, NEW, "GB.9")) is not kim


def by_sms(hour: float, number: str) -> Observation:
    return Observation(ORG, number, None, None, at(hour), "sms", origin="inbound")


def test_an_sms_changes_nobodys_identity() -> None:
    register = Register()
    kim, pat = register.see(seen(0, OLD, B1)), register.see(seen(0, NEW, B2))
    before = {key: [holding.row for holding in history.holdings] for key, history in register.histories.items()}
    assert register.see(by_sms(5, OLD)) is kim
    assert register.see(by_sms(-5, NEW)) is pat
    after = {key: [holding.row for holding in history.holdings] for key, history in register.histories.items()}
    assert after == before
    assert [*register.joins, *register.moves, *register.freed, *register.mistakes] == []


def test_an_sms_from_an_unknown_number_creates_who_later_turns_out_to_write_on_whatsapp() -> None:
    register = Register()
    sam = register.see(by_sms(1, OLD))
    assert sam is not None
    holding = register.of_line(ORG, OLD, at(2))
    assert holding is not None
    assert (holding.source, holding.seen) == ("sms", None)
    assert register.see(seen(3, OLD, B1)) is sam


def test_an_sms_from_a_number_given_up_is_somebody_new() -> None:
    register = Register()
    kim = register.see(seen(0, OLD, B1))
    change(register, changed(5, OLD, NEW, B1, B2))
    assert register.see(by_sms(4, OLD)) is kim
    assert register.see(by_sms(6, OLD)) not in (kim, None)


def test_a_short_code_is_one_customer_without_a_phone() -> None:
    register = Register()
    code = Observation(ORG, None, None, None, at(1), "sms", name="60777", origin="inbound", sender="60777")
    who = register.see(code)
    assert who is not None
    assert (who.name, who.phone) == ("60777", None)
    assert register.see(code._replace(at=at(0))) is who
