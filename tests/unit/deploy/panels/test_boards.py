"""Grafana's boards: made of the definition, whole, and not stale; their queries can be read and mean the figures."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.panels.definition import PANELS
from deploy.panels.grafana import FOLDER, boards
from deploy.panels.logql import queries
from deploy.panels.panel import Followed, Panel
from tests.support.logql import evaluate
from tests.support.metric_names import unknown_in
from tests.support.panel_lines import NOON, a_reading, as_loki_says, rows, written
from tests.support.promtool import run_promtool

MADE = boards()
REMAKE = "deploy/dashboards is not what deploy/panels says: run make boards, and commit what it writes"
IN_LOKI = [panel for panel in PANELS if not isinstance(panel.how, Followed)]


def panels_of(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(MADE[name])["panels"]
    return found


@pytest.mark.parametrize("name", MADE)
def test_a_board_is_what_the_definition_says(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == MADE[name], REMAKE


def test_no_other_board_lies_there() -> None:
    assert {file.name for file in FOLDER.glob("*.json")} == set(MADE)


def test_every_panel_has_its_place() -> None:
    assert [one["title"] for one in panels_of("transom-logs.json")] == [panel.title for panel in PANELS]
    measured = [panel.title for panel in PANELS if panel.metric is not None]
    assert [one["title"] for one in panels_of("transom-metrics.json")] == measured
    for name in MADE:
        places = Counter((one["gridPos"]["x"], one["gridPos"]["y"]) for one in panels_of(name))
        assert set(places.values()) == {1}


def test_a_bar_has_its_name_also_where_it_is_the_only_one() -> None:
    bars = [one for name in MADE for one in panels_of(name) if one["type"] == "bargauge"]
    assert bars
    assert {one["fieldConfig"]["defaults"].get("displayName") for one in bars} == {"${__field.displayName}"}


def test_a_board_says_where_loki_counts_roughly() -> None:
    (windows,) = (one for one in panels_of("transom-logs.json") if one["title"] == "Windows")
    assert windows["description"].endswith("whatever the length of a window is set to.")


def test_every_variable_of_a_query_is_one_of_the_board() -> None:
    for name, board in MADE.items():
        made = json.loads(board)
        declared = {one["name"] for one in made["templating"]["list"]} | {"__range"}
        used = set(
            re.findall(r"\$\{?(\w+)", "".join(t["expr"] for one in made["panels"] for t in one.get("targets", [])))
        )
        used |= {one["datasource"]["uid"].removeprefix("$") for one in made["panels"] if "datasource" in one}
        assert used - {"1"} <= declared, name


@pytest.mark.parametrize("panel", [one for one in PANELS if one.metric], ids=lambda one: one.name)
def test_a_query_of_prometheus_names_what_is_there(panel: Panel) -> None:
    assert panel.metric is not None
    assert [one for one in unknown_in(panel.metric) if one != "label label"] == []


def test_prometheus_can_read_every_query(promtool: Path, tmp_path: Path) -> None:
    read = [(panel.metric or "").replace("$__range", "1h") for panel in PANELS if panel.metric]
    rules = tmp_path / "boards.yaml"
    group = [{"record": f"board:{number}", "expr": query} for number, query in enumerate(read)]
    rules.write_text(yaml.safe_dump({"groups": [{"name": "boards", "rules": group}]}))
    assert run_promtool(promtool, "check", "rules", str(rules)) == ""


LINES = [
    written("intent.decided", route="session", reason="window_open", org_id="acme", outcome="decided"),
    written("intent.decided", route="session", reason="window_open", org_id="acme", outcome="known"),
    written("intent.decided", route="rejected", reason="invalid_intent", org_id="bolt"),
    written("window.opened", at=NOON - 10, org_id="acme", conversation_id="a", channel="whatsapp", outcome="opened",
            closes_at="2026-03-05T11:59:50+00:00"),
    written("message.received", at=NOON - 84_000, org_id="acme", conversation_id="b", channel="whatsapp",
            closes_at="2026-03-04T12:40:00+00:00", outcome="stored"),
    written("message.received", org_id="bolt", conversation_id="c", channel="sms", outcome="known"),
    written("bridge.sent", org_id="acme", conversation_id="c", message_id="m"),
    written("status.applied", org_id="acme", channel="sms", status="delivered", route="bridge", outcome="moved"),
    written("status.applied", org_id="acme", channel="sms", status="delivered", route="bridge", outcome="known"),
    written("status.applied", org_id="acme", channel="sms", status="failed", outcome="moved", provider_code="30003",
            reason="provider_refused"),
    written("link.redeemed", org_id="acme", conversation_id="c"),
    written("send.accepted", org_id="acme", channel="sms"),
    written("send.failed", org_id="acme", channel="whatsapp", reason="provider_refused", provider_code=131053),
    written("send.refused", org_id="acme", channel="whatsapp", reason="throttled", provider_code=None),
    written("send.unknown", level="warning", org_id="acme", channel="whatsapp", reason="timeout"),
    written("sends.waiting", at=NOON - 300, channel="sms", records=900, oldest_ms=90_000),
    written("sends.waiting", at=NOON - 30, channel="sms", records=3, oldest_ms=1_500),
    written("consumer.lag", at=NOON - 20, topic="webhooks.v1", records=17),
    written("record.dead_lettered", level="error", topic="webhooks.v1", reason="unknown_number", records=4),
    written("record.dead_lettered", topic="webhooks.v1", reason="unknown_number"),
    written("spend.changed", org_id="acme", channel="sms", category="sms", currency="GBP", amount=0.04),
    written("spend.changed", org_id="acme", channel="sms", category="sms", currency="GBP", amount=-0.0159),
    written("webhook.received", source="meta", status=200, items=1),
    written("webhook.received", source="meta", status=200, outcome="handshake"),
    written("webhook.rejected", source="meta", status=403, reason="bad_signature", times=7),
    written("http.refused", reason="deadline", times=2),
    written("dependency.away", level="warning", dependency="postgres"),
    written("task.failed", level="error", task="count"),
]  # fmt: skip


@pytest.mark.parametrize("organisation", [None, "acme", "bolt"])
@pytest.mark.parametrize("panel", IN_LOKI, ids=lambda one: one.name)
def test_a_query_of_loki_means_the_figure(panel: Panel, organisation: str | None) -> None:
    if organisation is not None and not panel.of_organisations:
        return
    told = rows(a_reading(*LINES), panel.name, org_id=organisation)
    assert as_loki_says(panel, LINES, NOON, organisation) == told
    assert told or organisation is not None, "a line is missing that this panel counts"


def test_the_page_names_every_panel() -> None:
    page = (FOLDER.parents[1] / "docs/architecture/logs.md").read_text(encoding="utf-8")
    rows = {title for line in page.splitlines() if line.startswith("| ") for title in line.split("|")[1].split(",")}
    assert {panel.title for panel in PANELS} <= {title.strip() for title in rows}


def test_what_is_not_of_the_grammar_is_refused() -> None:
    (query,) = queries(PANELS[0])
    for bad in (query.text[:-1], query.text.replace("| json", "json"), query.text.replace("sum by", "sum of")):
        with pytest.raises(AssertionError):
            evaluate(bad, [], NOON)
