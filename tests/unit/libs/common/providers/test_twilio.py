"""Whose fault a failure of Twilio is, by its code alone."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.faults import (
    AccountFault,
    ContentFault,
    CountryClosed,
    Fault,
    RecipientFault,
    Throttled,
    TransientFault,
    UnknownFault,
)
from libs.common.providers.twilio import FAULTS, fault_of, is_of_creation

DAY = timedelta(days=1)
CLASSES: list[tuple[Fault, list[int]]] = [
    (AccountFault(every_sender=True), [10001, 20003, 20006, 20403, 20404, 70051, 30002]),
    (AccountFault(), [21212, 21606, 21659, 21660, 21661, 21702, 21703, 21705]),
    (RecipientFault("no_phone", 90 * DAY), [21211, 21214, 21614, 21635, 21265, 21268, 30005, 30006]),
    (RecipientFault("no_phone", 30 * DAY), [30004, 30450]),
    (RecipientFault("unreachable", DAY), [30003, 30036]),
    (RecipientFault("sms_opted_out", 365 * DAY), [21610]),
    (RecipientFault("no_phone", DAY), [30018, 30024, 30042]),
    (ContentFault(), [21602, 21617, 30007, 21608, 21612]),
    (CountryClosed(), [21408]),
    (CountryClosed(every_sender=False), [30032, 30033, 30034, 30035]),
    (Throttled("account"), [20429, 21611]),
    (TransientFault(certain=True), [21730, 30001, 30017, 30022]),
    (UnknownFault(), [30008, 30410, 29999, 39999]),
]


@pytest.mark.parametrize(("fault", "codes"), CLASSES)
def test_every_class_has_its_codes(fault: Fault, codes: list[int]) -> None:
    assert {code: fault_of(code) for code in codes} == dict.fromkeys(codes, fault)


@given(st.none() | st.text() | st.integers().filter(lambda code: code not in FAULTS))
def test_any_other_code_is_unknown(code: str | int | None) -> None:
    if not (isinstance(code, str) and code.isascii() and code.isdigit() and int(code) in FAULTS):
        assert fault_of(code) == UnknownFault()


@pytest.mark.parametrize("code", ["021610", "21610 ", "-21610", "2161０", "1" * 5000])  # noqa: RUF001 -- a full-width digit
def test_what_is_nearly_a_code_raises_nothing(code: str) -> None:
    assert fault_of(code) in {UnknownFault(), FAULTS[21610]}


@pytest.mark.parametrize(
    ("code", "creation"),
    [
        ("21610", True),
        ("20003", True),
        ("63007", True),
        ("30007", False),
        ("30003", False),
        (None, False),
        ("x", False),
    ],
)
def test_codes_of_the_rest_api_are_of_creation(code: str | None, creation: bool) -> None:  # noqa: FBT001 -- a table of cases
    assert is_of_creation(code) == creation
