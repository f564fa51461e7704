"""Every test finds the system as it was at the start, whichever tests came before it: they come in any order."""

from tests.support.system import SERVICES, System


async def test_no_test_finds_what_another_one_changed(system: System) -> None:
    rules = await system.sandbox.configure()
    await system.sandbox.configure(pace=1, retry_first=600, read_receipts=False, sms_trial=True, webhooks=False)
    await system.sandbox.hold_webhooks()
    await system.services["router"].stop()
    await system.start("router", RECONCILE_SECONDS="1")
    await system.services["sms-bridge"].stop()
    system.add("router", "router-2")
    await system.start("router-2")

    await system.mend()
    assert await system.sandbox.configure() == rules
    assert (await system.sandbox.outstanding())["flowing"]
    assert sorted(system.services) == sorted(SERVICES)
    for service in system.services.values():
        assert service.runs
        assert service.settings == system.env
