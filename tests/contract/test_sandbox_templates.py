"""The sandbox keeps templates as Meta does: pages, refusals with a sentence for people, reviews, webhooks."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import pytest_asyncio

from deploy.local.sandbox.client import SandboxClient
from tests.support.sandbox import CUSTOMER, GRAPH_TOKEN, NUMBER_ID, HookInbox, ProviderCaller

WABA = "206400000000001"
GOOD = {
    "name": "car_ready",
    "language": "en_GB",
    "category": "UTILITY",
    "parameter_format": "POSITIONAL",
    "components": [
        {"type": "BODY", "text": "Hi {{1}}, your car is ready now.", "example": {"body_text": [["Kim"]]}},
        {"type": "BUTTONS", "buttons": [{"type": "QUICK_REPLY", "text": "Thanks"}]},
    ],
}


class Meta:
    """Calls the Graph API of the sandbox."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url, self._http = f"{url}/v26.0", http

    async def __call__(
        self, method: str, path: str, body: Any = None, token: str = GRAPH_TOKEN, **query: str
    ) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self._http.request(
            method, f"{self._url}/{path}", json=body, params=query, headers=headers
        ) as answer:
            return answer.status, await answer.json()


@pytest_asyncio.fixture
async def meta(sandbox: SandboxClient, sandbox_url: str, hook_inbox: HookInbox) -> AsyncIterator[Meta]:
    await sandbox.configure(webhook_url=hook_inbox.url, template_review_after=0.0, repeat=0.0, batch=0.0)
    await sandbox.number(NUMBER_ID, waba_id=WABA, display_number="+447700900123")
    async with aiohttp.ClientSession() as http:
        yield Meta(sandbox_url, http)


async def told(sandbox: SandboxClient) -> list[Any]:
    await sandbox.settled()
    bodies = [one["body"] for one in await sandbox.webhooks()]
    return [
        (entry["id"], change["field"], change["value"])
        for one in bodies
        for entry in one["entry"]
        for change in entry["changes"]
    ]


async def test_a_list_goes_on_by_its_cursor_and_ends(meta: Meta, sandbox: SandboxClient) -> None:
    for number in range(5):
        await sandbox.template(f"template_{number}", "en_GB", "Hi.", waba_id=WABA)
    await sandbox.template("of_another_account", "en_GB", "Hi.", waba_id="206400000000002")
    names: list[str] = []
    query = {"limit": "2"}
    while True:
        status, page = await meta("GET", f"{WABA}/message_templates", None, **query)
        assert status == 200
        names += [one["name"] for one in page["data"]]
        if "next" not in page["paging"]:
            break
        query["after"] = page["paging"]["cursors"]["after"]
    assert names == [f"template_{number}" for number in range(5)]


@pytest.mark.parametrize(("token", "account", "code"), [("wrong", WABA, 190), (GRAPH_TOKEN, "206400000000009", 100)])
async def test_an_account_answers_its_own_tokens_alone(meta: Meta, token: str, account: str, code: int) -> None:
    status, answer = await meta("GET", f"{account}/message_templates", None, token)
    assert (status >= 400, answer["error"]["code"]) == (True, code)


async def test_a_good_template_is_reviewed_and_told(meta: Meta, sandbox: SandboxClient) -> None:
    status, made = await meta("POST", f"{WABA}/message_templates", GOOD)
    assert (status, made["status"]) == (200, "PENDING")
    [(account, field, value)] = await told(sandbox)
    assert (account, field) == (WABA, "message_template_status_update")
    assert (value["event"], value["message_template_id"]) == ("APPROVED", int(made["id"]))
    _, page = await meta("GET", f"{WABA}/message_templates", None, fields="name,status,components")
    [shown] = page["data"]
    assert (shown["status"], shown["components"]) == ("APPROVED", GOOD["components"])


