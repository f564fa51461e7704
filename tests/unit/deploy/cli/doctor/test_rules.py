"""The pure rules of the checks: topics, grants, clocks, the report and its catalogue."""

import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.cli.doctor.catalogue import AREA_OF, CATALOGUE, EXIT_CODES, SEVERITY_OF
from deploy.cli.doctor.checks import CHECKS
from deploy.cli.doctor.clocks import apart
from deploy.cli.doctor.configuration import read_variables
from deploy.cli.doctor.findings import Finding, Report, some, together
from deploy.cli.doctor.portal_grants import grants_in
from deploy.cli.doctor.postgres import tell_connections
from deploy.cli.doctor.queries import Grant
from deploy.cli.doctor.redis import tell_info
from deploy.cli.doctor.site import site_of
from deploy.cli.doctor.topic_rules import FoundTopic, Partition, topic_faults
from libs.common.db.migrate import PORTAL_RIGHTS
from libs.common.events.topics import Topic

ROOT = Path(__file__).parents[5]
PAGE = ROOT / "docs/architecture/doctor.md"
TOPIC = Topic("t.v1", partitions=1, retention=timedelta(days=7))


FROM_OUTSIDE = replace(TOPIC, from_outside=True)


def found(
    replicas: int = 3, in_sync: int | None = None, leader: int = 1, declared: Topic = TOPIC, **settings: str
) -> FoundTopic:
    nodes = tuple(range(1, replicas + 1))
    partition = Partition(leader, nodes, nodes[: replicas if in_sync is None else in_sync])
    shown = {name.replace("_", "."): value for name, value in settings.items()}
    return FoundTopic("t.v1", declared, (partition,), shown)


@pytest.mark.parametrize(
    ("topic", "brokers", "expected"),
    [
        (found(min_insync_replicas="2"), 3, set()),
        (found(1), 1, set()),
        (found(1), 3, {"replication_low"}),
        (found(2), 2, set()),
        (found(min_insync_replicas="1"), 3, {"insync_low"}),
        (found(min_insync_replicas="3"), 3, {"insync_blocks"}),
        (found(min_insync_replicas="4"), 3, {"insync_impossible"}),
        (found(1, min_insync_replicas="1"), 1, set()),
        (found(in_sync=2), 3, {"partition_behind"}),
        (found(leader=-1), 3, {"partition_leaderless"}),
        (found(unclean_leader_election_enable="true"), 3, {"unclean_election"}),
        (found(retention_ms="-1", retention_bytes="-1"), 3, set()),
        (found(max_message_bytes="odd"), 3, set()),
        (found(message_timestamp_type="CreateTime"), 3, set()),
        (found(message_timestamp_type="CreateTime", declared=FROM_OUTSIDE), 3, {"producers_clock"}),
        (found(message_timestamp_type="LogAppendTime", declared=FROM_OUTSIDE), 3, set()),
    ],
)
def test_a_topic_of_a_cluster_is_held_against_what_keeps_records(
    topic: FoundTopic, brokers: int, expected: set[str]
) -> None:
    assert {one.code for one in topic_faults(topic, brokers)} == expected


def test_every_grant_of_the_portals_role_is_asked_for() -> None:
    grants = grants_in(PORTAL_RIGHTS.read_text())
    assert Grant("portal_threads", "SELECT", None) in grants
    assert Grant("portal_links", "UPDATE", "used_at") in grants
    assert Grant("portal_sessions", "DELETE", None) in grants
    assert Grant("messages", "SELECT", "read_at") in grants
    assert not [one for one in grants if "public" in one.relation or "revoke" in one.relation]


@pytest.mark.parametrize(
    ("asked", "told", "answered", "seconds"),
    [(10.0, 10.5, 11.0, 0.0), (10.0, 4.0, 11.0, 6.0), (10.0, 20.0, 11.0, 9.0)],
)
def test_clocks_are_apart_by_what_the_round_trip_cannot_explain(
    asked: float, told: float, answered: float, seconds: float
) -> None:
    assert apart(asked, told, answered) == seconds


