"""What the claim of an SMS asks once more: the day of its organisation, and countries that rest."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.outbound import DeliveryUpdate, SmsCommand
from libs.common.sending import sms_caps
from tests.support import world as seeds
from tests.support.logs import LogLines
from tests.support.sandbox import CUSTOMER, NUMBER_ID
from tests.support.sms_world import ORG, SmsWorld

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def ends(updates: list[DeliveryUpdate]) -> list[tuple[Any, str | None, str | None]]:
    return [(update.message_id, update.reason, update.provider_code) for update in updates]


async def counted(world: SmsWorld, days: int = 0, segments: int = 1, **changes: Any) -> SmsCommand:
    """A plain text that the router has decided and counted, so many days ago."""
    day = (world.clock() - days * DAY).date()
    await world.execute(
        """insert into sms_days values ($1, $2, $3)
           on conflict (org_id, day) do update set segments = sms_days.segments + excluded.segments""",
        ORG,
        day,
        segments,
    )
    return await world.decided(**{"route": "session", "text": "Ready.", "day": day, "segments": segments} | changes)


async def day_of(world: SmsWorld, days: int = 0) -> int:
    day = (world.clock() - days * DAY).date()
    return int(await world.value("select coalesce(sum(segments), 0) from sms_days where day = $1", day))


async def set_cap(world: SmsWorld, most: int) -> None:
    await world.execute("update orgs set policy = $2 where org_id = $1", ORG, {"sms_daily_segments": most})


async def test_an_sms_that_was_counted_today_goes_and_stays_counted(world: SmsWorld, sandbox: SandboxClient) -> None:
    await set_cap(world, 1)
    assert await world.send(await counted(world)) == 1
    assert await day_of(world) == 1


async def test_an_sms_of_yesterday_is_counted_today_or_does_not_go(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    await set_cap(world, 2)
    commands = [await counted(world), await counted(world, days=1), await counted(world, days=1)]
    sent = [await world.send(command) for command in commands]
    assert sent == [1, 1, 0]
    updates, _ = await world.published()
    assert ends(updates) == [(commands[2].message_id, "window_expired_spend_cap_reached", None)]
    assert await day_of(world) == 2
    assert await day_of(world, days=1) == 0
    assert len(await sandbox.sms()) == 2
    cap = "sms_daily_segments: 2 of 2 used, 1 needed"
    assert [line["detail"] for line in log_lines.of("send.failed")] == [cap]
    assert await world.value("select outcome ->> 'detail' from sends where state = 'failed'") == cap


async def test_a_cap_that_is_lowered_meanwhile_ends_what_is_too_much(world: SmsWorld, log_lines: LogLines) -> None:
    commands = [await counted(world) for _ in range(4)]
    await set_cap(world, 1)
    assert sum([await world.send(command) for command in commands]) == 1
    updates, _ = await world.published()
    assert [update.reason for update in updates] == ["window_expired_spend_cap_reached"] * 3
    assert [line["detail"] for line in log_lines.of("send.failed")] == [
        f"sms_daily_segments: {spent} of 1 used, 1 needed" for spent in (3, 2, 1)
    ]
    assert await day_of(world) == 1


async def test_what_is_not_bought_is_given_back(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.sms_recipient(CUSTOMER, "landline")
    await world.send(await counted(world, segments=3))
    assert await day_of(world) == 0
    await world.execute("delete from address_marks")
    await world.execute("update orgs set sms_active = false")
    await world.send(await counted(world))
    assert await day_of(world) == 0


async def answers(world: SmsWorld) -> int:
    """How many answers of its hour the conversation has."""
    at, now = (ORG, world.conversation_id), world.clock()
    async with world.pool.acquire() as db:
        found = await sms_caps.answers_of(db, {at}, now)
    return found[world.conversation_id].hour if found else 0


async def answered(world: SmsWorld, times: int) -> list[SmsCommand]:
    """So many plain texts that the router has decided, counted and noted as answers of one moment."""
    commands = [await counted(world) for _ in range(times)]
    async with world.pool.acquire() as db:
        await sms_caps.note_answers(db, {(ORG, world.conversation_id): times}, world.clock())
    return commands


async def test_an_answer_that_is_not_bought_leaves_the_hour(world: SmsWorld, sandbox: SandboxClient) -> None:
    first, second, third = await answered(world, 3)
    assert await world.send(first) == 1
    assert await answers(world) == 3
    await sandbox.sms_recipient(CUSTOMER, "landline")
    await world.send(second)
    assert await answers(world) == 2
    await world.send(third)  # the number is marked now, so the gate refuses it
    assert await answers(world) == 1
    updates, _ = await world.published()
    assert len(ends(updates)) == 2


async def test_a_bridge_that_is_not_bought_takes_no_answer_away(world: SmsWorld, sandbox: SandboxClient) -> None:
    await answered(world, 1)
    await sandbox.sms_recipient(CUSTOMER, "landline")
    await world.send(await world.decided())
    assert await answers(world) == 1


async def a_bridge(world: SmsWorld, days: int = 0) -> SmsCommand:
    """A bridge that the router has decided and counted, so many days ago."""
    day = (world.clock() - days * DAY).date()
    await world.execute("insert into sms_days values ($1, $2, 1, 1)", ORG, day)
    return await world.decided(day=day, segments=1)


async def bridges_of(world: SmsWorld) -> list[tuple[int, int]]:
    """Segments and bridges of each day, oldest first."""
    async with world.pool.acquire() as db:
        return [tuple(row) for row in await db.fetch("select segments, bridges from sms_days order by day")]


async def test_a_bridge_that_goes_a_day_later_is_one_of_that_days_bridges(world: SmsWorld) -> None:
    assert await world.send(await a_bridge(world, days=1)) == 1
    assert await bridges_of(world) == [(0, 0), (1, 1)]


async def test_a_bridge_that_is_not_bought_is_no_bridge_of_the_day(world: SmsWorld, sandbox: SandboxClient) -> None:
    await sandbox.sms_recipient(CUSTOMER, "landline")
    await world.send(await a_bridge(world))
    assert await bridges_of(world) == [(0, 0)]


async def test_a_country_that_is_not_enabled_rests_for_an_hour_and_others_go_on(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    await world.execute("update orgs set policy = $2 where org_id = $1", ORG, {"sms_countries": ["GB", "IE"]})
    await sandbox.sms_recipient(CUSTOMER, "region_blocked")
    first, second = await world.decided(), await counted(world)
    await world.send(first)
    await world.send(second)
    updates, _ = await world.published()
    assert ends(updates) == [
        (first.message_id, "window_expired_bridge_failed", "21408"),
        (second.message_id, "window_expired_country_not_allowed", None),
    ]
    [line] = log_lines.of("country.paused")
    assert (line["level"], line["provider"], line["country"], line["provider_code"]) == (
        *("error", "twilio", "GB"),
        "21408",
    )

    irish, conversation, phone = uuid4(), uuid4(), "+353851234567"
    async with world.pool.acquire() as db:
        await seeds.a_customer(db, ORG, irish, phone)
        last = world.clock() - 2 * DAY
        await seeds.a_conversation(db, ORG, conversation, irish, NUMBER_ID, last_customer_at=last)
    assert await world.send(await counted(world, to=phone, conversation_id=conversation)) == 1

    world.clock.forward(HOUR)
    await sandbox.sms_recipient(CUSTOMER, "fine")
    assert await world.send(await counted(world)) == 1
    assert len(log_lines.of("country.paused")) == 1


async def test_one_jamaican_number_does_not_stop_the_united_states(
    world: SmsWorld, sandbox: SandboxClient, log_lines: LogLines
) -> None:
    await world.execute("update orgs set policy = $2 where org_id = $1", ORG, {"sms_countries": ["US"]})
    conversations = {"+18765550100": uuid4(), "+18765550101": uuid4(), "+12125550100": uuid4()}
    async with world.pool.acquire() as db:
        for phone, conversation in conversations.items():
            customer = uuid4()
            await seeds.a_customer(db, ORG, customer, phone)
            last = world.clock() - 2 * DAY
            await seeds.a_conversation(db, ORG, conversation, customer, NUMBER_ID, last_customer_at=last)
    await sandbox.sms_recipient("+18765550100", "region_blocked")
    commands = [await counted(world, to=to, conversation_id=at) for to, at in conversations.items()]
    assert [await world.send(command) for command in commands] == [1, 0, 1]
    updates, _ = await world.published()
    assert ends(updates)[-1] == (commands[1].message_id, "window_expired_country_not_allowed", None)
    assert [line["country"] for line in log_lines.of("country.paused")] == ["JM"]
