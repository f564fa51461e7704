"""Claims, the gate, answers and telling, step by step on real servers and against the sandbox."""

import asyncio
from datetime import timedelta

from deploy.local.sandbox.client import SandboxClient
from libs.common.ids import callback_data
from libs.common.sending.persisting import PUBLISH_LEASE
from services.whatsapp_sender.worker import decode_command
from tests.support.erased import erase
from tests.support.logs import LogLines
from tests.support.published import Published
from tests.support.records import a_record
from tests.support.sandbox import HookInbox
from tests.support.sending import ORG, Garage, Line, a_sender, accept, again, kim, out_of_reach, statuses_in
from tests.support.waiting import eventually


async def test_a_command_is_sent_once_and_its_wamid_is_kept(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published, log_lines: LogLines
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    await accept(line, command)
    await accept(line, command)  # a redelivery

    assert await line.claim_once() == 1
    assert await line.claim_once() == 0

    [sent] = await sandbox.messages()
    assert sent["callback"] == callback_data(command.org_id, command.message_id, 1)
    assert sent["body"]["to"] == command.to
    row = await garage.row(command)
    assert (row["state"], row["tries"], row["published"]) == ("accepted", 1, True)
    [kept] = await garage.fetch("select * from provider_ids where org_id = $1", ORG)
    assert (kept["provider_id"], kept["message_id"], kept["applied"]) == (sent["wamid"], command.message_id, True)
    assert await published.updates() == []  # Meta's 200 is told by nobody; its webhooks are
    [line_logged] = log_lines.of("send.accepted")
    assert line_logged["message_id"] == str(command.message_id)
    assert str(command.to) not in log_lines.raw
    assert "Golf" not in log_lines.raw


async def test_an_answer_reaches_meta_with_the_message_that_it_quotes(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    await accept(line, command.model_copy(update={"quotes": "wamid.HBgM.the-question"}))
    assert await line.claim_once() == 1
    [sent] = await sandbox.messages()
    assert sent["body"]["context"] == {"message_id": "wamid.HBgM.the-question"}


async def test_a_template_whose_purpose_was_switched_off_in_the_queue_goes_back_to_the_router(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    await garage.template()
    await sandbox.template("car_ready", "en_GB", "Your {{1}} is ready.", waba_id=None)
    customer = await kim(garage, sandbox)
    commands = [
        (await garage.command(customer, template="car_ready")).model_copy(update={"purpose": purpose})
        for purpose in ("service_reminders", "transactional", None)
    ]
    await garage.fetch(
        "insert into consents (org_id, customer_id, category, allowed, at) values ($1, $2, 'service_reminders', false,"
        " now())",
        *(ORG, customer.customer_id),
    )
    for command in commands:
        await accept(line, command)
        await line.claim_once()
    [refused] = await published.refusals()
    assert (refused["intent_id"], refused["reason"]) == (str(commands[0].message_id), "consent_off")
    assert len(await sandbox.messages()) == 2


async def test_statuses_that_overtook_the_answer_are_told(
    line: Line, garage: Garage, sandbox: SandboxClient, hook_inbox: HookInbox, published: Published
) -> None:
    await sandbox.configure(webhook_url=hook_inbox.url)
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "slow", seconds=60, calls=1)
    await accept(line, command)

    async def ingest() -> None:
        await eventually(lambda: "delivered" in hook_inbox.statuses())
        await garage.take_statuses(statuses_in(hook_inbox))
        await sandbox.clear_faults()

    await asyncio.gather(line.claim_once(), ingest())

    update = (await published.updates())[-1]
    assert (update["message_id"], update["status"]) == (str(command.message_id), "delivered")


async def test_a_window_that_closed_in_the_queue_goes_back_to_the_router(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    command = await garage.command(await garage.conversation(wrote_ago=timedelta(hours=24)))
    await accept(line, command)

    assert await line.claim_once() == 0

    assert await garage.states(command) == ["rerouted"]
    [refusal] = await published.refusals()
    assert (refusal["intent_id"], refusal["attempt"]) == (str(command.message_id), 1)
    assert (refusal["reason"], refusal["provider_code"]) == ("window_closed", None)
    assert await sandbox.calls() == []
    [conversation] = await garage.fetch("select last_refused_at from conversations where org_id = $1", ORG)
    assert conversation["last_refused_at"] is None


async def test_a_customer_who_wrote_meanwhile_opens_the_gate(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    conversation = await kim(garage, sandbox)
    command = await garage.command(conversation)
    await garage.execute("update conversations set last_customer_at = $1", garage.now() - timedelta(hours=25))
    await accept(line, command)
    await garage.execute("update conversations set last_customer_at = $1", garage.now())
    assert await line.claim_once() == 1
    assert await garage.states(command) == ["accepted"]


async def test_metas_word_on_a_closed_window_is_kept_and_told(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    conversation = await kim(garage, sandbox)
    command = await garage.command(conversation)
    await sandbox.fault("meta", "fail", code=131047, calls=1)
    await accept(line, command)
    await line.claim_once()

    [refusal] = await published.refusals()
    assert (refusal["reason"], refusal["provider_code"]) == ("window_closed", "131047")
    [row] = await garage.fetch("select last_refused_at, last_customer_at from conversations where org_id = $1", ORG)
    assert row["last_refused_at"] > row["last_customer_at"]

    await accept(line, again(command))  # the same way again: the gate knows better now
    await line.claim_once()
    assert len(await sandbox.calls()) == 1
    assert await garage.states(again(command)) == ["rerouted"]


async def test_metas_word_holds_even_where_the_customers_clock_is_ahead_of_ours(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    conversation = await garage.conversation(wrote_ago=timedelta(seconds=-50))
    command = await garage.command(conversation)
    await sandbox.fault("meta", "fail", code=131047, calls=1)
    await accept(line, command)
    await line.claim_once()
    await sandbox.fault("meta", "fail", code=131047, calls=1)
    await accept(line, again(command))  # right after a message the first refusal is in doubt, the second is not
    await line.claim_once()
    await accept(line, again(again(command)))
    await line.claim_once()
    assert len(await sandbox.calls()) == 2


async def test_consent_withdrawn_in_the_queue_goes_back_to_the_router(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    conversation = await kim(garage, sandbox)
    await garage.execute(
        "insert into consents (org_id, customer_id, category, allowed, at) values ($1, $2, 'whatsapp', false, now())",
        ORG,
        conversation.customer_id,
    )
    await accept(line, await garage.command(conversation))
    assert await line.claim_once() == 0
    assert [refusal["reason"] for refusal in await published.refusals()] == ["consent_off"]


async def test_what_waits_for_a_customer_who_is_erased_goes_back_to_the_router(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    conversation = await kim(garage, sandbox)
    await accept(line, await garage.command(conversation))
    await erase(garage.pool, ORG, conversation.conversation_id)
    assert await line.claim_once() == 0
    assert [refusal["reason"] for refusal in await published.refusals()] == ["address_changed"]
    assert await sandbox.calls() == []


async def test_the_consent_of_another_customer_stops_nothing(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    conversation, other = await kim(garage, sandbox), await garage.conversation()
    await garage.execute(
        "insert into consents (org_id, customer_id, category, allowed, at) values ($1, $2, 'whatsapp', false, now())",
        ORG,
        other.customer_id,
    )
    command = await garage.command(conversation)
    await accept(line, command)
    assert await line.claim_once() == 1
    assert await garage.states(command) == ["accepted"]


async def test_a_template_goes_through_a_closed_window(line: Line, garage: Garage, sandbox: SandboxClient) -> None:
    await garage.template()
    await sandbox.template("car_ready", "en_GB", "Your {{1}} is ready.")
    command = await garage.command(await garage.conversation(wrote_ago=timedelta(days=3)), template="car_ready")
    await accept(line, command)
    assert await line.claim_once() == 1
    assert await garage.states(command) == ["accepted"]


async def test_a_marketing_template_needs_consent_to_marketing(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    await garage.template("offer", category="MARKETING")
    await accept(line, await garage.command(await kim(garage, sandbox), template="offer"))
    assert await line.claim_once() == 0
    assert [refusal["reason"] for refusal in await published.refusals()] == ["consent_off"]


async def test_a_template_that_meta_calls_paused_is_paused_here_too(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    await garage.template()
    command = await garage.command(await kim(garage, sandbox), template="car_ready")
    await sandbox.fault("meta", "fail", code=132015, calls=1)
    await accept(line, command)
    await line.claim_once()
    assert [refusal["reason"] for refusal in await published.refusals()] == ["template_not_approved"]
    assert [row["status"] for row in await garage.fetch("select status from templates where org_id = $1", ORG)] == [
        "PAUSED"
    ]

    await accept(line, again(command))
    assert await line.claim_once() == 0


async def test_an_answer_that_the_customer_stopped_marketing_is_a_consent(
    line: Line, garage: Garage, sandbox: SandboxClient
) -> None:
    await garage.template("summer", category="MARKETING")
    customer = await kim(garage, sandbox)
    await garage.execute(
        "insert into consents (org_id, customer_id, category, allowed, at) values ($1, $2, 'marketing', true, $3)",
        ORG,
        customer.customer_id,
        garage.now() - timedelta(days=9),
    )
    command = await garage.command(customer, template="summer")
    await sandbox.fault("meta", "fail", code=131050, calls=1)
    await accept(line, command)
    await line.claim_once()
    [consent] = await garage.fetch("select category, allowed, source, cause, published from consents")
    assert tuple(consent) == ("marketing", False, "whatsapp", "refusal", False)
    [trail] = await garage.fetch("select customer_id, action from audit_log where action = 'consent'")
    assert tuple(trail) == (customer.customer_id, "consent")


async def test_a_refusal_for_good_ends_the_message(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    await sandbox.fault("meta", "fail", code=131051, calls=1)
    await accept(line, command)
    await line.claim_once()
    [update] = await published.updates()
    assert (update["status"], update["reason"], update["provider_code"]) == ("failed", "provider_refused", "131051")
    assert (await garage.row(command))["published"] is True


async def test_a_customer_who_can_be_reached_no_more_ends_the_message(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    command = (await garage.command(await kim(garage, sandbox))).model_copy(update={"to": None})
    await accept(line, decode_command(a_record(command.encode())))
    assert await line.claim_once() == 0
    [update] = await published.updates()
    assert (update["message_id"], update["status"], update["reason"]) == (
        str(command.message_id),
        "failed",
        "provider_refused",
    )


async def test_a_message_that_waited_past_its_deadline_fails_unsent(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    conversation = await kim(garage, sandbox)
    first = await garage.command(conversation)
    behind = await garage.command(conversation, expires_in=timedelta(minutes=5))
    await sandbox.fault("meta", "throttle", code=131056, calls=1)
    await accept(line, first, behind)
    await line.claim_once()
    garage.now.forward(timedelta(minutes=5))
    await line.sweep_once()  # it never came to its turn: the sweeper ends it
    assert await garage.states(behind) == ["failed"]
    assert [(u["message_id"], u["reason"]) for u in await published.updates()] == [
        (str(behind.message_id), "intent_expired")
    ]


async def test_a_message_without_a_deadline_waits_for_a_day_at_most(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published
) -> None:
    command = await garage.command(await kim(garage, sandbox))
    await accept(line, command)
    garage.now.forward(timedelta(hours=24))
    assert await line.claim_once() == 0
    assert [update["reason"] for update in await published.updates()] == ["intent_expired"]


async def test_what_was_not_told_is_told_by_the_sweeper(
    line: Line, garage: Garage, sandbox: SandboxClient, published: Published, kafka_bootstrap: str
) -> None:
    failed = await garage.command(await kim(garage, sandbox))
    refused = await garage.command(await garage.conversation(wrote_ago=timedelta(days=2)))
    await sandbox.fault("meta", "fail", code=131051, calls=1)
    async with a_sender(garage, out_of_reach(kafka_bootstrap), sandbox.url) as mute:
        await accept(mute, failed, refused)
        await mute.claim_once()
    assert [(await garage.row(command))["published"] for command in (failed, refused)] == [False, False]

    await line.sweep_once()
    assert await published.updates() == []  # whoever settled them may be telling them still
    garage.now.forward(PUBLISH_LEASE)
    await line.sweep_once()
    await line.sweep_once()

    assert [update["message_id"] for update in await published.updates()] == [str(failed.message_id)]
    assert [refusal["intent_id"] for refusal in await published.refusals()] == [str(refused.message_id)]
    assert [(await garage.row(command))["published"] for command in (failed, refused)] == [True, True]
