"""Runbooks name what exists: alerts, metrics, log events and fields, settings, commands, files, deployments."""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from libs.common.faults import AccountFault
from libs.common.providers import meta, twilio, vonage
from tests.support import runbook_checks
from tests.support.metric_names import exposed, unknown_in
from tests.support.runbook_checks import alerts, block_problems, problems, unknown_code
from tests.support.runbooks import FOLDER, ROOT, SECTIONS, Page, pages, read_page

PAGES = pages()
LIST = (FOLDER / "README.md").read_text()
GOOD = """# Something is wrong

**Alert**: `TransomRecordsParked`

## What one sees

`consumer.stopped` with `partition`, and `transom_kafka_partitions_stopped`; see `TRANSOM_DLQ_RUN_LIMIT`.
Panel: "Dead letters".

```json
{"event": "consumer.stopped", "topic": "webhooks.v1", "partition": 0}
```

## The query that proves it

```promql
sum by (topic) (transom_kafka_partitions_stopped{topic="webhooks.v1"}) > 0
```

```sql
select org_id from orgs where org_id = '$ORG';
```

## What to do

```sh
# a comment
transom replay --dlq \\
    --dry-run $TOPIC
curl -s $URL/readyz
```

## When it is over

It is.
"""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_runbook_names_exists(page: Page) -> None:
    assert problems(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_list_has_every_runbook(page: Page) -> None:
    assert f"]({page.name})" in LIST
    assert all(f"| `{alert}` | [{page.name}]({page.name}) |" in LIST for alert in page.alerts)


def test_the_list_names_no_page_and_no_alert_that_is_not_there() -> None:
    names = {page.name for page in PAGES}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", LIST)) == names
    assert set(re.findall(r"`(Transom\w+)`", LIST)) == set(alerts())


def test_every_alert_has_its_runbook() -> None:
    leads_to = {name: rule["annotations"]["runbook"] for name, rule in alerts().items()}
    assert {name: page for name, page in leads_to.items() if not (ROOT / page).is_file()} == {}
    named = {alert for page in PAGES for alert in page.alerts}
    assert set(leads_to) == named


def codes_in(cell: str) -> Iterator[str]:
    """The codes of a cell such as ``4, 200 to 299, dlr-16``."""
    for first, last in re.findall(r"((?:dlr-)?\d+)(?: to (\d+))?", cell):
        yield from map(str, range(int(first), int(last) + 1)) if last else [first]


def test_the_page_of_an_account_at_rest_says_what_each_code_of_a_resting_account_is() -> None:
    rows = re.findall(
        r"^ +\| ([^|`]*\d[^|`]*) \| ([^|]*) \|", (FOLDER / "account-at-rest.md").read_text(), re.MULTILINE
    )
    told: dict[str, set[str]] = defaultdict(set)
    for codes, what in rows:
        told[next((name for name in ("Twilio", "Vonage") if what.startswith(name)), "Meta")] |= {*codes_in(codes)}
    tables: Mapping[str, Mapping[Any, object]] = {
        "Meta": meta.FAULTS,
        "Twilio": twilio.FAULTS,
        "Vonage": vonage.FAULTS,
    }
    assert told == {
        name: {str(code) for code, fault in table.items() if isinstance(fault, AccountFault)}
        for name, table in tables.items()
    }


def test_a_line_of_a_log_may_be_shown_without_its_event() -> None:
    assert runbook_checks.log_line_problems('{"partition": 0}') == []


def test_a_sound_page_has_no_problem() -> None:
    # the rule's own page has another name, which is the one thing that is told
    assert problems(read_page("good.md", GOOD)) == [
        "good.md:1: TransomRecordsParked leads to docs/runbooks/parked-records.md"
    ]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("`TransomRecordsParked`", "`TransomNothing`", "there is no alert TransomNothing"),
        ("**Alert**", "Alert", "one line begins with"),
        ("## What to do", "## What else", "its sections are"),
        ("`consumer.stopped`", "`consumer.halted`", "nothing is called halted"),
        ("`partition`", "`partitoin`", "nothing is called partitoin"),
        ("`TRANSOM_DLQ_RUN_LIMIT`", "`TRANSOM_DLQ_LIMIT`", "no setting TRANSOM_DLQ_LIMIT"),
        ("and `transom_kafka_partitions_stopped`", "and `transom_kafka_stopped`", "metric transom_kafka_stopped"),
        ("It is.", "See [it](its.md).", "good.md:35: no file its.md"),
        ('Panel: "Dead letters"', 'Panel: "Letters"', "good.md:8: no panel Letters"),
        ('"event": "consumer.stopped"', '"event": "consumer.halted"', "good.md:11: event"),
        ('"partition": 0', '"partitoin": 0', "good.md:11: log line"),
        ('"partition": 0', '"partition": "zero"', "good.md:11: partition"),
        ('"partition": 0', '"partition": 0, "level": "info"', "good.md:11: no call writes it as info"),
        (
            '"partition": 0',
            '"partition": 0, "provider": "meta"',
            "good.md:11: no call writes it with partition, provider",
        ),
        ("sum by (topic)", "sum by (tpoic)", "good.md:17: label tpoic"),
        ('{topic="webhooks.v1"}', '{org_id="acme"}', "label org_id of transom_kafka_partitions_stopped"),
        ("```promql", "```prometheus", "a block is json, promql, sh, sql, not prometheus"),
        ("'$ORG'", "'$ORGANISATION'", "no placeholder $ORGANISATION"),
        ("transom replay --dlq", "transom repaly --dlq", "no command transom repaly"),
        ("--dry-run", "--dry", "transom replay"),
        ("$URL/readyz", "$URL/ready", "no address /ready"),
        ("curl -s", "rm -rf", "is no transom, curl, kubectl or docker compose"),
        ("curl -s $URL/readyz", "kubectl rollout restart deployment/rooter", "deploy/k8s has no deployment/rooter"),
        (
            "curl -s $URL/readyz",
            "docker compose -f deploy/compose.yaml restart rooter",
            "deploy/compose.yaml has no service rooter",
        ),
        ("curl -s $URL/readyz", "docker compose restart router", "docker compose finds its file by -f"),
    ],
)
def test_a_broken_page_is_told_with_its_place(before: str, after: str, told: str) -> None:
    assert before in GOOD
    found = problems(read_page("good.md", GOOD.replace(before, after)))
    assert any(told in one and one.startswith("good.md:") for one in found), found


