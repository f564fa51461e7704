"""Where staff write by the inbox's API: one conversation of an organisation."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

import httpx

from tests.support import world
from tests.support.inbox import ADVISOR, RunningInbox


@dataclass
class Place:
    """An organisation with one conversation, and an advisor who works there."""

    org_id: str
    customer: UUID
    conversation: UUID
    number: str
    advisor: httpx.AsyncClient

    def path(self, what: str) -> str:
        return f"/v1/conversations/{self.conversation}/{what}"

    async def send(self, body: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.advisor.post(self.path("messages"), json=body, headers=headers)


async def a_place(inbox: RunningInbox, **org: Any) -> Place:
    org_id = await inbox.an_org(**org)
    customer, conversation = uuid4(), uuid4()
    async with inbox.pool.acquire() as db:
        number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org_id)
        await world.a_customer(db, org_id, customer, "+447700900999")
        await world.a_conversation(db, org_id, conversation, customer, number)
    return Place(org_id, customer, conversation, number, inbox.api(org_id, ADVISOR, "advisor-7"))
