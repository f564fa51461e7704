"""Silence proves something only while statuses could have come; and what it proves is acted on a little at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.outbound import WhatsappCommand
from libs.common.events.topics import WEBHOOKS
from libs.common.ids import callback_data
from libs.common.kafka.producer import Producer
from libs.common.sending.resend_rounds import FEW
from tests.support.sending import DAY, SETTLING, TIMINGS, WAITS, Garage, Line, a_sender, accept, kim
from tests.support.topics import OwnTopics
from tests.support.waiting import DEADLINE_SECONDS

SECOND = timedelta(seconds=1)
ENOUGH = TIMINGS.grace + SECOND


async def lost(line: Line, garage: Garage, sandbox: SandboxClient, number: int = 1) -> list[WhatsappCommand]:
    """Messages whose calls went and whose answers did not come back. Meta answers others: it is not silent."""
    commands = []
    for n in range(number):
        commands.append(await garage.command(await kim(garage, sandbox)))
        await sandbox.fault("meta", "reset", calls=1)
        await accept(line, commands[-1])
        assert await line.claim_once() == 1
        if n % 3 == 2:
            await meta_answers(line, garage, sandbox)
    await meta_answers(line, garage, sandbox)
    return commands


async def meta_answers(line: Line, garage: Garage, sandbox: SandboxClient) -> None:
    await accept(line, await garage.command(await kim(garage, sandbox)))
    while await line.claim_once():
        pass


async def after(by: timedelta, line: Line, garage: Garage) -> None:
    """So much later ingest has served, refused nothing and read everything; the sender looks."""
    garage.now.forward(by)
    await garage.caught_up()
    await line.sweep_once()


@dataclass
class Cluster:
    """The topic of the webhooks, on the brokers."""

    admin: AIOKafkaAdminClient
    topics: OwnTopics
    producer: Producer

    async def add_a_partition(self) -> None:
        await self.admin.create_partitions({f"{self.topics.prefix}{WEBHOOKS.name}": NewPartitions(2)})
        async with asyncio.timeout(DEADLINE_SECONDS):
            while await self.producer.partitions(WEBHOOKS) != 2:  # noqa: ASYNC110 -- brokers learn it one after the other
                await asyncio.sleep(0.05)


async def status_arrives(garage: Garage, command: WhatsappCommand) -> None:
    """Meta's status of a call of this message comes."""
    item = {"id": "wamid.LATE", "status": "sent", "timestamp": str(int(garage.now().timestamp()))}
    await garage.take_statuses(
        [item | {"biz_opaque_callback_data": callback_data(command.org_id, command.message_id, command.attempt)}]
    )


