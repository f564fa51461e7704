"""One line, several numbers. The lines are drawn from the plans as they are today; the numbers of before follow."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.numbering import canonical, dialled, same_line, spellings

TODAY = (
    r"\+55[1-9]{2}9[2-9][0-9]{7}",
    r"\+55[1-9]{2}[2-5][0-9]{7}",
    r"\+52[2-9][0-9]{9}",
    r"\+54[1-3][0-9]{9}",
    r"\+225(01|05|07|21|25|27)[0-9]{8}",
    r"\+22901[2-9][0-9]{7}",
    r"\+237[26][0-9]{8}",
    r"\+241(11|60|62|65|66|74|76|77)[0-9]{6}",
    r"\+84(3|5|7|8|9)[0-9]{8}",
    r"\+1[2-9][0-9]{9}",
    r"\+447[0-9]{9}",
)
lines = st.one_of(*(st.from_regex(rf"\A{plan}\Z") for plan in TODAY)).map(lambda n: n.strip())


@pytest.mark.parametrize(
    ("numbers"),
    [
        ("+5511990000001", "+551190000001"),
        ("+5592990000001", "+559290000001"),
        ("+525500000001", "+5215500000001"),
        ("+541100000001", "+5491100000001", "+54111500000001"),
        ("+542901123456", "+5492901123456", "+54290115123456"),
        ("+2250707000001", "+22507000001"),
        ("+2250546000001", "+22546000001"),
        ("+2250102000001", "+22502000001"),
        ("+2290161234567", "+22961234567"),
        ("+237677123456", "+23777123456"),
        ("+237222123456", "+23722123456"),
        ("+24166123456", "+24106123456"),
        ("+84321234567", "+841621234567"),
    ],
)
def test_a_line_is_known_by_all_its_numbers(numbers: tuple[str, ...]) -> None:
    for number in numbers:
        assert canonical(number) == numbers[0]
        assert set(spellings(number)) == set(numbers)
        assert same_line(number, numbers[-1])


VIETNAM = [
    ("120", "70"), ("121", "79"), ("122", "77"), ("126", "76"), ("128", "78"),
    ("123", "83"), ("124", "84"), ("125", "85"), ("127", "81"), ("129", "82"),
    ("162", "32"), ("163", "33"), ("164", "34"), ("165", "35"), ("166", "36"),
    ("167", "37"), ("168", "38"), ("169", "39"), ("186", "56"), ("188", "58"),
    ("199", "59"),
]  # fmt: skip
GABON = [
    ("02", "62"), ("05", "65"), ("06", "66"), ("04", "74"), ("07", "77"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("country", "old", "new", "rest"),
    [("84", old, new, "1234567") for old, new in VIETNAM] + [("241", old, new, "123456") for old, new in GABON],
)
def test_every_operators_old_prefix_leads_to_its_new_one(country: str, old: str, new: str, rest: str) -> None:
    today, before = f"+{country}{new}{rest}", f"+{country}{old}{rest}"
    assert canonical(before) == today
    assert spellings(today) == (today, before)


def test_a_line_is_dialled_by_its_number_of_today_and_in_argentina_as_it_is_given() -> None:
    assert dialled("+841621234567") == "+84321234567"
    assert dialled("+5491100000001") == "+5491100000001"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("+551130000001", "+5511930000001"),  # a fixed line of São Paulo and a mobile that never had eight digits
        ("+551140000001", "+5511940000001"),
        ("+22520000001", "+2252720000001"),  # a fixed line: which operator's it became is not certain
        ("+447700900001", "+447700900002"),
    ],
)
def test_different_lines_stay_different(one: str, other: str) -> None:
    assert not same_line(one, other)


@given(lines | st.from_regex(r"\A\+[1-9][0-9]{6,14}\Z").map(lambda n: n.strip()))
@example("+54111500000001")
def test_every_number_of_a_line_leads_to_the_same_one(number: str) -> None:
    first, *others = spellings(number)
    assert first == canonical(number) == canonical(first)
    assert number in (first, *others)
    assert all(canonical(other) == first for other in others)
    assert set(spellings(first)) >= {*others} - {number}


@given(lines, lines)
def test_two_lines_share_no_number(one: str, other: str) -> None:
    if one != other:
        assert canonical(one) == one
        assert canonical(other) == other
        assert not set(spellings(one)) & set(spellings(other))


@given(st.text())
def test_what_is_no_number_is_only_itself(text: str) -> None:
    assert spellings(text)[-1] == text
    assert canonical(canonical(text)) == canonical(text)
