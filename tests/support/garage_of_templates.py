"""A garage that has its templates at the sandbox, and what one of them begins with."""

import asyncio
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.local.sandbox.client import SandboxClient
from tests.support.inbox import RunningInbox

BODY = {
    "type": "BODY",
    "text": "Hi {{name}}, your car is ready now.",
    "example": {"body_text_named_params": [{"param_name": "name", "example": "Kim"}]},
}
OTHER = {"type": "BODY", "text": "Your car is ready to be picked up."}
NEW = {
    "name": "car_ready",
    "language": "en_GB",
    "category": "UTILITY",
    "parameter_format": "NAMED",
    "components": [BODY],
}


@dataclass
class Garage:
    """An organisation with a WABA of its own that Meta knows."""

    inbox: RunningInbox
    sandbox: SandboxClient
    org_id: str
    waba_id: str
    api: httpx.AsyncClient

    async def create(self, **changes: Any) -> httpx.Response:
        return await self.api.post("/v1/templates", json=NEW | changes)

    async def item(self, template_id: str) -> Any:
        answer = await self.api.get(f"/v1/templates/{template_id}")
        assert answer.status_code == 200
        return answer.json()

    async def becomes(self, template_id: str, status: str, **fields: Any) -> Any:
        """After a sync that a person asks for; within the deadline of the test."""
        await self.execute(  # a run that is under way has to find its start again, or keeps its lease
            "update template_syncs set started_at = null where org_id = $1 and leased_until is null", self.org_id
        )
        assert (await self.api.post("/v1/templates/sync", json={})).status_code == 202
        while {name: (found := await self.item(template_id))[name] for name in {"status": status} | fields} != {  # noqa: ASYNC110 -- another task reads
            "status": status
        } | fields:
            await asyncio.sleep(0.05)
        return found

    async def at_meta(self) -> list[dict[str, Any]]:
        calls = await self.sandbox.template_calls()
        return [call for call in calls if call["endpoint"] != "list" and call["node"] == self.waba_id]

    async def execute(self, statement: str, *args: Any) -> None:
        async with self.inbox.pool.acquire() as db:
            await db.execute(statement, *args)

    async def fetch(self, statement: str) -> list[tuple[Any, ...]]:
        async with self.inbox.pool.acquire() as db:
            return [tuple(row) for row in await db.fetch(statement, self.org_id)]