async def test_a_night_in_which_meta_posts_nothing_is_no_outage(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await garage.served(since=garage.now() - DAY)  # no POST at all
    [command] = await lost(line, garage, sandbox)
    await after(ENOUGH, line, garage)
    assert await garage.states(command) == ["pending"]
    assert await line.claim_once() == 1
    assert await garage.states(command) == ["accepted"]


@pytest.fixture
def cluster(kafka_admin: AIOKafkaAdminClient, topics: OwnTopics, producer: Producer) -> Cluster:
    return Cluster(kafka_admin, topics, producer)


@pytest.mark.parametrize("kind", ["refused", "doubtful"])
async def test_after_a_refused_post_the_grace_begins_when_meta_has_tried_again(
    line: Line, garage: Garage, sandbox: SandboxClient, kind: str
) -> None:
    [command] = await lost(line, garage, sandbox)
    garage.now.forward(TIMINGS.grace / 2)
    await garage.refused(garage.now(), kind)
    await after(SETTLING + TIMINGS.grace - SECOND, line, garage)
    assert await garage.states(command) == ["unknown"]
    await after(TIMINGS.look, line, garage)
    assert await garage.states(command) == ["pending"]
    assert await line.claim_once() == 1


async def test_after_nobody_served_it_begins_as_late_and_after_an_overlap_at_once(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    [command] = await lost(line, garage, sandbox)
    first, second, third = uuid4(), uuid4(), uuid4()
    begun = garage.now()
    await garage.served(edge=first, at=begun + SECOND, left=True)
    garage.now.forward(10 * SECOND)
    back = garage.now()  # nobody served for nine seconds

    async def at(later: timedelta) -> str:
        garage.now.ahead += back + later - garage.now()
        await garage.caught_up()
        await garage.execute("delete from webhook_edges where edge_id <> all ($1)", [first, second, third])
        await garage.served(
            edge=second, since=back, at=min(garage.now(), back + 50 * SECOND), left=later >= 50 * SECOND
        )
        if later >= 49 * SECOND:
            await garage.served(edge=third, since=back + 49 * SECOND)
        await line.sweep_once()
        [state] = await garage.states(command)
        return str(state)

    assert await at(ENOUGH) == "unknown"
    assert await at(SETTLING + TIMINGS.grace - SECOND) == "unknown"
    assert await at(SETTLING + TIMINGS.grace + TIMINGS.look) == "pending"


async def test_an_edge_that_vanished_proves_nothing_for_a_while_and_holds_up_nothing_for_ever(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    [command] = await lost(line, garage, sandbox)
    await garage.served(edge=uuid4(), at=garage.now() + SECOND)  # killed; another one serves on
    await after(SETTLING + TIMINGS.grace, line, garage)
    assert await garage.states(command) == ["unknown"]
    await after(WAITS.noticed + TIMINGS.look, line, garage)
    assert await garage.states(command) == ["pending"]


async def test_a_partition_that_nobody_spoke_of_is_not_caught_up(
    line: Line, garage: Garage, sandbox: SandboxClient, cluster: Cluster
) -> None:
    [command] = await lost(line, garage, sandbox)
    await cluster.add_a_partition()
    for _ in range(3):
        await after(ENOUGH, line, garage)
        assert await garage.states(command) == ["unknown"]
    await garage.execute("insert into progress values ('webhooks.v1', 1, $1, $2)", garage.now(), garage.now() - ENOUGH)
    garage.now.forward(TIMINGS.look)
    await garage.execute("update progress set caught_up_at = $1", garage.now())
    await after(timedelta(0), line, garage)
    assert await garage.states(command) == ["pending"]


async def all_of(line: Line, garage: Garage, commands: Sequence[WhatsappCommand]) -> dict[str, int]:
    while await line.claim_once():
        pass
    states = await garage.states(*commands)
    return {state: states.count(state) for state in sorted(set(states))}


async def test_second_calls_go_a_few_at_a_time_over_all_replicas_and_over_restarts(
    line: Line, garage: Garage, producer: Producer, sandbox: SandboxClient
) -> None:
    commands = await lost(line, garage, sandbox, 18)
    async with a_sender(garage, producer, sandbox.url) as replica:
        await meta_answers(replica, garage, sandbox)
        await after(ENOUGH, line, garage)
        garage.now.forward(SECOND)
        await after(TIMINGS.look, replica, garage)
        assert await all_of(line, garage, commands) == {"accepted": FEW, "unknown": 13}
    async with a_sender(garage, producer, sandbox.url) as restarted:
        await meta_answers(restarted, garage, sandbox)
        await after(TIMINGS.grace, restarted, garage)
        assert await all_of(line, garage, commands) == {"accepted": 3 * FEW, "unknown": 3}
        await after(TIMINGS.grace, restarted, garage)
        assert await all_of(line, garage, commands) == {"accepted": 18}
    assert [(await garage.row(command))["resends"] for command in commands] == [1] * 18


async def test_after_an_outage_a_round_waits_until_meta_may_have_tried_the_one_before_again(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    before = await lost(line, garage, sandbox, FEW + 1)  # the rounds have grown before there is an outage
    await after(ENOUGH, line, garage)
    await after(TIMINGS.grace, line, garage)
    assert await all_of(line, garage, before) == {"accepted": FEW + 1}

    commands = await lost(line, garage, sandbox, FEW + 2)
    await garage.refused(garage.now())
    await after(SETTLING + TIMINGS.grace, line, garage)
    assert await all_of(line, garage, commands) == {"accepted": FEW, "unknown": 2}
    await after(SETTLING - 5 * SECOND, line, garage)
    assert await all_of(line, garage, commands) == {"accepted": FEW, "unknown": 2}
    await after(TIMINGS.look, line, garage)
    assert await all_of(line, garage, commands) == {"accepted": FEW + 2}


@pytest.mark.parametrize("which", ["made again", "about to be"])
async def test_one_acceptance_that_comes_late_stops_all_others_until_meta_has_had_its_time(
    line: Line, garage: Garage, sandbox: SandboxClient, which: str
) -> None:
    commands = await lost(line, garage, sandbox, 12)
    await after(ENOUGH, line, garage)
    assert await all_of(line, garage, commands) == {"accepted": FEW, "unknown": 7}
    wanted = "accepted" if which == "made again" else "unknown"
    states = await garage.states(*commands)
    await status_arrives(garage, commands[states.index(wanted)])

    await after(TIMINGS.grace, line, garage)
    rest = await all_of(line, garage, commands)
    assert rest["unknown"] == (7 if which == "made again" else 6)
    begun = garage.now()
    while garage.now() - begun < SETTLING + TIMINGS.grace - 3 * SECOND:
        await after(2 * SECOND, line, garage)
        assert await all_of(line, garage, commands) == rest
    await after(TIMINGS.look, line, garage)
    assert (await all_of(line, garage, commands))["unknown"] == rest["unknown"] - FEW
    await after(TIMINGS.grace, line, garage)
    await after(TIMINGS.look, line, garage)
    assert await all_of(line, garage, commands) == {"accepted": 12}


async def test_statuses_that_come_while_meta_tries_again_stop_nothing(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    first, second = await lost(line, garage, sandbox, 2)
    await garage.refused(garage.now())
    garage.now.forward(SETTLING - SECOND)
    await status_arrives(garage, first)
    await after(SECOND, line, garage)
    await after(TIMINGS.grace, line, garage)
    assert await garage.states(first, second) == ["accepted", "pending"]
    assert await garage.fetch("select from resend_rounds where late_at is not null") == []
