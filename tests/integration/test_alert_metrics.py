"""Each fault moves the metric by which an alert tells it, as Prometheus reads it. All begin at 0, or at the present."""

import time
from datetime import timedelta

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.errors import Transient
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.producer import Producer
from services.router.bridge_counts import BridgeCounts
from tests.support.consumer_bench import Bench, Handled
from tests.support.logs import LogLines
from tests.support.router import Garage as RoutedGarage
from tests.support.router import Router, stored
from tests.support.scraped import scraped
from tests.support.sending import Garage, Line, a_sender, accept
from tests.support.waiting import eventually

MINUTE = timedelta(minutes=1)
TOPIC = WEBHOOKS.name
SLACK = 30.0
"""Seconds that a loaded machine may take between two measurements."""


def age(name: str, **labels: str) -> float:
    """How long ago the Unix time of a metric is: what an alert compares."""
    return time.time() - scraped(name, **labels)


async def test_what_waits_grows_old_in_the_metrics_and_is_over_once_it_is_handled(bench: Bench) -> None:
    away = [True]

    def fault(_batch: list[str]) -> None:
        if away:
            raise Transient("the database is away")

    handled = Handled(fault)
    await bench.put("came an hour ago", clock_ahead=-3600)
    async with bench.consumer(handled) as consumer:
        assert age("transom_kafka_progress_timestamp_seconds", topic=TOPIC) < SLACK
        await eventually(lambda: len(handled.batches) > 2)
        await consumer._measure_lag()
        assert age("transom_kafka_caught_up_timestamp_seconds", topic=TOPIC) >= 3600
        standing = scraped("transom_kafka_progress_timestamp_seconds", topic=TOPIC)
        await eventually(lambda: len(handled.batches) > 4)
        await consumer._measure_lag()
        assert abs(scraped("transom_kafka_progress_timestamp_seconds", topic=TOPIC) - standing) < 1
        away.clear()
        await eventually(handled.values)
        await eventually(lambda: consumer._runners[0].partitions.processed.get(0) == 1)
        await consumer._measure_lag()
        assert age("transom_kafka_caught_up_timestamp_seconds", topic=TOPIC) < SLACK
        assert scraped("transom_kafka_progress_timestamp_seconds", topic=TOPIC) > standing + 0.01


async def test_a_stopped_partition_and_its_dead_letters_are_scraped(bench: Bench) -> None:
    async with bench.consumer(Handled(), dlq_run_limit=2, STOP_BASE=timedelta(hours=1)) as consumer:
        assert scraped("transom_kafka_partitions_stopped", topic=TOPIC) == 0
        await bench.put(b"\xff", b"\xff")
        await eventually(consumer.unready)
        assert scraped("transom_kafka_partitions_stopped", topic=TOPIC) == 1
        assert scraped("transom_kafka_records_dead_lettered_total", topic=TOPIC, reason="not_utf8") >= 2


