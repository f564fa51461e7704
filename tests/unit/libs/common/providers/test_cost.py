"""Whatever a provider says of a price, it is a price that is paid, or none."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.providers.cost import Cost, read_cost, total


@pytest.mark.parametrize(
    ("said", "cost"),
    [
        (("2", "-0.0750", "usd"), Cost(2, Decimal("0.0750"), "USD")),
        ((1, None, "USD"), Cost(1, None, None)),
        (("0", None, None), None),
        ((None, "0.05", None), Cost(None, Decimal("0.05"), None)),
        ((True, "NaN", "EUR"), None),
        (("3", "Infinity", "EUR"), Cost(3, None, None)),
        (("x" * 99, "1" * 99, "EUROS"), None),
        ((3, "-2550", "VND"), Cost(3, Decimal(2550), "VND")),
        ((-1, 1_000_000, "EUR"), None),
        (("\u00b2", "0.05", "USD"), Cost(None, Decimal("0.05"), "USD")),
        (("100", None, None), Cost(100, None, None)),
        (("101", None, None), None),
        *(((1, "0.05", said), Cost(1, Decimal("0.05"), None)) for said in ("US", "U$D", "\u00dcSD", 840)),
        *(((1, said, "USD"), Cost(1, None, None)) for said in (True, ["0.05"], "0." + "0" * 28 + "1")),
        ((1, "100000", "VND"), Cost(1, Decimal(100_000), "VND")),
        ((1, "100000.01", "VND"), Cost(1, None, None)),
    ],
)
def test_a_cost_is_read_as_far_as_it_is_one(said: tuple[object, object, object], cost: Cost | None) -> None:
    assert read_cost(*said) == cost


@given(st.tuples(*[st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())] * 3))
def test_nothing_that_is_said_stops_anything(said: tuple[object, object, object]) -> None:
    cost = read_cost(*said)
    assert cost is None or cost.amount is None or 0 <= cost.amount <= 100_000


def test_lists_in_lists_are_no_price_and_stop_nothing() -> None:
    deep: list[object] = []
    for _ in range(5000):
        deep = [deep]
    assert read_cost(deep, "0.05", "USD") == Cost(None, Decimal("0.05"), "USD")
    assert read_cost(1, deep, deep) == Cost(1, None, None)


def test_parts_have_a_sum_only_where_each_has_a_price() -> None:
    assert total(["0.0333", "0.0333"]) == Decimal("0.0666")
    assert total(["0.0333", None]) is None
    assert total([]) is None
    assert total(["60000", "60000"]) is None  # more than the column of a charge's price should ever see
