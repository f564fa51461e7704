"""A colleague answers in the WhatsApp Business app, and the AI holds back."""

from tests.support.garages import a_garage
from tests.support.system import System


async def test_what_staff_write_on_the_phone_keeps_the_ai_from_answering_too(system: System) -> None:
    garage = await a_garage(system)
    kim = await garage.customer_who_wrote()
    answer = "It is ready, come by at five."
    system.private.add(answer)
    echoed = await system.sandbox.staff_writes(garage.phone_number_id, kim.phone, text=answer)
    told = await system.published.one("delivery.updates.v1", conversation_id=kim.conversation_id, author="phone_app")
    assert (told.event["status"], told.event["seq"]) == ("sent", 1)
    held = await system.published.one("directory.changes.v1", conversation_id=kim.conversation_id)
    assert (held.event["type"], held.event["user_id"]) == ("conversation.held.v1", "phone_app")

    by_ai, by_staff = await kim.is_sent("Your Golf is ready."), await kim.is_sent("See you.", actor="staff")
    assert await system.way(by_ai) == ("silent", None, "conversation_held")
    assert await system.fails(by_ai) == "conversation_held"
    await system.reaches(by_staff, "read")
    assert [sent["callback"].partition(":")[0] for sent in await kim.whatsapps()] == [by_staff]

    await system.sandbox.staff_writes(garage.phone_number_id, kim.phone, text=answer, wamid=echoed["wamid"])
    await system.quiet()
    assert [(way, status) for way, _, status, _ in await kim.thread()] == [
        ("in", "received"),
        ("out", "sent"),
        ("out", "failed"),
        ("out", "read"),
    ]