async def test_the_oldest_send_that_is_due_is_scraped_and_rests_scheduled_and_settled_ones_are_not(
    garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    due: dict[str, str] = {"name": "transom_sends_due_timestamp_seconds", "channel": "whatsapp"}
    async with a_sender(garage, producer, sandbox.url) as line:
        await line._sweeper.measure()
        assert age(**due) < SLACK
        conversation = await garage.conversation()
        await accept(line, await garage.command(conversation))
        garage.now.forward(10 * MINUTE)
        await accept(line, await garage.command(conversation))
        await line._sweeper.measure()
        assert 600 <= age(**due) < 600 + SLACK
        assert scraped("transom_sends_waiting", channel="whatsapp") == 2
        await garage.execute("update sends set due_at = $1", garage.now() + 10 * MINUTE)  # scheduled
        await line._sweeper.measure()
        assert age(**due) < SLACK
        await garage.execute("update sends set tries = 1")  # tried, and waits for its next try
        await line._sweeper.measure()
        assert age(**due) >= 600


@pytest.mark.parametrize(
    ("pause", "old"),
    [
        (("{number}", "all", "fault"), False),
        (("*", "all", "fault"), False),
        (("{number}", "templates", "fault"), True),
        (("{number}", "all", "throttle"), True),
        (("106400000000009", "all", "fault"), True),
    ],
)
async def test_an_account_at_rest_is_counted_and_what_waits_for_people_is_no_unsent_row(
    garage: Garage, producer: Producer, sandbox: SandboxClient, pause: tuple[str, str, str], *, old: bool
) -> None:
    account, scope, kind = pause
    async with a_sender(garage, producer, sandbox.url) as line:
        await accept(line, await garage.command(await garage.conversation()))
        garage.now.forward(10 * MINUTE)
        await garage.execute(
            "insert into pauses (channel, provider, account, scope, kind, reason, until_at)"
            " values ('whatsapp', 'meta', $1, $2, $3, '131042', $4)",
            account.format(number=garage.number),
            scope,
            kind,
            garage.now() + MINUTE,
        )
        await line._sweeper.measure()
        assert scraped("transom_accounts_resting", channel="whatsapp", kind=kind) == 1
        assert scraped("transom_accounts_resting", channel="whatsapp") == 1
        assert (age("transom_sends_due_timestamp_seconds", channel="whatsapp") >= 600) is old
        await garage.execute("update sends set template = true")
        await line._sweeper.measure()
        waits = old and scope != "templates"
        assert (age("transom_sends_due_timestamp_seconds", channel="whatsapp") >= 600) is waits
        garage.now.forward(2 * MINUTE)
        await line._sweeper.measure()
        still = 0 if kind == "throttle" else 1  # its time is over; a fault stands until it is mended
        assert scraped("transom_accounts_resting", channel="whatsapp", kind=kind) == still


async def test_an_unknown_outcome_is_counted_and_grows_old(line: Line, garage: Garage) -> None:
    await accept(line, await garage.command(await garage.conversation()))
    began = garage.now()
    await garage.execute("update sends set state = 'unknown', provider = 'meta', unknown_since = $1", began)
    garage.now.forward(40 * MINUTE)
    await line._sweeper.measure()
    assert scraped("transom_sends_unknown", channel="whatsapp") == 1
    assert 2400 <= age("transom_sends_unknown_timestamp_seconds", channel="whatsapp") < 2400 + SLACK
    assert age("transom_sends_due_timestamp_seconds", channel="whatsapp") < SLACK


async def test_131047_after_a_free_form_message_is_counted_and_what_the_gate_refuses_is_not(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    before = scraped("transom_sends_after_window_closed_total")
    conversation = await garage.conversation(wrote_ago=timedelta(hours=30))
    await accept(line, await garage.command(conversation))
    await line.claim_once()
    assert scraped("transom_sends_after_window_closed_total") == before
    await garage.execute("update conversations set last_customer_at = $1", garage.now() - MINUTE)
    await sandbox.fault("meta", "fail", code=131047, calls=1)
    await accept(line, await garage.command(conversation))
    assert await line.claim_once() == 1
    assert scraped("transom_sends_after_window_closed_total") == before + 1


async def test_the_bridges_of_the_organisation_that_has_most_are_scraped_and_it_is_named_near_its_cap(
    router: Router, log_lines: LogLines
) -> None:
    counts = BridgeCounts(router.pool, router.deps.now)
    await counts.measure()
    assert scraped("transom_bridges_of_one_organisation") == scraped("transom_bridges_share_of_cap") == 0
    garage = await stored(router, RoutedGarage.closed())
    await router.rows("update orgs set policy = '{\"sms_daily_segments\": 5}' where org_id = $1", garage.org_id)
    await router.decide(garage.intent())
    await router.decide(garage.intent(channel="sms"))  # an answer is no bridge
    await counts.measure()
    assert scraped("transom_bridges_of_one_organisation") == 1
    assert scraped("transom_bridges_share_of_cap") == 0.2
    assert log_lines.of("bridges.near_cap") == []
    await router.rows("update sms_days set bridges = 4")
    await counts.measure()
    await counts.measure()
    assert scraped("transom_bridges_share_of_cap") == 0.8
    [line] = log_lines.of("bridges.near_cap")
    assert (line["org_id"], line["segments"], line["detail"]) == (garage.org_id, 4, "of 5 a day")
