"""A garage of the test's own in a running inbox, and the conversations that its API lists."""

from typing import Any
from uuid import UUID

import httpx

from tests.support.inbox import RunningInbox
from tests.support.inbox_world import InboxWorld


async def a_garage(inbox: RunningInbox) -> InboxWorld:
    """An organisation without customers, whose time is that of the inbox."""
    org = await inbox.an_org()
    async with inbox.pool.acquire() as db:
        number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org)
    return InboxWorld(inbox.pool, org, number, inbox.pool.now())


async def conversations_of(client: httpx.AsyncClient, **query: Any) -> list[UUID]:
    """The conversations of all pages of a list."""
    found, cursor = list[UUID](), None
    while True:
        answer = await client.get("/v1/conversations", params=query | ({"cursor": cursor} if cursor else {}))
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += [UUID(item["conversation_id"]) for item in page["items"]]
        if (cursor := page["next"]) is None:
            return found
