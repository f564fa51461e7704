"""Writes Grafana's boards of the panels: ``make boards``. It needs the extra ``dev``, and no service imports it.

``transom-logs.json`` asks Loki and has every panel. ``transom-metrics.json`` asks Prometheus, and has the panels whose
figure a metric has as well. The same definition always makes the same bytes.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders import bargauge, common, dashboard, loki, prometheus, text, timeseries
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.common import VizOrientation
from grafana_foundation_sdk.models.loki import LokiQueryType

from deploy.panels.definition import PANELS
from deploy.panels.logql import queries
from deploy.panels.panel import Followed, Highest, Panel, Unit, Until

FOLDER = Path(__file__).parents[1] / "dashboards"
_HEIGHT, _SPAN = 8, 8
_MOST_ROWS = 50
_LOKI = models.DataSourceRef(type_val="loki", uid="$loki")
_PROMETHEUS = models.DataSourceRef(type_val="prometheus", uid="$prometheus")
_ON_THE_TERMINAL = (
    "Loki joins no lines, so this figure is on no board: `docker compose logs --no-log-prefix | transom watch`"
)
_ROUGHLY = "Loki counts those with a line of the last 24 hours, whatever the length of a window is set to."
_NAME_OF_ITS_ROW = "${__field.displayName}"  # else Grafana leaves the name out where a panel has one row

_AnyPanel = bargauge.Panel | timeseries.Panel | text.Panel


def boards() -> Mapping[str, str]:
    """Every board as JSON, by the name of its file."""
    return {"transom-logs.json": _json(_of_logs()), "transom-metrics.json": _json(_of_metrics())}


def main() -> None:
    """Write the boards."""
    FOLDER.mkdir(exist_ok=True)
    for name, board in boards().items():
        (FOLDER / name).write_text(board, encoding="utf-8")
        sys.stdout.write(f"wrote {(FOLDER / name).relative_to(Path.cwd())}\n")


def _of_logs() -> dashboard.Dashboard:
    board = _board("Transom: logs", "transom-logs", "What the log lines of the services say.")
    board.with_variable(dashboard.DatasourceVariable("loki").label("Loki").type("loki"))
    board.with_variable(
        dashboard.TextBoxVariable("stream")
        .label("Streams")
        .description("Labels of Loki that Transom's lines have")
        .default_value('job="transom"')
        .current(models.VariableOption(text='job="transom"', value='job="transom"'))
    )
    board.with_variable(
        dashboard.TextBoxVariable("org")
        .label("Organisation")
        .description("An org_id, or a regular expression; .* is every organisation, and lines without one")
        .default_value(".*")
        .current(models.VariableOption(text=".*", value=".*"))
    )
    for panel in PANELS:
        board.with_panel(_log_panel(panel))
    return board


def _of_metrics() -> dashboard.Dashboard:
    board = _board("Transom: metrics", "transom-metrics", "The figures of the logs that metrics have as well.")
    board.with_variable(dashboard.DatasourceVariable("prometheus").label("Prometheus").type("prometheus"))
    for panel in PANELS:
        if panel.metric is not None:
            target = prometheus.Dataquery().expr(panel.metric).legend_format(_legend(panel)).ref_id("A")
            target = target.range() if isinstance(panel.how, Highest) else target.instant()
            board.with_panel(_drawn(panel).datasource(_PROMETHEUS).with_target(target))
    return board


def _board(title: str, uid: str, description: str) -> dashboard.Dashboard:
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(f"{description} Generated from deploy/panels: change that, then run make boards.")
        .tags(["transom"])
        .readonly()
        .time("now-24h", "now")
        .refresh("1m")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
    )


def _log_panel(panel: Panel) -> _AnyPanel:
    if isinstance(panel.how, Followed):
        return (
            text.Panel()
            .title(panel.title)
            .description(panel.answers)
            .content(_ON_THE_TERMINAL)
            .height(_HEIGHT)
            .span(_SPAN)
        )
    drawn = _drawn(panel).datasource(_LOKI)
    if isinstance(panel.how, Until):
        drawn = drawn.description(f"{panel.answers} {_ROUGHLY}")
    for ref, query in zip(_refs(), queries(panel), strict=False):
        target = loki.Dataquery().expr(query.text).legend_format(query.legend).ref_id(ref)
        kind = LokiQueryType.RANGE if isinstance(panel.how, Highest) else LokiQueryType.INSTANT
        drawn = drawn.with_target(target.query_type(kind.value))
    return drawn


def _drawn(panel: Panel) -> bargauge.Panel | timeseries.Panel:
    """A panel without its queries: lines over time for what is measured, else a bar for each row."""
    if isinstance(panel.how, Highest):
        return (
            timeseries.Panel()
            .title(panel.title)
            .description(panel.answers)
            .unit(_unit(panel.unit))
            .min(0)
            .height(_HEIGHT)
            .span(_SPAN)
        )
    return (
        bargauge.Panel()
        .title(panel.title)
        .description(panel.answers)
        .unit(_unit(panel.unit))
        .orientation(VizOrientation.HORIZONTAL)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).limit(_MOST_ROWS))
        .no_value("none")
        .display_name(_NAME_OF_ITS_ROW)
        .height(_HEIGHT)
        .span(_SPAN)
    )


def _unit(unit: Unit) -> str:
    """Grafana's name of a unit. An amount's currency stands in its row."""
    return {"ms": "ms", "money": "none"}.get(unit, "short")


def _legend(panel: Panel) -> str:
    return " ".join("{{" + name + "}}" for name in panel.labels)


def _refs() -> Iterator[str]:
    return iter("ABCDEFGHIJ")


def _json(board: Builder[models.Dashboard]) -> str:
    return json.dumps(board.build(), cls=JSONEncoder, sort_keys=True, indent=2) + "\n"


if __name__ == "__main__":
    main()
