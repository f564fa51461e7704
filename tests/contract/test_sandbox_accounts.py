"""What the sandbox says about tokens, accounts and numbers has the shape of the providers' own answers.

https://developers.facebook.com/documentation/business-messaging/whatsapp (debug_token, subscribed_apps, phone_numbers),
https://www.twilio.com/docs (accounts, incoming phone numbers), https://developer.vonage.com/api/account.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from tests.support.sandbox import (
    APP_SECRET,
    GRAPH_TOKEN,
    NUMBER_ID,
    TWILIO_SID,
    TWILIO_TOKEN,
    VONAGE_KEY,
    VONAGE_SECRET,
)

WABA = "206400000000001"


class Asker:
    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url, self._http = url, http

    async def graph(self, path: str, token: str | None = GRAPH_TOKEN, **query: str) -> tuple[int, Any]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return await self._get(f"/v26.0/{path}", headers, query)

    async def basic(self, path: str, user: str, password: str, **query: str) -> tuple[int, Any]:
        return await self._get(path, {"Authorization": aiohttp.encode_basic_auth(user, password)}, query)

    async def _get(self, path: str, headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[int, Any]:
        async with self._http.get(f"{self._url}{path}", headers=headers, params=query) as answer:
            return answer.status, await answer.json()


@pytest_asyncio.fixture
async def asker(sandbox: SandboxClient) -> AsyncIterator[Asker]:
    await sandbox.configure(webhook_url="https://hooks.example/webhooks/meta", sms_url="https://hooks.example/sms")
    await sandbox.number(NUMBER_ID, waba_id=WABA)
    async with aiohttp.ClientSession() as http:
        yield Asker(sandbox.url, http)


async def test_a_token_is_described(asker: Asker) -> None:
    status, body = await asker.graph("debug_token", input_token=GRAPH_TOKEN)
    assert status == 200
    data = body["data"]
    assert (data["is_valid"], data["type"], data["expires_at"]) == (True, "SYSTEM_USER", 0)
    assert {"scope": "whatsapp_business_messaging", "target_ids": [WABA]} in data["granular_scopes"]
    status, body = await asker.graph("debug_token", input_token="another")
    assert (status, body["data"]["is_valid"], body["data"]["scopes"]) == (200, False, [])
    status, body = await asker.graph("debug_token", token="another", input_token=GRAPH_TOKEN)
    assert (status, body["error"]["code"]) == (401, 190)
    status, body = await asker.graph("debug_token", token=None, input_token=GRAPH_TOKEN)
    assert body["error"]["code"] == 104


async def test_an_account_names_the_apps_that_it_sends_webhooks_to(asker: Asker, sandbox: SandboxClient) -> None:
    status, body = await asker.graph(f"{WABA}/subscribed_apps")
    (app,) = [one["whatsapp_business_api_data"] for one in body["data"]]
    assert (status, set(app)) == (200, {"id", "link", "name"})
    await sandbox.meta_app(unsubscribed_accounts=[WABA])
    assert await asker.graph(f"{WABA}/subscribed_apps") == (200, {"data": []})
    status, body = await asker.graph("206499999999999/subscribed_apps")
    assert (status, body["error"]["code"], body["error"]["error_subcode"]) == (400, 100, 33)


async def test_an_app_shows_its_webhooks_to_its_own_token_alone(asker: Asker) -> None:
    _, body = await asker.graph("debug_token", input_token=GRAPH_TOKEN)
    app_id = body["data"]["app_id"]
    status, body = await asker.graph(f"{app_id}/subscriptions", token=f"{app_id}|{APP_SECRET}")
    (one,) = body["data"]
    assert (status, one["object"], one["active"]) == (200, "whatsapp_business_account", True)
    assert one["callback_url"] == "https://hooks.example/webhooks/meta"
    assert {"name": "messages", "version": "v26.0"} in one["fields"]
    for token in (GRAPH_TOKEN, f"{app_id}|other"):
        status, body = await asker.graph(f"{app_id}/subscriptions", token=token)
        assert (status, body["error"]["code"]) == (401, 190)


async def test_an_account_lists_its_numbers_with_the_fields_that_are_asked_for(asker: Asker) -> None:
    status, body = await asker.graph(f"{WABA}/phone_numbers", fields="status,webhook_configuration")
    assert (status, body["data"]) == (
        200,
        [
            {
                "id": NUMBER_ID,
                "status": "CONNECTED",
                "webhook_configuration": {"application": "https://hooks.example/webhooks/meta"},
            }
        ],
    )
    _, usual = await asker.graph(NUMBER_ID)
    assert {"verified_name", "display_phone_number", "quality_rating", "id"} <= set(usual)


async def test_a_token_without_the_permission_sees_no_account(asker: Asker, sandbox: SandboxClient) -> None:
    await sandbox.meta_app(scopes=["whatsapp_business_messaging"])
    status, body = await asker.graph(f"{WABA}/phone_numbers")
    assert (status, body["error"]["code"]) == (403, 200)


async def test_templates_are_counted_where_that_is_asked_for(asker: Asker, sandbox: SandboxClient) -> None:
    await sandbox.template("hello", "en_GB", "Hi", waba_id=WABA)
    asked = {"limit": "1", "summary": "message_template_count,message_template_limit"}
    _, body = await asker.graph(f"{WABA}/message_templates", **asked)
    assert body["summary"] == {"message_template_count": 1, "message_template_limit": 250}


async def test_twilio_describes_account_number_and_service(asker: Asker, sandbox: SandboxClient) -> None:
    at = f"/2010-04-01/Accounts/{TWILIO_SID}"
    _, account = await asker.basic(f"{at}.json", TWILIO_SID, TWILIO_TOKEN)
    assert (account["status"], account["type"]) == ("active", "Full")
    _, page = await asker.basic(
        f"{at}/IncomingPhoneNumbers.json", TWILIO_SID, TWILIO_TOKEN, PhoneNumber="+447700900001"
    )
    (number,) = page["incoming_phone_numbers"]
    assert (number["phone_number"], number["sms_url"]) == ("+447700900001", "https://hooks.example/sms")
    await sandbox.sms_number("+447700900001", exists=False)
    _, page = await asker.basic(
        f"{at}/IncomingPhoneNumbers.json", TWILIO_SID, TWILIO_TOKEN, PhoneNumber="+447700900001"
    )
    assert page["incoming_phone_numbers"] == []
    _, service = await asker.basic("/v1/Services/MG1", TWILIO_SID, TWILIO_TOKEN)
    assert service["use_inbound_webhook_on_number"] is True
    status, body = await asker.basic(f"{at}.json", TWILIO_SID, "wrong")
    assert (status, body["code"]) == (401, 20003)


async def test_vonage_describes_balance_and_number(asker: Asker) -> None:
    _, body = await asker.basic("/account/get-balance", VONAGE_KEY, VONAGE_SECRET)
    assert body == {"value": 15.5, "autoReload": False}
    _, body = await asker.basic("/account/numbers", VONAGE_KEY, VONAGE_SECRET, pattern="447700900001")
    assert (body["count"], body["numbers"][0]["msisdn"]) == (1, "447700900001")
    status, body = await asker.basic("/account/get-balance", VONAGE_KEY, "wrong")
    assert (status, body["error-code"]) == (401, "401")
