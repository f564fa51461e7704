"""The columns of the spend page, as coordinates of an SVG. Pure.

Rule 1: a column has the kinds from bottom to top, each as high as its amount. What is estimated lies over the top of
        the column, hatched.
Rule 2: the scale ends at a round number that is not below the highest column, and has at most five lines.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, Decimal
from typing import Literal

from services.inbox.spend import SpendRow

Kind = Literal["whatsapp", "sms", "bridge"]
KINDS: tuple[Kind, ...] = ("whatsapp", "sms", "bridge")
WIDTH, HEIGHT = 960, 230
_LEFT, _TOP, _BOTTOM = 100, 10, 204
_FILL = 0.6
_GAP = 1.0
_LINES = 5
_LABELS = 14
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Bar:
    """One kind's part of a column."""

    kind: Kind
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """One day. ``hatch`` is the (y, height) of what is estimated; ``labelled``: its date stands below it."""

    day: date
    amounts: Mapping[Kind, Decimal]
    bars: tuple[Bar, ...]
    hatch: tuple[float, float] | None
    x: float
    width: float
    labelled: bool

    @property
    def middle(self) -> float:
        return round(self.x + self.width / 2, 1)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the scale."""

    amount: Decimal
    y: float


@dataclass(frozen=True, slots=True)
class Chart:
    """All columns and the scale."""

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    left: int = _LEFT
    width: int = WIDTH
    height: int = HEIGHT


def kind_of(channel: str | None, category: str | None) -> Kind:
    """The part of the column that a charge belongs to."""
    if channel != "sms":
        return "whatsapp"
    return "bridge" if category == "bridge" else "sms"


def chart_of(days: Sequence[date], rows: Sequence[SpendRow], currency: str | None) -> Chart:
    """The chart of rows that are grouped by day, channel and category, those of one currency."""
    amounts = {day: dict.fromkeys(KINDS, _ZERO) for day in days}
    estimates = dict.fromkeys(days, _ZERO)
    for row in rows:
        if row.day in amounts and row.currency == currency:
            amounts[row.day][kind_of(row.channel, row.category)] += row.amount
            estimates[row.day] += row.estimated
    highest = max((sum(of_day.values(), _ZERO) for of_day in amounts.values()), default=_ZERO)
    step = round_step(highest)
    count = max(1, int((highest / step).to_integral_value(ROUND_CEILING)))
    top = step * count

    def y(amount: Decimal) -> float:
        return round(_BOTTOM - float(amount / top) * (_BOTTOM - _TOP), 1)

    slot = (WIDTH - _LEFT) / max(1, len(days))
    every = -(-len(days) // _LABELS)
    columns = []
    for n, day in enumerate(days):
        below, bars = _ZERO, []
        for kind in KINDS:
            if amount := amounts[day][kind]:
                bars.append(Bar(kind, y(below + amount), max(0.0, round(y(below) - y(below + amount) - _GAP, 1))))
                below += amount
        hatch = (y(below), round(y(below - estimates[day]) - y(below), 1)) if estimates[day] else None
        x = round(_LEFT + slot * (n + (1 - _FILL) / 2), 1)
        columns.append(Column(day, amounts[day], tuple(bars), hatch, x, round(slot * _FILL, 1), n % every == 0))
    return Chart(tuple(columns), tuple(Line(step * n, y(step * n)) for n in range(count + 1)))


def round_step(highest: Decimal) -> Decimal:
    """A step of 1, 2 or 5 times a power of ten, of which at most ``_LINES`` reach ``highest``."""
    step = Decimal("0.0001")
    while True:
        for times in (1, 2, 5):
            if highest <= step * times * _LINES:
                return step * times
        step *= 10