async def test_what_is_approved_may_be_sent_from_then_on(
    meta: Meta, sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    await sandbox.configure(template_review="hold")
    await meta("POST", f"{WABA}/message_templates", GOOD)
    named = {"name": "car_ready", "language": {"code": "en_GB"}}
    body = {"type": "body", "parameters": [{"type": "text", "text": "Kim"}]}
    template = {**named, "components": [body]}
    ask = {"messaging_product": "whatsapp", "to": CUSTOMER, "type": "template", "template": template}
    status, answer = await providers.graph(ask)
    assert (status, answer["error"]["code"]) == (404, 132001)
    await sandbox.configure(template_review="auto")
    _, page = await meta("GET", f"{WABA}/message_templates", None)
    await meta("POST", page["data"][0]["id"], {"components": GOOD["components"]})  # in review: it stays
    await sandbox.template_decided(WABA, "car_ready", "en_GB", event="REJECTED")
    await meta("POST", page["data"][0]["id"], {"components": GOOD["components"]})
    status, _ = await providers.graph(ask)
    assert status == 200


async def test_a_promotion_that_calls_itself_utility_is_rejected_with_a_reason_and_can_be_edited(
    meta: Meta, sandbox: SandboxClient
) -> None:
    body = {"type": "BODY", "text": "A discount waits for you."}
    _, made = await meta("POST", f"{WABA}/message_templates", GOOD | {"components": [body]})
    [(_, _, value)] = await told(sandbox)
    assert (value["event"], value["reason"]) == ("REJECTED", "TAG_CONTENT_MISMATCH")
    status, _ = await meta("POST", made["id"], {"components": GOOD["components"]})
    assert status == 200
    assert [value["event"] for _, _, value in await told(sandbox)] == ["REJECTED", "APPROVED"]


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({"components": [{"type": "BODY", "text": "{{1}} is ready.", "example": {"body_text": [["Golf"]]}}]}, 2388299),
    ({"components": [{"type": "BODY", "text": "Ready: {{1}} ", "example": {"body_text": [["Golf"]]}}]}, 2388299),
    ({"components": [{"type": "BODY", "text": "Hi {{1}}, your car is ready now."}]}, 2388043),
    ({"components": [{"type": "BODY", "text": "x" * 1025}]}, 2388040),
    ({"components": [{"type": "BODY", "text": "a {{1}} b {{2}} c", "example": {"body_text": [["1", "2"]]}}]}, 2388293),
    ({"name": "Car Ready"}, 2388019),
]


@pytest.mark.parametrize(("change", "subcode"), REFUSED)
async def test_what_meta_does_not_take_is_refused_with_a_sentence(
    meta: Meta, change: dict[str, Any], subcode: int
) -> None:
    status, answer = await meta("POST", f"{WABA}/message_templates", GOOD | change)
    assert (status, answer["error"]["error_subcode"]) == (400, subcode)
    assert answer["error"]["error_user_msg"]


async def test_a_name_is_taken_once_and_rests_after_its_deletion(meta: Meta, sandbox: SandboxClient) -> None:
    _, made = await meta("POST", f"{WABA}/message_templates", GOOD)
    _, again = await meta("POST", f"{WABA}/message_templates", GOOD)
    assert again["error"]["error_subcode"] == 2388024
    status, _ = await meta("DELETE", f"{WABA}/message_templates", None, name="car_ready", hsm_id=made["id"])
    assert status == 200
    _, after = await meta("POST", f"{WABA}/message_templates", GOOD)
    assert after["error"]["error_subcode"] == 2388023


async def test_meta_decides_by_itself_and_tells_status_quality_category_and_components(
    meta: Meta, sandbox: SandboxClient
) -> None:
    await sandbox.template("car_ready", "en_GB", "Hi.", waba_id=WABA)
    await sandbox.template_decided(
        WABA, "car_ready", "en_GB", event="PAUSED", reason="FIRST_PAUSE", quality="RED", category="MARKETING"
    )
    await sandbox.template_decided(WABA, "car_ready", "en_GB", components=[{"type": "BODY", "text": "New."}])
    assert {field for _, field, _ in await told(sandbox)} == {
        "message_template_status_update",
        "message_template_quality_update",
        "template_category_update",
        "message_template_components_update",
    }
    _, page = await meta("GET", f"{WABA}/message_templates", None, fields="status,category,quality_score,components")
    [shown] = page["data"]
    assert (shown["status"], shown["category"], shown["quality_score"]["score"]) == ("PAUSED", "MARKETING", "RED")
    assert shown["components"] == [{"type": "BODY", "text": "New."}]
