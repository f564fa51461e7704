"""Whose fault a failure is, learned from answers of Meta and from statuses that come later: for the message, for
others, and for how long.
"""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from deploy.local.sandbox.client import SandboxClient
from libs.common.events.outbound import WhatsappCommand
from libs.common.sending.status_effects import StatusEvents, receive_statuses
from libs.common.thread.message_status import ProviderStatus
from tests.support.published import Published
from tests.support.scraped import scraped
from tests.support.sending import ORG, Conversation, Garage, Line, accept, again, kim

SECOND = timedelta(seconds=1)


async def sent(line: Line, garage: Garage, command: WhatsappCommand) -> str:
    """The wamid of a command that Meta has accepted."""
    await accept(line, command)
    assert await line.claim_once() == 1
    [found] = await garage.fetch(
        "select provider_id from provider_ids where send_id = $1 and attempt = $2", command.message_id, command.attempt
    )
    return str(found["provider_id"])


async def receives(
    garage: Garage, wamid: str, *events: str | tuple[str, str], after: timedelta = SECOND
) -> StatusEvents:
    """Meta's statuses of a message, in this order; a failure has its code."""
    statuses = [
        ProviderStatus(
            "whatsapp",
            "meta",
            garage.number,
            wamid,
            "failed" if isinstance(one, tuple) else one,
            garage.now() + after,
            one[1] if isinstance(one, tuple) else None,
        )
        for one in events
    ]
    async with garage.pool.acquire() as db, db.transaction():
        return await receive_statuses(db, statuses, garage.now() + after)


def failed(code: str) -> tuple[str, str]:
    return "failed", code


async def fails_late(line: Line, garage: Garage, command: WhatsappCommand, code: str) -> list[str]:
    """Meta accepts the command, and a status says that it failed. Returns the reasons of the refusals."""
    return [r.reason for r in (await receives(garage, await sent(line, garage, command), failed(code))).refusals]


async def fails(
    line: Line, sandbox: SandboxClient, published: Published, command: WhatsappCommand, code: str
) -> list[str]:
    """Meta's answer is the failure. Returns the reasons of the refusals that were published."""
    await sandbox.fault("meta", "fail", code=int(code), calls=1)
    await accept(line, command)
    await line.claim_once()
    return [r["reason"] for r in await published.refusals()]


async def marks(garage: Garage) -> list[tuple[Any, ...]]:
    return [
        tuple(row)
        for row in await garage.fetch("select channel, address, reason, code, source from address_marks order by 2")
    ]


async def template_of(garage: Garage) -> tuple[Any, ...]:
    [row] = await garage.fetch("select status, stale_code from templates where org_id = $1", ORG)
    return row["status"], row["stale_code"]


async def to_closed(garage: Garage, sandbox: SandboxClient) -> tuple[Conversation, WhatsappCommand]:
    """A customer whose window is closed, and a template for them."""
    await garage.template()
    await sandbox.template("car_ready", "en_GB", "Your {{1}} is ready.")
    conversation = await garage.conversation(wrote_ago=timedelta(days=3))
    return conversation, await garage.command(conversation, template="car_ready")


@pytest.mark.parametrize("code", ["131042", "131031", "368", "190"])
async def test_an_account_out_of_order_that_says_so_afterwards_rests_until_a_status_proves_it_well(
    line: Line, garage: Garage, sandbox: SandboxClient, code: str
) -> None:
    first = await garage.command(await kim(garage, sandbox))
    effects = await receives(garage, await sent(line, garage, first), failed(code))
    assert [(r.reason, r.provider_code) for r in effects.refusals] == [("account", code)]
    assert effects.updates == []  # nothing failed: it waits

    others = [await garage.command(await kim(garage, sandbox)) for _ in range(5)]
    garage.now.forward(2 * SECOND)
    await accept(line, again(first), *others)
    assert await line.claim_once() == 0
    assert set(await garage.states(*others)) == {"pending"}

    garage.now.forward(timedelta(minutes=1))
    assert await line.claim_once() == 1  # one call tries it out
    garage.now.forward(timedelta(seconds=2))
    assert await line.claim_once() == 0  # an accepted answer proves nothing
    [probe] = await garage.fetch("select provider_id from provider_ids order by recorded_at desc limit 1")
    await receives(garage, probe["provider_id"], "sent", "delivered")
    garage.now.forward(timedelta(seconds=2))
    while await line.claim_once():
        pass
    assert {row["state"] for row in await garage.fetch("select state from sends")} == {"accepted"}