def test_a_block_that_is_never_closed_is_told() -> None:
    (block,) = read_page("torn.md", "# Torn\n\n```sql\nselect 1;\n").blocks
    assert block_problems(block) == [f"{block.name}: a block is json, promql, sh, sql, not unclosed"]


def test_sections_and_lines_of_blocks_are_those_of_the_page() -> None:
    page = read_page("good.md", GOOD)
    assert page.sections == SECTIONS
    assert [(block.line, block.language, block.section) for block in page.blocks] == [
        (11, "json", SECTIONS[0]),
        (17, "promql", SECTIONS[1]),
        (21, "sql", SECTIONS[1]),
        (27, "sh", SECTIONS[2]),
    ]


def test_names_of_metrics_are_those_that_are_scraped() -> None:
    assert unknown_in("rate(transom_kafka_records_dead_lettered[5m])") == ["metric transom_kafka_records_dead_lettered"]
    assert unknown_in("rate(transom_kafka_records_dead_lettered_total{reason='x'}[5m])") == []
    assert unknown_in('histogram_quantile(0.9, sum by (le) (rate(transom_send_seconds_bucket{job="x"}[5m])))') == []
    assert exposed()["transom_webhooks_total"] == {"source", "status"}


def test_inline_code_is_checked_by_what_it_is() -> None:
    assert unknown_code("transom explain $INTENT") == []
    assert unknown_code("transom explain nobody") != []
    assert unknown_code("transom repaly") == ["no command transom repaly"]
    assert unknown_code("deploy/alerts/transom.rules.yaml") == []
    assert unknown_code("deploy/alerts/other.yaml") == ["no file deploy/alerts/other.yaml"]
    assert unknown_code("reason=kafka_away") == []
    assert unknown_code("raeson=kafka_away") == ["no field raeson"]
    assert "begin" in runbook_checks.words()
