"""One garage in the database: its organisation, number, customers, conversations and templates, stored as the directory
stores them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory import templates
from libs.common.directory.changes import apply
from libs.common.directory.templates import Template
from libs.common.events.directory import (
    ConsentCategory,
    ConsentChanged,
    CustomerUpserted,
    DirectoryChange,
    NumberUpserted,
    OrgCredit,
    OrgUpserted,
)
from libs.common.thread import conversations
from libs.common.thread.conversations import ConversationAddress

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


async def change(db: Connection, *changes: DirectoryChange) -> None:
    """Apply changes of the directory, none of which is refused."""
    async with db.transaction():
        assert await apply(db, changes) == []


async def an_org(
    db: Connection,
    org_id: str,
    number: str,
    *,
    waba: str = "206400000000001",
    sms_number: str | None = "+447700900001",
    credit_exhausted: bool | None = None,
    display_number: str = "+447700900123",
    **fields: Any,
) -> None:
    """An organisation with one number. ``fields`` are further ones of ``OrgUpserted``.

    The first one has the portal host of its own; a host belongs to one organisation.
    """
    taken = await db.fetchval(
        "select exists (select from orgs where portal_host = 'tflow.link' and org_id <> $1)", org_id
    )
    org = {"name": "AcmeMotors", "sms_active": True, "portal_host": None if taken else "tflow.link"} | fields
    await change(
        db,
        OrgUpserted(org_id=org_id, at=LONG_AGO, sms_number=sms_number, **org),
    )
    await a_number(db, org_id, number, waba=waba, display_number=display_number)
    if credit_exhausted is not None:
        await change(db, OrgCredit(org_id=org_id, at=LONG_AGO, exhausted=credit_exhausted))


async def a_number(db: Connection, org_id: str, number: str, *, waba: str, display_number: str) -> None:
    """A further number of the organisation."""
    await change(
        db,
        NumberUpserted(org_id=org_id, at=LONG_AGO, phone_number_id=number, waba_id=waba, display_number=display_number),
    )


async def a_customer(
    db: Connection,
    org_id: str,
    customer_id: UUID,
    phone: str | None,
    consents: Mapping[ConsentCategory, bool] | None = None,
) -> None:
    """A customer of the directory."""
    await change(
        db,
        CustomerUpserted(org_id=org_id, at=LONG_AGO, customer_id=customer_id, phone=phone),
        *(
            ConsentChanged(org_id=org_id, at=LONG_AGO, customer_id=customer_id, category=category, allowed=allowed)
            for category, allowed in (consents or {}).items()
        ),
    )


async def a_conversation(
    db: Connection, org_id: str, conversation_id: UUID, customer_id: UUID, number: str, **columns: Any
) -> None:
    """A conversation under an id of the test's own. ``columns`` say how far it has come."""
    await conversations.ensure(db, [ConversationAddress(org_id, customer_id, number)])
    values = {"conversation_id": conversation_id} | columns
    assigned = ", ".join(f"{column} = ${place}" for place, column in enumerate(values, 4))
    await db.execute(
        f"update conversations set {assigned} where org_id = $1 and customer_id = $2 and phone_number_id = $3",
        *(org_id, customer_id, number, *values.values()),
    )


async def a_template(db: Connection, org_id: str, waba: str, **fields: Any) -> None:
    """A template of the organisation, approved by default."""
    template = {
        "name": "car_ready",
        "language": "en_GB",
        "category": "UTILITY",
        "parameter_format": "POSITIONAL",
        "status": "APPROVED",
        "body": "Your {{1}} is ready.",
        "header": None,
        "buttons": None,
        "now": LONG_AGO,
    } | fields
    await templates.upsert(db, [Template(org_id=org_id, waba_id=waba, **template)])
