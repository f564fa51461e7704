"""What an organisation spent: exact sums, and a CSV that no spreadsheet runs."""

import csv
from datetime import date, timedelta
from decimal import Decimal
from io import StringIO
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inbox.api.spend import wants_csv
from services.inbox.spend import MOST_DAYS, SpendError, SpendRow, answer_of, csv_of, read_query, totals

TODAY = date(2026, 11, 25)
QUERY = read_query({"group_by": "category,channel"}, TODAY)
MONEY = st.decimals(min_value=0, max_value=1000, places=6)


def a_row(amount: str = "0.04", *, currency: str | None = "GBP", channel: str = "sms", **more: object) -> SpendRow:
    values = {"day": None, "channel": channel, "category": "bridge", "number": None, "conversation": None}
    counts = {"messages": 1, "segments": 1, "estimated": Decimal(0), "unpriced": 0}
    return SpendRow(**(values | counts | {"currency": currency, "amount": Decimal(amount)} | more))  # type: ignore[arg-type]


def test_without_days_the_last_fourteen_are_meant_by_channel_and_category() -> None:
    found = read_query({}, TODAY)
    assert (found.first, found.last, found.groups) == (date(2026, 11, 12), TODAY, ("channel", "category"))
    assert len(found.days) == 14
    assert found.until - found.since == timedelta(days=14)


def test_groups_stand_in_one_order_however_they_are_asked_for() -> None:
    assert read_query({"group_by": "number, day,day"}, TODAY).groups == ("day", "number")


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("from", {"from": "yesterday"}),
        ("to", {"to": "2026-13-01"}),
        ("to", {"to": "0001-01-01"}),
        ("from", {"from": "2026-11-26", "to": "2026-11-25"}),
        ("from", {"from": "2025-01-01", "to": "2026-11-25"}),
        ("group_by", {"group_by": "customer"}),
    ],
)
def test_what_cannot_be_asked_for_names_the_field(field: str, values: dict[str, str]) -> None:
    with pytest.raises(SpendError) as caught:
        read_query(values, TODAY)
    assert caught.value.field == field


def test_four_hundred_days_can_be_asked_for_and_no_more() -> None:
    first = TODAY - timedelta(days=MOST_DAYS - 1)
    assert len(read_query({"from": first.isoformat(), "to": TODAY.isoformat()}, TODAY).days) == MOST_DAYS
    with pytest.raises(SpendError):
        read_query({"from": (first - timedelta(days=1)).isoformat(), "to": TODAY.isoformat()}, TODAY)


@given(st.lists(st.tuples(MONEY, st.sampled_from(["GBP", "EUR"]), st.booleans())))
def test_the_total_is_the_sum_of_the_rows_to_the_last_digit_and_currencies_are_never_added(
    charges: list[tuple[Decimal, str, bool]],
) -> None:
    rows = [a_row(str(n), currency=c, estimated=n if e else Decimal(0)) for n, c, e in charges]
    answer = answer_of(QUERY, rows, "GBP")
    assert Decimal(answer["total"]) == sum((n for n, c, _ in charges if c == "GBP"), Decimal(0))
    assert Decimal(answer["total_estimated"]) == sum((n for n, c, e in charges if c == "GBP" and e), Decimal(0))
    elsewhere = sum((Decimal(one["total"]) for one in answer["others"]), Decimal(0))
    assert elsewhere == sum((n for n, c, _ in charges if c != "GBP"), Decimal(0))
    assert sum((Decimal(row["amount"]) for row in answer["rows"]), Decimal(0)) == Decimal(answer["total"]) + elsewhere


def test_what_has_no_price_counts_as_a_message_and_adds_nothing() -> None:
    own, others = totals([a_row("0.04"), a_row("0", currency=None, messages=3, unpriced=3)], "GBP")
    assert (own.messages, own.segments, own.amount, own.unpriced, others) == (4, 2, Decimal("0.04"), 3, [])


def test_an_amount_without_a_currency_is_never_lost() -> None:
    own, others = totals([a_row("0.04"), a_row("0.07", currency=None)], "GBP")
    assert (own.messages, own.amount) == (1, Decimal("0.04"))
    assert [(one.currency, one.messages, one.amount) for one in others] == [(None, 1, Decimal("0.07"))]


def test_an_organisation_without_a_currency_has_that_of_its_charges() -> None:
    assert answer_of(QUERY, [a_row(currency="EUR")], None)["currency"] == "EUR"
    assert answer_of(QUERY, [], None)["currency"] is None


@pytest.mark.parametrize("cell", ["=1+1", "+447700900123", "-1", "@sum", "\tx", "a,b", 'say "x"', "a\nb"])
def test_a_cell_of_the_csv_is_never_a_formula_and_reads_back(cell: str) -> None:
    query = read_query({"group_by": "number,conversation"}, TODAY)
    text = csv_of(query, [a_row(number=cell, conversation=uuid4())])
    heading, row = csv.reader(StringIO(text))
    assert heading[:2] == ["number", "conversation"]
    assert row[0].removeprefix("'") == cell
    assert row[0][0] not in "=+-@\t"
    assert len(row) == len(heading)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("*/*", False),
        ("text/csv", True),
        ("Text/CSV; charset=utf-8, */*;q=0.1", True),
        ("application/json, text/csv", False),
        ("text/csv;q=0", False),
        ("text/csv; q=0.000, application/json", False),
        ("application/json;q=0, text/csv;q=0.5", True),
    ],
)
def test_csv_is_given_to_who_wants_it(accept: str | None, wanted: bool) -> None:  # noqa: FBT001 -- a parameter
    assert wants_csv(accept) is wanted
