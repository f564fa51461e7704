"""The columns of the spend page."""

from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inbox.html import LANGUAGES
from services.inbox.spend import SpendRow
from services.inbox.spend_chart import HEIGHT, WIDTH, chart_of, round_step

FIRST = date(2026, 11, 12)
DAYS = [FIRST + timedelta(days=n) for n in range(14)]
MONEY = st.decimals(min_value=0, max_value=100_000, places=6)


def a_row(day: date, channel: str, category: str, amount: Decimal, estimated: Decimal) -> SpendRow:
    return SpendRow(day, channel, category, None, None, "GBP", 1, 1, amount, estimated, 0)


ROWS = st.lists(
    st.builds(
        a_row,
        st.sampled_from(DAYS),
        st.sampled_from(["sms", "whatsapp"]),
        st.sampled_from(["bridge", "sms", "utility"]),
        MONEY,
        st.just(Decimal(0)),
    )
)


@given(ROWS)
def test_every_column_stands_inside_the_picture_and_its_parts_on_each_other(rows: list[SpendRow]) -> None:
    chart = chart_of(DAYS, rows, "GBP")
    assert [column.day for column in chart.columns] == DAYS
    assert 1 < len(chart.lines) <= 6
    for column in chart.columns:
        assert chart.left <= column.x <= column.x + column.width <= WIDTH
        assert sum(column.amounts.values()) == sum(row.amount for row in rows if row.day == column.day)
        tops = [bar.y for bar in column.bars]
        assert tops == sorted(tops, reverse=True)
        assert all(0 <= bar.y <= bar.y + bar.height <= HEIGHT for bar in column.bars)


def test_what_is_estimated_is_hatched_from_the_top() -> None:
    chart = chart_of([FIRST], [a_row(FIRST, "whatsapp", "utility", Decimal(4), Decimal(1))], "GBP")
    (column,) = chart.columns
    assert column.hatch is not None
    assert column.hatch[0] == column.bars[0].y
    assert abs(column.hatch[1] - (column.bars[0].height + 1) / 4) < 0.5


def test_another_currency_has_no_place_in_the_chart() -> None:
    row = a_row(FIRST, "sms", "sms", Decimal(3), Decimal(0))._replace(currency="EUR")
    assert chart_of([FIRST], [row], "GBP").columns[0].bars == ()


def test_a_year_has_a_label_below_every_few_columns() -> None:
    year = [FIRST + timedelta(days=n) for n in range(365)]
    assert 10 <= sum(column.labelled for column in chart_of(year, [], "GBP").columns) <= 14


@given(MONEY)
def test_the_scale_has_at_most_five_steps_of_a_round_size(highest: Decimal) -> None:
    step = round_step(highest)
    assert highest <= step * 5
    assert step.as_tuple().digits.count(0) >= len(step.as_tuple().digits) - 1


@pytest.mark.parametrize("tag", ["en-GB", "en-US", "de", "de-CH"])
@pytest.mark.parametrize("currency", ["GBP", "EUR", "JPY", "CHF", "IDR", "KWD", "XOF", None])
def test_every_amount_of_the_scale_fits_beside_the_columns(tag: str, currency: str | None) -> None:
    digit = 6.5  # pixels of a digit at the size of the stylesheet, rounded up
    for highest in (Decimal(7) * Decimal(10) ** n for n in range(-4, 8)):
        chart = chart_of(DAYS, [a_row(FIRST, "sms", "sms", highest, Decimal(0))._replace(currency=currency)], currency)
        for line in chart.lines:
            label = LANGUAGES.of(tag).scale(line.amount, currency)
            assert len(label) * digit <= chart.left - 8, label


def test_the_scale_has_no_needless_digits() -> None:
    english, german = LANGUAGES.of("en-GB"), LANGUAGES.of("de")
    assert [english.scale(Decimal(one), "GBP") for one in ("0", "0.0050", "1.5", "200")] == [
        "£0",
        "£0.005",
        "£1.5",
        "£200",
    ]
    assert german.scale(Decimal("0.0002"), "EUR") == "0,0002\N{NO-BREAK SPACE}€"
    assert english.scale(Decimal(15_000), "JPY") == "JP¥15K"
