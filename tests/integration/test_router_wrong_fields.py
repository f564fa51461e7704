"""The decision on a faulty intent and its log line name the fields that are wrong, and never their values."""

from typing import Any
from uuid import uuid4

import pytest

from tests.support.logs import LogLines
from tests.support.router import FALLBACK, Garage, Router, stored

pytestmark = pytest.mark.usefixtures("log_lines")


async def test_a_bad_intent_is_told_in_the_log_with_its_fields_and_never_with_their_values(
    router: Router, log_lines: LogLines
) -> None:
    garage = await stored(router, Garage())
    await router.decide(garage.intent(content={"kind": "text", "text": "private " * 600}))
    [line] = log_lines.of("intent.decided")
    assert (line["reason"], "content.text" in line["detail"]) == ("invalid_intent", True)
    assert "private" not in log_lines.raw


REPLIES = {"buttons": [{"type": "reply", "reply": {"id": "1", "title": "Yes"}}]}


def interactive(kind: str, action: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "kind": "interactive",
        "interactive": {"type": kind, "body": {"text": "private"}, "action": action, **more},
    }


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (
            {"kind": "audio", "media_id": "77", "caption": "private: hear the noise"},
            "content.caption: not_shown",
        ),
        (
            {"kind": "contacts", "contacts": [{"name": {"first_name": "private"}, "phones": [{"phone": "+4477"}]}]},
            "content.contacts.0.name.formatted_name: missing",
        ),
        ({"kind": "document", "link": "https:///private.pdf"}, "content.link: format"),
        ({"kind": "image", "link": "https://private.example:99999/golf.jpg"}, "content.link: format"),
        ({"kind": "video", "link": "https://private.example/a\x07b.mp4"}, "content.link: format"),
        (
            interactive("cta_url", {"parameters": {"display_text": "See", "url": "https://private.example /a"}}),
            "content.interactive.action.parameters.url: format",
        ),
        (
            interactive("button", REPLIES, header={"type": "image", "image": {"link": "https:///private.jpg"}}),
            "content.interactive.header.image.link: format",
        ),
    ],
)
async def test_what_meta_would_refuse_or_leave_out_is_rejected_by_its_field(
    router: Router, log_lines: LogLines, content: dict[str, Any], detail: str
) -> None:
    garage = await stored(router, Garage())
    intent = garage.intent(content=content)
    published = await router.decide(intent)
    [decision] = published["outbound.decisions.v1"]
    assert (decision["route"], decision["reason"], decision["detail"]) == ("rejected", "invalid_intent", detail)
    assert (await router.decide(intent))["outbound.decisions.v1"] == [decision]
    assert not published["outbound.whatsapp.v1"]
    assert (await router.message(intent))["content"] == content
    first, again = log_lines.of("intent.decided")
    assert first["detail"] == again["detail"] == detail
    assert "private" not in log_lines.raw


async def test_an_intent_that_is_wrong_beside_its_content_names_what_is_wrong(router: Router) -> None:
    garage = await stored(router, Garage())
    for intent, detail in (
        (garage.first_contact("07700 900555"), "to.phone: format"),
        (garage.intent(reply_to=str(uuid4())), "reply_to: unknown"),
        (garage.intent(content={"kind": "text", "text": "  "}), r"content.text: String should match pattern '\S'"),
        (garage.intent(to={}), "to.phone_number_id: Field required; to.phone: Field required"),
        (
            garage.intent(to={"phone_number_id": garage.number, "phone": "+447700900555"}),
            "value: exactly one of conversation_id and to is needed",
        ),
    ):
        [decision] = (await router.decide(intent))["outbound.decisions.v1"]
        assert (decision["route"], decision["reason"], decision["detail"]) == ("rejected", "invalid_intent", detail)


@pytest.mark.parametrize(
    ("fallback", "detail"),
    [
        (FALLBACK | {"parameters": {}}, "fallback_template.parameters.customer_name: missing"),
        (
            FALLBACK | {"parameters": {"customer_name": "private\nprivate", "private": "private"}},
            "fallback_template.parameters.customer_name: layout; fallback_template.parameters: unexpected",
        ),
        (FALLBACK | {"name": "car_raedy"}, "fallback_template: template_not_approved"),
    ],
)
async def test_a_producer_is_told_why_the_fallback_was_not_sent(
    router: Router, log_lines: LogLines, fallback: dict[str, Any], detail: str
) -> None:
    garage = await stored(router, Garage.closed())
    async with router.pool.acquire() as db:
        await garage.store_template(db)
    intent = garage.intent(fallback_template=fallback)
    [decision] = (await router.decide(intent))["outbound.decisions.v1"]
    assert (decision["route"], decision["reason"], decision["detail"]) == ("bridge", "window_expired", detail)
    assert (await router.decide(intent))["outbound.decisions.v1"] == [decision]
    [silent] = (await router.decide(garage.intent(fallback_template=fallback)))["outbound.decisions.v1"]
    assert (silent["reason"], silent["detail"]) == ("bridge_already_sent", detail)
    assert [line["detail"] for line in log_lines.of("intent.decided")] == [detail] * 3


async def test_a_bridge_beside_no_fallback_or_one_that_meta_refused_has_no_detail(router: Router) -> None:
    garage = await stored(router, Garage.closed())
    async with router.pool.acquire() as db:
        await garage.store_template(db)
    [decision] = (await router.decide(garage.intent()))["outbound.decisions.v1"]
    assert (decision["route"], "detail" in decision) == ("bridge", False)
    used = garage.intent(fallback_template=FALLBACK)
    [template] = (await router.decide(used))["outbound.decisions.v1"]
    assert (template["route"], "detail" in template) == ("template", False)
    [after] = (await router.refuse(garage.refusal(used, reason="template_refused")))["outbound.decisions.v1"]
    assert (after["attempt"], after["route"], "detail" in after) == (2, "silent", False)
