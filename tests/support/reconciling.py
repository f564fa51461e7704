"""What got lost after a decision, and rounds of the reconciler, in a world that stands still."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from libs.common.sending import queries as sends
from libs.common.sending.rows import NewSend
from services.router.reconcile import Reconciler
from tests.support.published import Events
from tests.support.router import DAY, NOW, Garage, Router

AFTER = timedelta(seconds=60)
HOUR = timedelta(hours=1)


async def reconciled(router: Router, after: timedelta) -> Events:
    """What a round publishes that begins so long after NOW."""
    await reconcile(router, NOW + after)
    return await router.published.new()


async def reconcile(router: Router, at: datetime, after: timedelta = AFTER) -> None:
    """All tasks of a round, one after the other. What is as old as ``after`` counts as lost."""
    for _period, task in Reconciler(router.at(at).deps, after).tasks.values():
        await task()


async def lost(router: Router, garage: Garage, **changes: Any) -> tuple[dict[str, Any], Events]:
    """A decided intent whose command no sender ever reads. Returns the intent and what was published of it."""
    intent = garage.intent(**changes)
    return intent, await router.decide(intent)


async def arrives(router: Router, command: Mapping[str, Any], at: datetime = NOW) -> None:
    """The command becomes a row, as with its sender."""
    new = NewSend(
        org_id=command["org_id"],
        message_id=UUID(command["message_id"]),
        attempt=command["attempt"],
        conversation_id=UUID(command["conversation_id"]),
        sequence=command["sequence"],
        account=command.get("phone_number_id") or command["from_number"],
        command=dict(command),
        expires_at=None,
    )
    async with router.pool.acquire() as db:
        await sends.store(db, "sms" if "from_number" in command else "whatsapp", [new], at, at + DAY)


async def send_states(router: Router) -> list[str]:
    return [row["state"] for row in await router.rows("select state from sends")]


def nothing(published: Events) -> bool:
    return not any(published.values())
