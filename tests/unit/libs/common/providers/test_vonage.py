"""Whose fault a failure of Vonage is, by its code alone."""

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
from libs.common.providers import fault_of as fault_by
from libs.common.providers.vonage import FAULTS, RECEIPT, fault_of

DAY = timedelta(days=1)
CLASSES: list[tuple[Fault, list[str]]] = [
    (AccountFault(every_sender=True), ["4", "8", "9", "11", "14", "23", "32", "dlr-16"]),
    (AccountFault(), ["dlr-41"]),
    (Throttled("account"), ["1", "10"]),
    (TransientFault(), ["5", "dlr-8"]),
    (ContentFault(), ["2", "3", "12", "15", "29", "dlr-6", "dlr-10", "dlr-52"]),
    (RecipientFault("no_phone", 90 * DAY), ["33", "dlr-3"]),
    (RecipientFault("no_phone", 30 * DAY), ["7", "dlr-4", "dlr-13", "dlr-14"]),
    (RecipientFault("no_phone", DAY), ["6", "dlr-5", "dlr-11", "dlr-12"]),
    (CountryClosed(every_sender=False), ["dlr-39"]),
    (RecipientFault("unreachable", DAY), ["dlr-2", "dlr-7"]),
    (RecipientFault("sms_opted_out", 365 * DAY), ["dlr-9"]),
    (UnknownFault(), ["dlr-1", "dlr-99", "77", "dlr-"]),
]


@pytest.mark.parametrize(("fault", "codes"), CLASSES)
def test_every_class_has_its_codes(fault: Fault, codes: list[str]) -> None:
    assert {code: fault_of(code) for code in codes} == dict.fromkeys(codes, fault)
    assert {code: fault_by("vonage", code) for code in codes} == dict.fromkeys(codes, fault)


@given(st.none() | st.text() | st.integers())
def test_any_other_code_is_unknown(code: str | int | None) -> None:
    if str(code) not in FAULTS:
        assert fault_of(code) == UnknownFault()


def test_a_number_means_one_thing_in_an_answer_and_another_in_a_receipt() -> None:
    assert fault_of("9") == AccountFault(every_sender=True)
    assert fault_of(f"{RECEIPT}9") == RecipientFault("sms_opted_out", 365 * DAY)
