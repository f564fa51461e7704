"""Meta's table: every code of Meta's has its row, and what has none is nobody's fault in particular."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.faults import (
    AccountFault,
    ContentFault,
    Fault,
    RecipientFault,
    TemplateGone,
    TemplateNeedsSync,
    Throttled,
    TransientFault,
    UnknownFault,
    WindowClosed,
)
from libs.common.providers.meta import FAULTS, fault_of

CLASSES: dict[type[Fault], list[int]] = {
    WindowClosed: [131047],
    AccountFault: [
        *(0, 3, 10, 33, 102, 104, 190, 200, 299, 368, 131005, 131031),
        *(131037, 131042, 131044, 131045, 131048, 131064, 133010),
    ],
    TemplateGone: [132001, 132015, 132016],
    TemplateNeedsSync: [131008, 132000, 132005, 132007, 132012, 132018],
    RecipientFault: [130403, 130472, 130497, 131026, 131049, 131050, 131062, 131063],
    Throttled: [4, 17, 32, 341, 613, 80007, 80008, 130429, 131056, 131057],
    TransientFault: [1, 2, 131000, 131016, 131053, 133004],
    ContentFault: [100, 131009, 131021, 131030, 131051, 131052, 132068, 132069, 135000, 137000],
}


@pytest.mark.parametrize(("fault", "code"), [(fault, code) for fault, codes in CLASSES.items() for code in codes])
def test_every_code_has_its_class(fault: type[Fault], code: int) -> None:
    assert isinstance(fault_of(code), fault)
    assert fault_of(str(code)) == fault_of(code)


def test_only_what_lies_with_the_address_marks_it() -> None:
    marks = {
        code: fault.mark
        for code, fault in FAULTS.items()
        if isinstance(fault, RecipientFault) and fault.mark is not None
    }
    assert marks == {
        131026: "unreachable",
        131049: "marketing_limited",
        130472: "marketing_limited",
        130403: "unreachable",
        130497: "unreachable",
        131050: "marketing_stopped",
    }


def test_every_mark_on_an_address_ends_some_day() -> None:
    assert all(
        fault.lasts is not None
        for fault in FAULTS.values()
        if isinstance(fault, RecipientFault) and fault.mark not in (None, "marketing_stopped")
    )


@given(st.none() | st.text() | st.integers().filter(lambda code: code not in FAULTS))
def test_any_other_code_is_unknown(code: str | int | None) -> None:
    if not (isinstance(code, str) and code.isascii() and code.isdigit() and int(code) in FAULTS):
        assert fault_of(code) == UnknownFault()