async def test_what_is_told_again_or_of_earlier_calls_lets_an_account_that_is_well_rest_no_more(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    first, second, third = [await garage.command(await kim(garage, sandbox)) for _ in range(3)]
    burnt = [await sent(line, garage, command) for command in (first, second)]
    await receives(garage, burnt[0], failed("131042"))
    garage.now.forward(timedelta(minutes=1))
    # as the router does
    await garage.execute("update messages set attempt = 2 where message_id = $1", first.message_id)
    await receives(garage, await sent(line, garage, again(first)), "sent")
    assert await garage.fetch("select * from pauses") == []

    effects = await receives(garage, burnt[1], failed("131042"))  # called before, and told late
    assert [r.reason for r in effects.refusals] == ["account"]
    effects = await receives(garage, burnt[0], failed("131042"))  # told twice
    assert effects.refusals == []
    assert await garage.fetch("select * from pauses") == []

    garage.now.forward(SECOND)  # a later call: the account is out of order again
    await receives(garage, await sent(line, garage, third), failed("131042"))
    assert len(await garage.fetch("select * from pauses")) == 1


async def test_a_template_that_was_read_anew_is_not_stale_because_a_failure_is_told_twice(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    _, command = await to_closed(garage, sandbox)
    wamid = await sent(line, garage, command)
    await receives(garage, wamid, failed("132012"))
    await garage.execute(
        "update messages set status = 'failed', reason = 'provider_refused', seq = 1, failed_at = now()"
    )
    await garage.execute("update templates set stale_since = null, stale_code = null")
    await receives(garage, wamid, failed("132012"))
    assert await template_of(garage) == ("APPROVED", None)


async def test_an_account_fault_of_the_templates_leaves_other_messages_alone(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    _, template = await to_closed(garage, sandbox)
    effects = await receives(garage, await sent(line, garage, template), failed("131048"))
    assert [r.reason for r in effects.refusals] == ["account"]
    garage.now.forward(2 * SECOND)
    text = await garage.command(await kim(garage, sandbox))
    await accept(line, text)
    assert await line.claim_once() == 1


async def test_an_account_fault_of_the_templates_that_a_free_form_message_met_holds_for_all(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    text = await garage.command(await kim(garage, sandbox))
    effects = await receives(garage, await sent(line, garage, text), failed("131048"))
    assert [r.reason for r in effects.refusals] == ["account"]
    garage.now.forward(2 * SECOND)
    others = [await garage.command(await kim(garage, sandbox)), (await to_closed(garage, sandbox))[1]]
    await accept(line, *others)
    assert await line.claim_once() == 0


@pytest.mark.parametrize(("code", "status"), [("132001", "DELETED"), ("132015", "PAUSED"), ("132016", "DISABLED")])
async def test_a_template_that_is_gone_is_known_to_be_so_whether_an_answer_or_a_status_says_it(
    line: Line, garage: Garage, sandbox: SandboxClient, code: str, status: str
) -> None:
    conversation, command = await to_closed(garage, sandbox)
    effects = await receives(garage, await sent(line, garage, command), failed(code))
    assert [(r.reason, r.provider_code) for r in effects.refusals] == [("template_not_approved", code)]
    assert await template_of(garage) == (status, None)
    other = await garage.command(conversation, template="car_ready")
    await accept(line, other)
    assert await line.claim_once() == 0


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("code", ["131008", "132000", "132005", "132007", "132012", "132018"])
async def test_a_template_that_does_not_suit_meta_is_stale_and_others_go_on(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published, code: str, *, late: bool
) -> None:
    _, command = await to_closed(garage, sandbox)
    failing = fails_late(line, garage, command, code) if late else fails(line, sandbox, published, command, code)
    assert await failing == ["template_refused"]
    assert await template_of(garage) == ("APPROVED", code)
    other = await garage.command(await garage.conversation(), template="car_ready")
    await accept(line, other)
    assert await line.claim_once() == 1


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("code", ["131026", "130403"])
async def test_whom_whatsapp_does_not_reach_is_marked_with_reason_time_and_source(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published, code: str, *, late: bool
) -> None:
    conversation = await kim(garage, sandbox)
    command = await garage.command(conversation)
    failing = fails_late(line, garage, command, code) if late else fails(line, sandbox, published, command, code)
    assert await failing == ["unreachable"]
    source = "status" if late else "answer"
    assert await marks(garage) == [("whatsapp", conversation.phone, "unreachable", code, source)]


@pytest.mark.parametrize("late", [True, False])
async def test_what_waits_for_an_address_that_was_marked_meanwhile_does_not_buy_the_same_failure(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published, *, late: bool
) -> None:
    conversation = await kim(garage, sandbox)
    first, *waiting = [await garage.command(conversation) for _ in range(4)]
    if late:
        await receives(garage, await sent(line, garage, first), failed("131026"))
    else:
        await sandbox.fault("meta", "fail", code=131026, calls=1)
        await accept(line, first)
        assert await line.claim_once() == 1
    garage.now.forward(2 * SECOND)
    await accept(line, *waiting)
    for _ in waiting:
        assert await line.claim_once() == 0
    assert await garage.states(*waiting) == ["rerouted"] * 3
    told_of = {(r["intent_id"], r["reason"]) for r in await published.refusals()}
    assert {(str(command.message_id), "unreachable") for command in waiting} <= told_of


async def test_a_template_that_was_asked_for_in_spite_of_a_mark_goes_and_one_from_before_it_does_not(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    _, first = await to_closed(garage, sandbox)
    second = first.model_copy(update={"message_id": uuid4(), "sequence": 100})
    await accept(line, second)  # decided before anything was known
    await garage.execute("update sends set due_at = due_at + interval '1 minute'")
    await receives(garage, await sent(line, garage, first), failed("131026"))
    garage.now.forward(timedelta(minutes=2))
    assert await line.claim_once() == 0
    assert await garage.states(second) == ["rerouted"]
    third = first.model_copy(update={"message_id": uuid4(), "sequence": 101})
    await accept(line, third)
    assert await line.claim_once() == 1


async def test_a_receipt_is_a_sign_of_life_and_ends_the_mark(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    wamids = [await sent(line, garage, await garage.command(conversation)) for _ in range(2)]
    await receives(garage, wamids[0], failed("131026"))
    await receives(garage, wamids[1], "sent", after=3 * SECOND)
    assert len(await marks(garage)) == 1
    await receives(garage, wamids[1], "delivered", after=3 * SECOND)
    assert await marks(garage) == []


@pytest.mark.parametrize("code", ["131049", "130472"])
@pytest.mark.parametrize("late", [True, False])
async def test_a_limit_on_marketing_for_one_user_is_kept_for_a_day_and_marks_nothing_else(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published, code: str, *, late: bool
) -> None:
    to, command = await to_closed(garage, sandbox)
    failing = fails_late(line, garage, command, code) if late else fails(line, sandbox, published, command, code)
    assert await failing == ["template_refused"]
    source = "status" if late else "answer"
    assert await marks(garage) == [("marketing", command.to, "marketing_limited", code, source)]
    [row] = await garage.fetch("select until - at as lasts from address_marks")
    assert row["lasts"] == timedelta(days=1)
    assert await template_of(garage) == ("APPROVED", None)
    # they are written to all the same: with a template that is asked for, and with a text once they have written
    await sandbox.customer_writes(garage.number, to.phone)
    await garage.execute("update conversations set last_customer_at = $1", garage.now())
    meanwhile = [await garage.command(to, template="car_ready"), await garage.command(to)]
    await accept(line, *meanwhile)
    assert [await line.claim_once() for _ in meanwhile] == [1, 1]
    assert await garage.states(*meanwhile) == ["accepted"] * 2


@pytest.mark.parametrize("code", ["131051", "139999"])
async def test_what_lies_with_the_content_or_is_not_known_fails_with_the_code(
    line: Line, garage: Garage, sandbox: SandboxClient, code: str
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    [update] = (await receives(garage, await sent(line, garage, command), failed(code))).updates
    assert (update.status, update.reason, update.provider_code) == ("failed", "provider_refused", code)


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("code", ["131009", "139999"])
async def test_a_template_that_meta_refuses_for_its_content_is_decided_again_and_stays_approved(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published, code: str, *, late: bool
) -> None:
    _, command = await to_closed(garage, sandbox)
    failing = fails_late(line, garage, command, code) if late else fails(line, sandbox, published, command, code)
    assert await failing == ["template_refused"]
    assert await template_of(garage) == ("APPROVED", None)


async def test_a_template_whose_media_meta_cannot_fetch_is_decided_again_after_three_tries(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    _, command = await to_closed(garage, sandbox)
    await sandbox.fault("meta", "fail", code=131053, number=garage.number)
    await accept(line, command)
    for _ in range(3):
        assert await line.claim_once() == 1
        garage.now.forward(timedelta(minutes=2))
    [row] = await garage.fetch("select state from sends where message_id = $1", command.message_id)
    assert row["state"] == "rerouted"


async def test_a_failure_that_is_certain_is_tried_again_and_never_one_that_arrived_after_all(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    wamid = await sent(line, garage, command)
    effects = await receives(garage, wamid, failed("131000"))
    assert [(r.reason, r.attempt) for r in effects.refusals] == [("transient", 1)]
    effects = await receives(garage, wamid, failed("131000"), "delivered", "read")
    assert effects.refusals == []
    assert [(u.status, u.reason) for u in effects.updates] == [("delivered", None), ("read", None)]


async def test_a_second_try_does_not_go_out_once_the_first_turned_out_to_have_arrived(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    wamid = await sent(line, garage, command)
    await receives(garage, wamid, failed("131000"))
    await garage.execute("update messages set attempt = 2 where message_id = $1", command.message_id)  # as the router
    await accept(line, again(command))
    [update] = (await receives(garage, wamid, "read")).updates
    assert update.status == "read"
    assert await line.claim_once() == 0
    assert len(await sandbox.messages()) == 1
    [row] = await garage.fetch("select status, reason from messages where message_id = $1", command.message_id)
    assert (row["status"], row["reason"]) == ("read", None)


async def test_131047_counts_from_the_send_whenever_its_status_is_told(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    conversation = await garage.conversation(wrote_ago=timedelta(hours=23))
    await sandbox.customer_writes(garage.number, conversation.phone)
    command = await garage.command(conversation)
    called_at = garage.now()
    wamid = await sent(line, garage, command)
    counted = scraped("transom_sends_after_window_closed_total")
    await garage.execute("update conversations set last_customer_at = $1", called_at + 2 * SECOND)
    effects = await receives(garage, wamid, failed("131047"), after=3 * SECOND)
    assert [r.reason for r in effects.refusals] == ["window_closed"]
    assert scraped("transom_sends_after_window_closed_total") == counted + 1
    [row] = await garage.fetch("select last_refused_at, first_refused_at from conversations")
    assert (row["last_refused_at"], row["first_refused_at"]) == (called_at, None)
    garage.now.forward(5 * SECOND)
    await accept(line, again(command))
    assert await line.claim_once() == 1  # the window is open since the customer wrote


async def test_131047_of_a_fallback_template_closes_no_window(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    _, command = await to_closed(garage, sandbox)
    await garage.execute("update messages set kind = 'text' where message_id = $1", command.message_id)
    counted = scraped("transom_sends_after_window_closed_total")
    effects = await receives(garage, await sent(line, garage, command), failed("131047"))
    assert [r.reason for r in effects.refusals] == ["template_refused"]
    assert scraped("transom_sends_after_window_closed_total") == counted
    [row] = await garage.fetch("select last_refused_at from conversations")
    assert row["last_refused_at"] is None


async def test_an_error_of_metas_own_for_one_template_stops_nobody_else(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await garage.template()
    await sandbox.template("car_ready", "en_GB", "Your {{1}} is ready.")
    broken = [await garage.command(await garage.conversation(), template="car_ready") for _ in range(8)]
    await sandbox.fault("meta", "fail", code=131000, http_status=500, calls=len(broken))
    for command in broken:
        await accept(line, command)
        await line.claim_once()
    assert set(await garage.states(*broken)) == {"unknown"}
    text = await garage.command(await kim(garage, sandbox))
    await accept(line, text)
    assert await line.claim_once() == 1
    assert await garage.states(text) == ["accepted"]