def test_a_report_is_as_bad_as_its_worst_finding_and_tells_each_once() -> None:
    bad, good = Finding("redis_old", "Redis", "Old.", "New."), Finding("redis_good", "Redis", "Good.")
    report = Report.of([good, bad, bad])
    assert [one.code for one in report.findings] == ["redis_old", "redis_good"]
    assert (report.severity, report.exit_code) == ("error", 4)
    assert Report.of([good]).exit_code == Report.of([]).exit_code == 0
    assert report.counts() == {"error": 1, "warning": 0, "info": 0, "ok": 1}
    assert EXIT_CODES.keys() == {"ok", "info", "warning", "error"}


def test_what_is_said_of_several_subjects_is_said_once() -> None:
    same = [Finding("partitions_few", f"topic {number}", "Few.", "More.") for number in range(7)]
    (one,) = together(same)
    assert one.subject == "topic 0, topic 1, topic 2, topic 3, topic 4 and 2 more"
    assert some(["a"]) == "a"
    assert len(together([*same, Finding("redis_old", "Redis", "Old.")])) == 2


def test_a_code_is_of_one_area_and_every_area_has_its_check() -> None:
    assert sum(map(len, CATALOGUE.values())) == len(SEVERITY_OF) == len(AREA_OF)
    assert {check.area for check in CHECKS} == CATALOGUE.keys() - {"configuration"}
    for check in CHECKS:
        assert AREA_OF[check.word("silent")] == AREA_OF[check.word("failed")] == check.area


def test_every_code_that_a_check_writes_is_in_the_catalogue_and_the_other_way_round() -> None:
    sources = "".join(
        file.read_text() for file in (ROOT / "deploy/cli/doctor").glob("*.py") if file.name != "catalogue.py"
    )
    built = {check.word(end) for check in CHECKS for end in ("silent", "failed")}
    built |= {
        f"{area}_certificate_{end}"
        for area in ("kafka", "postgres", "redis", "address")
        for end in ("bad", "expired", "ends")
    }
    built |= {"portal_url_missing", "inbox_url_missing", "portal_url_local", "inbox_url_local"}
    written = {word for word in re.findall(r'"([a-z]+(?:_[a-z]+)+)"', sources) if word in SEVERITY_OF}
    assert SEVERITY_OF.keys() == written | built
    for code in re.findall(r'Finding\(\s*"([a-z_]+)"', sources):
        assert code in SEVERITY_OF


def test_the_page_says_of_every_finding_what_it_means() -> None:
    rows = re.findall(r"^\| `([a-z_]+)` \| (\w+) \| .{10,} \|$", PAGE.read_text(), flags=re.MULTILINE)
    assert dict(rows) == dict(SEVERITY_OF)


def test_a_limit_is_compared_with_the_sessions_that_count_for_it() -> None:
    site = site_of(("router",), read_variables({}))
    server = {
        "connections": 97,
        "connected": 80,
        "role_connections": 40,
        "role_connected": 5,
        "database_connections": -1,
        "database_connected": 70,
    }
    told: list[Finding] = []
    tell_connections(site, server, told.append)
    assert told == []
    tell_connections(site, server | {"role_connected": 39}, told.append)
    assert [(one.code, one.problem) for one in told] == [
        ("connections_used_up", "Of the 40 connections of the role 1 are left.")
    ]


REDIS = {"redis_version": "8.0.0", "role": "master", "aof_enabled": 1}


def test_a_redis_in_cluster_mode_is_not_good() -> None:
    told: list[Finding] = []
    assert tell_info(REDIS | {"cluster_enabled": 1}, told.append, 0)
    assert [one.code for one in told] == ["redis_cluster"]


def test_a_redis_that_lacks_one_of_two_replicas_is_not_good() -> None:
    told: list[Finding] = []
    assert not tell_info(REDIS | {"min_slaves_good_slaves": 2}, told.append, 2)
    assert tell_info(REDIS | {"min_slaves_good_slaves": 1}, told.append, 2)
    assert [one.code for one in told] == ["redis_replicas_missing"]
