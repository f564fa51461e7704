"""Alerts: promtool takes them and runs their tests, they read what is scraped, and each test would notice its alert."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from libs.common import metrics
from tests.support.metric_names import exposed, named_in, unknown_in
from tests.support.promtool import run_promtool
from tests.support.runbook_checks import RULES, alerts
from tests.support.scraped import scraped

TESTS = RULES.with_name("transom.rules.test.yaml")
BEGIN_AT_ZERO = (
    "transom_webhooks_total",
    "transom_webhook_signatures_failed_total",
    "transom_edge_refused_total",
    "transom_sends_after_window_closed_total",
    "transom_reconciled_total",
    "transom_bridges_share_of_cap",
    "transom_sends_after_window_closed_created",
    "transom_reconciled_created",
)
SET_BY_WHO_MEASURES = (
    "transom_kafka_caught_up_timestamp_seconds",
    "transom_kafka_progress_timestamp_seconds",
    "transom_kafka_partitions_stopped",
    "transom_kafka_records_lost_total",
    "transom_kafka_records_lost_created",
    "transom_sends_due_timestamp_seconds",
    "transom_sends_unknown_timestamp_seconds",
    "transom_accounts_resting",
    "transom_serving",
)
BY_REASON = ("transom_kafka_records_dead_lettered_total",)
"""Their rules count a series that was not there before."""


def cases(name: str) -> list[Mapping[str, Any]]:
    groups = yaml.safe_load(TESTS.read_text())["tests"]
    return [case for group in groups for case in group.get("alert_rule_test", ()) if case["alertname"] == name]


def test_promtool_takes_the_rules(promtool: Path) -> None:
    assert run_promtool(promtool, "check", "rules", str(RULES)) == ""


def test_the_rules_pass_their_tests(promtool: Path) -> None:
    assert run_promtool(promtool, "test", "rules", TESTS.name, cwd=TESTS.parent) == ""


def test_each_alert_that_never_fired_would_be_noticed(promtool: Path, tmp_path: Path) -> None:
    rules = yaml.safe_load(RULES.read_text())
    for rule in rules["groups"][0]["rules"]:
        rule["expr"] = "vector(0) > 1"
    (tmp_path / RULES.name).write_text(yaml.safe_dump(rules))
    shutil.copy(TESTS, tmp_path)
    told = run_promtool(promtool, "test", "rules", TESTS.name, cwd=tmp_path)
    assert [name for name in alerts() if f"alertname: {name}" not in told] == []


@pytest.mark.parametrize("name", alerts())
def test_an_alert_is_tried_when_it_fires_and_when_it_does_not(name: str) -> None:
    fires = [bool(case["exp_alerts"]) for case in cases(name)]
    assert True in fires
    assert fires.count(False) >= 1
    assert fires[-1] is False  # it ends


@pytest.mark.parametrize("name", alerts())
def test_an_alert_says_what_it_is_and_reads_what_is_scraped(name: str) -> None:
    rule = alerts()[name]
    assert unknown_in(rule["expr"]) == []
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert unknown_in(rule["annotations"]["description"]) == []


def test_what_alerts_read_is_scraped_before_anything_happens() -> None:
    """A series that is not there is no alert."""
    read = {name for rule in alerts().values() for name in named_in(rule["expr"])}
    assert read == {*BEGIN_AT_ZERO, *SET_BY_WHO_MEASURES, *BY_REASON}
    assert [name for name in BEGIN_AT_ZERO if scraped(name) < 0] == []


def test_the_inputs_of_the_tests_are_series_that_are_scraped() -> None:
    groups = yaml.safe_load(TESTS.read_text())["tests"]
    series = [one["series"] for group in groups for one in group["input_series"]]
    assert [one for one in series if not one.startswith("up{") and unknown_in(one)] == []
    assert {named for one in series for named in named_in(one)} <= exposed().keys()


def test_the_labels_that_are_checked_are_those_that_are_scraped() -> None:
    families = text_string_to_metric_families(metrics.render().decode())
    samples = [sample for family in families for sample in family.samples if sample.name in exposed()]
    assert len({sample.name for sample in samples}) > 10
    assert [sample.name for sample in samples if sample.labels.keys() != exposed()[sample.name]] == []
