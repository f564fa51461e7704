"""What Kafka lost on the way to the senders: it goes once, or it ends in time and is told."""

import asyncio
from datetime import timedelta

from libs.common.clock import utc_now
from libs.common.events.topics import OUTBOUND_SMS, OUTBOUND_WHATSAPP
from tests.support.garages import LATE, a_garage, bridge_of
from tests.support.system import System

SENDERS = ("whatsapp-sender", "sms-bridge")
SOON = {"RECONCILE_SECONDS": "1"}


async def test_commands_lost_while_the_senders_were_away_go_once_and_those_of_no_use_any_more_end_and_free_their_slot(
    system: System,
) -> None:
    garage = await a_garage(system)
    kim, lee, eve = await asyncio.gather(
        garage.customer_who_wrote(), garage.customer_who_wrote(LATE), garage.customer_who_wrote(LATE)
    )
    await asyncio.gather(*(system.services[name].stop() for name in (*SENDERS, "router")))
    await system.start("router")
    ends_at = (utc_now() + timedelta(seconds=20)).isoformat()
    session, bridged, of_no_use = await system.intend(kim.intent(), lee.intent(), eve.intent(expires_at=ends_at))
    assert [(await system.way(one))[0] for one in (session, bridged, of_no_use)] == ["session", "bridge", "bridge"]
    await system.lose(OUTBOUND_WHATSAPP.name, OUTBOUND_SMS.name)
    await system.services["router"].stop()
    await system.start("router", **SOON)
    assert await system.fails(of_no_use) == "intent_expired"
    slot = "select intent_id from bridge_slots where conversation_id = $1::uuid"
    assert await system.value(slot, eve.conversation_id) is None
    await system.start(*SENDERS)
    await system.reaches(session, "read")
    assert await system.fails(bridged) == "window_expired_bridge_sent"
    await system.reaches(bridge_of(bridged), "delivered")
    assert (await system.way(await eve.is_sent("Your Polo is ready.")))[0] == "bridge"
    await system.quiet()
    assert (len(await kim.whatsapps()), len(await lee.texts()), len(await eve.texts())) == (1, 1, 1)
    assert [line["intent_id"] for line in system.lines("router") if line["event"] == "send.published_again"]
