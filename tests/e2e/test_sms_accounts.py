"""Garages with SMS accounts of their own, through the whole system: each by its own, and none by another's."""

from tests.support.garages import LATE, a_garage, bridge_of
from tests.support.sandbox import VONAGE_KEY
from tests.support.system import System

KEYS = {"twilio": "AC" + "0" * 32, "vonage": VONAGE_KEY}


async def test_two_garages_bridge_by_two_providers_and_hear_of_it(system: System) -> None:
    for provider, account in KEYS.items():
        kim = await (await a_garage(system, sms_provider=provider)).customer_who_wrote(LATE)
        intent = await kim.is_sent("Your Golf is ready.")
        assert await system.fails(intent) == "window_expired_bridge_sent"
        await system.reaches(bridge_of(intent), "delivered")
        [sms] = [sms for sms in await system.sandbox.sms() if sms["message"]["to"] == kim.phone]
        assert sms["provider"] == provider
        taken = "select provider_account from sends where org_id = $1 and message_id = $2::uuid"
        assert await system.value(taken, kim.garage.org_id, intent) == account


async def test_a_refusal_inside_vonages_200_ends_the_bridge_and_marks_the_number(system: System) -> None:
    kim = await (await a_garage(system, sms_provider="vonage")).customer_who_wrote(LATE)
    await system.sandbox.sms_recipient(kim.phone, "opted_out")
    assert await system.fails(await kim.is_sent("The first.")) == "window_expired_bridge_failed"
    assert await system.fails(await kim.is_sent("The second.")) == "window_expired_no_phone"
    assert await kim.texts() == []


async def test_a_garage_with_an_account_that_nobody_configured_is_silent_and_sends_by_no_other(system: System) -> None:
    kim = await (await a_garage(system, sms_account="not-configured")).customer_who_wrote(LATE)
    assert await system.fails(await kim.is_sent("Your Golf is ready.")) == "window_expired_sms_unavailable"
    assert await kim.texts() == []


async def test_a_lost_answer_of_vonage_is_settled_by_its_receipt(system: System) -> None:
    kim = await (await a_garage(system, sms_provider="vonage")).customer_who_wrote(LATE)
    await system.sandbox.fault("vonage", "drop_answer", to=kim.phone, calls=1)
    intent = await kim.is_sent("Your Golf is ready.")
    assert await system.fails(intent) == "window_expired_bridge_sent"
    await system.reaches(bridge_of(intent), "delivered")
    assert len(await kim.texts()) == 1
    charged = "select concat_ws(' ', currency, estimated) from charges where org_id = $1 and message_id = $2::uuid"
    assert await system.value(charged, kim.garage.org_id, bridge_of(intent)) == "EUR f"
