"""What becomes of SMS that Twilio takes and then drops, does not take, or takes of nobody, each through the whole
system.
"""

from deploy.local.sandbox.client import SandboxClient
from tests.support.garages import LATE, Customer, a_garage, bridge_of
from tests.support.system import System


async def calls(sandbox: SandboxClient, to: Customer) -> int:
    """How many SMS Twilio was asked to send."""
    return sum(call["endpoint"] == "send" and call["to"] == to.phone for call in await sandbox.calls())


async def test_a_filtered_bridge_is_the_only_one_of_its_day_however_much_the_ai_says(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote(LATE)
    await system.sandbox.fault("twilio", "fail_async", code=30007, to=kim.phone)
    first = await kim.is_sent("The first sentence.")
    assert await system.fails(first) == "window_expired_bridge_sent"
    assert await system.fails(bridge_of(first)) == "provider_refused"
    for number in range(5):
        more = await kim.is_sent(f"Sentence {number}.")
        assert await system.fails(more) == "window_expired_bridge_already_sent"
    await system.quiet()
    assert await calls(system.sandbox, kim) == 1
    code = "select provider_code from messages where org_id = $1 and message_id = $2::uuid"
    assert await system.value(code, kim.garage.org_id, bridge_of(first)) == "30007"


async def test_a_landline_is_told_once_and_the_next_sentence_buys_no_call(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote(LATE)
    await system.sandbox.fault("twilio", "fail", code=21635, to=kim.phone)
    assert await system.fails(await kim.is_sent("The first.")) == "window_expired_bridge_failed"
    assert await system.fails(await kim.is_sent("The second.")) == "window_expired_no_phone"
    assert await calls(system.sandbox, kim) == 1


async def test_a_sender_that_is_not_ours_makes_messages_wait_until_it_is_mended(system: System) -> None:
    garage = await a_garage(system)
    kim, lou = await garage.customer_who_wrote(LATE), await garage.customer_who_wrote(LATE)
    await system.sandbox.fault("twilio", "fail", code=21660, number=garage.sms_number, calls=1)
    intents = [await kim.is_sent("For Kim."), await lou.is_sent("For Lou.")]
    for intent_id in intents:
        assert await system.fails(intent_id) == "window_expired_bridge_sent"
    assert [len(await customer.texts()) for customer in (kim, lou)] == [1, 1]


async def test_an_answer_that_was_lost_is_found_as_the_refusal_that_it_was(system: System) -> None:
    kim = await (await a_garage(system)).customer_who_wrote(LATE)
    await system.sandbox.sms_recipient(kim.phone, "opted_out")
    await system.sandbox.fault("twilio", "drop_answer", to=kim.phone, calls=1)
    first = await kim.is_sent("The first.")
    assert await system.fails(first) == "window_expired_bridge_failed"
    assert await system.fails(await kim.is_sent("The second.")) == "window_expired_sms_opted_out"
    consent = "select count(*) from consents where org_id = $1 and category = 'sms' and not allowed"
    assert await system.value(consent, kim.garage.org_id) == 1
    assert await system.value("select count(*) from charges where org_id = $1", kim.garage.org_id) == 0
    assert (await kim.texts(), await calls(system.sandbox, kim)) == ([], 1)


async def test_nobody_who_never_wrote_gets_an_sms(system: System) -> None:
    kim = (await a_garage(system)).customer()
    asked, guessed = await system.intend(kim.first_contact(channel="sms"), kim.first_contact())
    for intent_id in (asked, guessed):
        assert await system.fails(intent_id) == "window_expired_never_contacted"
    assert await calls(system.sandbox, kim) == 0
