"""A template's way: written in the inbox, reviewed by Meta, told by webhook, sent, and refused once it is gone."""

from typing import Any

import httpx
import pytest

from tests.support.garages import a_garage
from tests.support.inbox import KEY, a_token
from tests.support.system import System

TEXT = "Hi {{customer_name}}, we found more to do on your car."
NEW = {
    "name": "more_to_do",
    "language": "en_GB",
    "category": "UTILITY",
    "parameter_format": "NAMED",
    "components": [
        {
            "type": "BODY",
            "text": TEXT,
            "example": {"body_text_named_params": [{"param_name": "customer_name", "example": "Kim"}]},
        }
    ],
}
CONTENT = {"kind": "template", "name": "more_to_do", "language": "en_GB", "parameters": {"customer_name": "Kim"}}


@pytest.mark.timeout(240)
async def test_a_template_is_sent_from_metas_approval_until_meta_deletes_it(system: System) -> None:
    inbox = system.add("inbox", "inbox")
    await system.start("inbox", JWT_KEYS=KEY, INBOX_URL=inbox.url)
    garage = await a_garage(system)
    kim = await garage.customer_who_wrote()
    headers = {"authorization": f"Bearer {a_token(garage.org_id)}"}
    async with httpx.AsyncClient(base_url=inbox.url, headers=headers, timeout=20) as api:
        made = await api.post("/v1/templates", json=NEW)
        assert (made.status_code, made.json()["status"]) == (201, "PENDING")
        path = f"/v1/templates/{made.json()['template_id']}"

        async def has(status: str) -> bool:
            found: Any = (await api.get(path)).json()
            return bool(found["status"] == status)

        await system.until(lambda: has("APPROVED"), "Meta's approval arrives")
        sent = await kim.is_sent(actor="staff", content=CONTENT)
        assert await system.way(sent) == ("template", "whatsapp", "template_requested")
        await system.reaches(sent, "delivered")

        await system.sandbox.template_decided(garage.waba_id, "more_to_do", "en_GB", event="DELETED")
        await system.until(lambda: has("DELETED"), "Meta's deletion arrives")
        refused = await kim.is_sent(actor="staff", content=CONTENT)
        assert await system.way(refused) == ("rejected", None, "template_not_approved")
        words = [event["word"] for event in (await api.get(path)).json()["history"] if event["event"] == "status"]
        assert words == ["DELETED", "APPROVED", "PENDING"]
