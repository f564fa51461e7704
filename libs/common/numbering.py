"""The numbers of one telephone line, before and after changes of a numbering plan. Pure.

Countries have changed their numbering plans. WhatsApp keeps many accounts under the number that they were opened with.
So a customer and Meta may give different numbers of the same line, and both are right.

Rule 1: a line has one canonical number. All numbers of the line have it, and it is its own canonical number.
Rule 2: two lines never share a canonical number. A rule is listed only where the old number certainly became the new
        one, and no other line's.
Rule 3: no number is invalid here. A number without a rule has no other spelling.

Old numbers of fixed lines are left out where the plan gave them to several operators (Ivory Coast).
"""

import re
from functools import lru_cache
from typing import NamedTuple

import phonenumbers


class _Rule(NamedTuple):
    """Numbers of the form ``other`` became ``canonical`` ones.

    ``to_canonical`` and ``to_other`` are the templates there and back.
    """

    other: re.Pattern[str]
    to_canonical: str
    canonical: re.Pattern[str]
    to_other: str


def _rule(other: str, to_canonical: str, canonical: str, to_other: str) -> _Rule:
    return _Rule(re.compile(other, re.ASCII), to_canonical, re.compile(canonical, re.ASCII), to_other)


def _prefixed(country: str, prefix: str, old: str) -> _Rule:
    """Numbers that match ``old`` got ``prefix`` before them."""
    return _rule(
        rf"\+{country}({old})", rf"+{country}{prefix}\g<1>", rf"\+{country}{prefix}({old})", rf"+{country}\g<1>"
    )


def _replaced(country: str, old: str, new: str, rest: int) -> _Rule:
    """Numbers that began with ``old`` begin with ``new`` now; ``rest`` digits follow."""
    return _rule(
        rf"\+{country}{old}(\d{{{rest}}})",
        rf"+{country}{new}\g<1>",
        rf"\+{country}{new}(\d{{{rest}}})",
        rf"+{country}{old}\g<1>",
    )


_VIETNAM = {
    "120": "70", "121": "79", "122": "77", "126": "76", "128": "78",
    "123": "83", "124": "84", "125": "85", "127": "81", "129": "82",
    "162": "32", "163": "33", "164": "34", "165": "35", "166": "36", "167": "37", "168": "38", "169": "39",
    "186": "56", "188": "58", "199": "59",
}  # fmt: skip

_RULES: dict[str, tuple[_Rule, ...]] = {
    # 2012 to 2016: mobile numbers got a 9 after the area code. Fixed lines, whose numbers begin with 2 to 5, stayed as
    # they were.
    "+55": (_rule(r"\+55([1-9]{2})([6-9]\d{7})", r"+55\g<1>9\g<2>", r"\+55([1-9]{2})9([6-9]\d{7})", r"+55\g<1>\g<2>"),),
    # 2019: the 1 of mobiles called from abroad went.
    "+52": (_rule(r"\+521([2-9]\d{9})", r"+52\g<1>", r"\+52([2-9]\d{9})", r"+521\g<1>"),),
    # The 9 marks a mobile called from abroad; area code and number are ten digits with it and without.
    "+54": (_rule(r"\+549([1-3]\d{9})", r"+54\g<1>", r"\+54([1-3]\d{9})", r"+549\g<1>"),),
    # Ivory Coast, January 2021: ten digits instead of eight. The second digit of a mobile number named its operator.
    "+225": (
        _prefixed("225", "01", r"[04-9][123]\d{6}|[4-9]0\d{6}"),
        _prefixed("225", "05", r"[04-9][456]\d{6}"),
        _prefixed("225", "07", r"[04-9][789]\d{6}"),
    ),
    # Benin, November 2024: 01 before every number.
    "+229": (_prefixed("229", "01", r"[2-9]\d{7}"),),
    # Cameroon, November 2014: 6 before mobile numbers, 2 before fixed ones.
    "+237": (_prefixed("237", "6", r"[5-9]\d{7}"), _prefixed("237", "2", r"[23]\d{7}")),
    # Gabon, June 2019: the operator's digit took the place of the 0.
    "+241": tuple(_replaced("241", f"0{now[1]}", now, 6) for now in ("62", "65", "66", "74", "77")),
    # Vietnam, September 2018: mobile numbers of eleven digits became numbers of ten.
    "+84": tuple(_replaced("84", old, new, 7) for old, new in _VIETNAM.items()),
}
_CODES = re.compile("|".join(map(re.escape, _RULES)))
_AREA_LENGTHS = (2, 3, 4)  # of Argentina, where mobiles are dialled with a 15 after the area code
_ARGENTINE_LOCAL = re.compile(r"\+54[1-3]\d{11}", re.ASCII)


@lru_cache(maxsize=1 << 16)
def canonical(e164: str) -> str:
    """The canonical number of the line of this number (E.164, plus sign).

    A text that is no number is returned unchanged.
    """
    code = _CODES.match(e164)
    if code is None:
        return e164
    if _ARGENTINE_LOCAL.fullmatch(e164):
        return _without_the_15(e164)
    for rule in _RULES[code[0]]:
        if found := rule.other.fullmatch(e164):
            return found.expand(rule.to_canonical)
    return e164


@lru_cache(maxsize=1 << 14)
def spellings(e164: str) -> tuple[str, ...]:
    """All numbers of this number's line: the canonical one first, the given one among them."""
    first = canonical(e164)
    found = [first]
    if code := _CODES.match(first):
        matches = [(rule.canonical.fullmatch(first), rule.to_other) for rule in _RULES[code[0]]]
        found += [match.expand(to_other) for match, to_other in matches if match]
        if code[0] == "+54":
            found += _with_the_15(first)
    return tuple(dict.fromkeys([*found, e164]))


def dialled(e164: str) -> str:
    """The number of the line in telephone networks today. In Argentina both numbers of a line work."""
    return e164 if e164.startswith("+54") else canonical(e164)


def same_line(one: str, other: str) -> bool:
    """Whether two numbers (E.164) are the same line."""
    return one == other or canonical(one) == canonical(other)


def _without_the_15(e164: str) -> str:
    """The number without its 15. Only the numbering plan knows where the area code ends."""
    try:
        national = phonenumbers.parse(e164).national_number
    except phonenumbers.NumberParseException:
        return e164
    found = _RULES["+54"][0].other.fullmatch(f"+54{national}")
    return e164 if found is None else found.expand(_RULES["+54"][0].to_canonical)


def _with_the_15(canonically: str) -> list[str]:
    national = canonically.removeprefix("+54")
    dialled = [f"+54{national[:area]}15{national[area:]}" for area in _AREA_LENGTHS]
    return [number for number in dialled if canonical(number) == canonically]
