"""What an organisation spent, as groups of its charges. Pure.

Rule 1: amounts are exact decimals. The sum of the rows is the sum of the charges, to the last digit.
Rule 2: amounts of different currencies are never added. ``total`` is in the organisation's currency, and what was spent
        in others stands beside it.
Rule 3: estimated and confirmed stay apart. A charge without a known price counts as a message and adds nothing.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

Group = Literal["day", "channel", "category", "number", "conversation"]
GROUPS: tuple[Group, ...] = get_args(Group)
MOST_DAYS = 400
MOST_ROWS = 20_000
DAYS = 14
"""How many days are shown where none are asked for."""
_ZERO = Decimal(0)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class SpendError(Exception):
    """A parameter that cannot be used: ``field`` names it, ``message`` says what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field, self.message = field, message


@dataclass(frozen=True, slots=True)
class SpendQuery:
    """Which charges: from the day ``first`` to the day ``last`` (UTC), both included."""

    first: date
    last: date
    groups: tuple[Group, ...]

    @property
    def since(self) -> datetime:
        return datetime.combine(self.first, time(), UTC)

    @property
    def until(self) -> datetime:
        """The first moment that is not included."""
        return datetime.combine(self.last + timedelta(days=1), time(), UTC)

    @property
    def days(self) -> list[date]:
        return [self.first + timedelta(days=n) for n in range((self.last - self.first).days + 1)]


class SpendRow(NamedTuple):
    """One group of charges. What is not grouped by is None; so are ``number`` and ``currency`` that are not known."""

    day: date | None
    channel: str | None
    category: str | None
    number: str | None
    conversation: UUID | None
    currency: str | None
    messages: int
    segments: int
    amount: Decimal
    estimated: Decimal
    """The part of ``amount`` that is an estimate."""
    unpriced: int
    """How many of the messages have no known price."""


class Total(NamedTuple):
    """Sums over rows of one currency."""

    currency: str | None
    messages: int
    segments: int
    amount: Decimal
    estimated: Decimal
    unpriced: int

    @property
    def confirmed(self) -> Decimal:
        return self.amount - self.estimated


def read_query(values: Mapping[str, str], today: date) -> SpendQuery:
    """The query of ``from``, ``to`` and ``group_by``. Raises SpendError."""
    last = _day(values, "to", today)
    first = _day(values, "from", last - timedelta(days=DAYS - 1))
    if first > last:
        raise SpendError("from", "the first day must not be after the last one")
    if (last - first).days >= MOST_DAYS:
        raise SpendError("from", f"at most {MOST_DAYS} days can be asked for at once")
    named = [name.strip() for name in (values.get("group_by") or "channel,category").split(",") if name.strip()]
    if wrong := [name for name in named if name not in GROUPS]:
        raise SpendError("group_by", f"{wrong[0][:40]!r} is none of {', '.join(GROUPS)}")
    return SpendQuery(first, last, tuple(group for group in GROUPS if group in named))


def totals(rows: Iterable[SpendRow], currency: str | None) -> tuple[Total, list[Total]]:
    """The total in the organisation's currency, and one of each other currency, by its name.

    An organisation without a currency has that of the first row that has one.
    """
    found: dict[str | None, Total] = {}
    for row in rows:
        before = found.get(row.currency, Total(row.currency, 0, 0, _ZERO, _ZERO, 0))
        found[row.currency] = Total(
            row.currency,
            before.messages + row.messages,
            before.segments + row.segments,
            before.amount + row.amount,
            before.estimated + row.estimated,
            before.unpriced + row.unpriced,
        )
    own = currency or next((one for one in sorted(found, key=str) if one is not None), None)
    mine = found.pop(own, Total(own, 0, 0, _ZERO, _ZERO, 0))
    unknown = found.get(None)
    if own is not None and unknown is not None and not unknown.amount:  # without a price there is no currency
        del found[None]
        mine = mine._replace(
            messages=mine.messages + unknown.messages,
            segments=mine.segments + unknown.segments,
            unpriced=mine.unpriced + unknown.unpriced,
        )
    return mine, [found[name] for name in sorted(found, key=str)]


def answer_of(query: SpendQuery, rows: Sequence[SpendRow], currency: str | None) -> dict[str, Any]:
    """The API's answer. Decimals are strings, so that no reader rounds them."""
    total, others = totals(rows, currency)
    return {
        "currency": total.currency,
        "from": query.first.isoformat(),
        "to": query.last.isoformat(),
        "rows": [_shown(row, query.groups) for row in rows],
        "total": str(total.amount),
        "total_estimated": str(total.estimated),
        "total_messages": total.messages,
        "others": [{"currency": one.currency, "messages": one.messages, "total": str(one.amount)} for one in others],
    }


def csv_of(query: SpendQuery, rows: Iterable[SpendRow]) -> str:
    """The rows as CSV (RFC 4180, with a heading). No cell is a formula for a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*query.groups, "currency", "messages", "segments", "amount", "estimated", "unpriced"])
    for row in rows:
        shown = _shown(row, query.groups)
        writer.writerow([_cell(value) for value in shown.values()])
    return out.getvalue()


def _shown(row: SpendRow, groups: Sequence[Group]) -> dict[str, Any]:
    values = row._asdict()
    grouped = {group: None if values[group] is None else str(values[group]) for group in groups}
    return grouped | {
        "currency": row.currency,
        "messages": row.messages,
        "segments": row.segments,
        "amount": str(row.amount),
        "estimated": str(row.estimated),
        "unpriced": row.unpriced,
    }


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text


def _day(values: Mapping[str, str], name: str, default: date) -> date:
    given = values.get(name)
    if not given:
        return default
    try:
        found = date.fromisoformat(given)
    except ValueError:
        raise SpendError(name, "a day is needed, such as 2026-11-25") from None
    if not 2000 <= found.year <= 9000:  # noqa: PLR2004 -- far from the ends of the calendar
        raise SpendError(name, "a day from 2000 on is needed")
    return found
