"""``/spend`` and ``/spend.csv``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from babel.dates import format_date
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from libs.common.pages.languages import Language
from services.inbox import spend_queries
from services.inbox.deps import Deps
from services.inbox.pages.frame import framed
from services.inbox.problems import FieldFault, invalid
from services.inbox.spend import (
    MOST_DAYS,
    Group,
    SpendError,
    SpendQuery,
    SpendRow,
    Total,
    csv_of,
    read_query,
    totals,
)
from services.inbox.spend_chart import KINDS, Chart, Kind, chart_of, kind_of
from services.inbox.spend_report import exported, report
from services.inbox.visits import Visit, signed_in

SHOWN_ROWS = 500
"""Rows of the table; the CSV has all of them."""
_NAMES = ("from", "to", "group_by")


@dataclass(frozen=True, slots=True)
class SpendPage:
    """What the page shows. ``asked``: what was typed, where it cannot be used, and ``fault`` why."""

    query: SpendQuery
    rows: Sequence[SpendRow]
    hidden: int
    total: Total
    others: Sequence[Total]
    kinds: Mapping[Kind, Total]
    chart: Chart
    bridges: tuple[int, int]
    asked: Mapping[str, str] = field(default_factory=dict)
    fault: FieldFault | None = None

    def short(self, day: date, language: Language) -> str:
        """The day with its month and year."""
        return str(format_date(day, "medium", locale=language.locale))

    def label(self, day: date, language: Language) -> str:
        """The day below a column."""
        return str(format_date(day, "d MMM", locale=language.locale))

    def scale(self, amount: Decimal, language: Language) -> str:
        """An amount beside the chart, so short that it fits there."""
        return language.scale(amount, self.total.currency)

    def name(self, group: Group, language: Language) -> str:
        """What a column of the table is called."""
        _ = language.words.gettext
        return {
            "day": _("Day"),
            "channel": _("Channel"),
            "category": _("Category"),
            "number": _("Number"),
            "conversation": _("Conversation"),
        }[group]

    def heading(self, language: Language) -> str:
        """What the table is called."""
        _ = language.words.gettext
        return {
            ("channel", "category"): _("By channel and category"),
            ("day",): _("By day, in figures"),
            ("number",): _("By number"),
            ("conversation",): _("By conversation"),
        }.get(self.query.groups, _("In groups"))

    def sentence(self, language: Language) -> str:
        """What is wrong with what was asked for, and what to do."""
        _ = language.words.gettext
        if self.fault is None:
            return ""
        if self.fault.field == "group_by":
            return _("There are too many rows: ask for fewer days, or group by something else.")
        return _("Choose a first day that is not after the last one, and at most %(days)s days.") % {"days": MOST_DAYS}


def routes(deps: Deps) -> list[BaseRoute]:
    """The routes of this module."""
    return [Route("/spend", signed_in(deps, _show)), Route("/spend.csv", signed_in(deps, _download))]


async def _show(visit: Visit) -> Response:
    asked = {name: visit.request.query_params.get(name, "") for name in _NAMES}
    today = visit.deps.pool.now().date()
    fault: FieldFault | None = None
    try:
        query = read_query(asked, today)
        found = await report(visit.deps.reads, visit.person, query)
    except SpendError as wrong:
        fault = FieldFault(wrong.field, wrong.message)
        query = read_query({}, today)
        found = await report(visit.deps.reads, visit.person, query)
    by_day = await report(
        visit.deps.reads, visit.person, SpendQuery(query.first, query.last, ("day", "channel", "category"))
    )
    async with visit.deps.reads.of(visit.person.org_id) as db:
        bridges = await spend_queries.bridges(db, visit.person.org_id, query)
    total, others = totals(found.rows, found.currency)
    page = SpendPage(
        query=query,
        rows=found.rows[:SHOWN_ROWS],
        hidden=max(0, len(found.rows) - SHOWN_ROWS),
        total=total,
        others=others,
        kinds=_kinds(by_day.rows, total.currency),
        chart=chart_of(query.days, by_day.rows, total.currency),
        bridges=bridges,
        asked=asked if fault else {},
        fault=fault,
    )
    return await framed(visit, "spend.html", "spend", report=page)


async def _download(visit: Visit) -> Response:
    asked = {name: visit.request.query_params.get(name, "") for name in _NAMES}
    try:
        query = read_query(asked, visit.deps.pool.now().date())
        found = await report(visit.deps.reads, visit.person, query)
    except SpendError as wrong:
        raise invalid(FieldFault(wrong.field, wrong.message)) from None
    await exported(visit.deps.pool, visit.person, query)
    headers = {"Content-Disposition": f'attachment; filename="spend-{query.first}-{query.last}.csv"'}
    return Response(csv_of(query, found.rows), media_type="text/csv; charset=utf-8", headers=headers)


def _kinds(rows: Sequence[SpendRow], currency: str | None) -> dict[Kind, Total]:
    return {
        kind: totals([row for row in rows if kind_of(row.channel, row.category) == kind], currency)[0] for kind in KINDS
    }
