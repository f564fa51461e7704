"""Intents that quote a message of the thread, and templates that are sent for a purpose, on the real servers."""

from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest

from libs.common.directory.merge import Merge, merge_customers
from services.router.decide import decide
from services.router.recorded_decision import unpack
from tests.support.logs import LogLines
from tests.support.router import FALLBACK, NOW, TEMPLATE, Garage, Router, stored

pytestmark = pytest.mark.usefixtures("log_lines")

_INBOUND = """
insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account, provider_id, kind,
                      content, status, occurred_at, received_at)
values ($1, $2, $3, 'in', $4, $5, $6, $7, 'text', '{}', 'received', $8, $8)
"""


async def a_message_of(
    router: Router, garage: Garage, *, channel: str = "whatsapp", account: str | None = None
) -> UUID:
    """What the customer wrote, by WhatsApp or by SMS."""
    message_id, provider = uuid4(), {"whatsapp": "meta", "sms": "twilio"}[channel]
    await router.rows(
        _INBOUND,
        *(garage.org_id, message_id, garage.conversation_id, channel, provider, account or garage.number),
        *(f"wamid.{message_id}", NOW),
    )
    return message_id


async def test_what_quotes_a_customers_message_names_it_to_meta_by_metas_id(router: Router) -> None:
    garage = await stored(router, Garage())
    quoted = await a_message_of(router, garage)
    intent = garage.intent(reply_to=str(quoted))
    [command] = (await router.decide(intent))["outbound.whatsapp.v1"]
    assert command["quotes"] == f"wamid.{quoted}"
    assert (await router.message(intent))["reply_to"] == str(quoted)
    [row] = await router.rows("select route, reason, record from decisions")
    decision = decide(*unpack(row["record"]))
    assert (decision.route, decision.reason) == (row["route"], row["reason"])


async def test_what_quotes_a_message_of_ours_names_the_id_of_its_latest_attempt(router: Router) -> None:
    garage = await stored(router, Garage())
    first = garage.intent()
    await router.decide(first)
    for attempt in (1, 2):
        await router.rows(
            "insert into provider_ids (channel, provider, account, provider_id, org_id, message_id, send_id, attempt,"
            " recorded_at) values ('whatsapp', 'meta', $1, $2, $3, $4, $4, $5, $6)",
            *(garage.number, f"wamid.ours.{attempt}", garage.org_id, UUID(first["intent_id"]), attempt, NOW),
        )
    [command] = (await router.decide(garage.intent(reply_to=first["intent_id"])))["outbound.whatsapp.v1"]
    assert command["quotes"] == "wamid.ours.2"


async def test_a_message_that_meta_does_not_know_is_quoted_in_the_thread_alone(router: Router) -> None:
    garage = await stored(router, Garage())
    by_sms = await a_message_of(router, garage, channel="sms")
    of_another_number = await a_message_of(router, garage, account="106400000000999")
    intents = [garage.intent(reply_to=str(one)) for one in (by_sms, of_another_number)]
    published = await router.decide(*intents)
    assert [command["quotes"] for command in published["outbound.whatsapp.v1"]] == [None, None]
    assert [(await router.message(one))["reply_to"] for one in intents] == [str(by_sms), str(of_another_number)]


async def test_what_quotes_no_message_of_the_thread_is_an_invalid_intent(router: Router) -> None:
    garage = await stored(router, Garage())
    other = await stored(router, Garage(phone="+447700900998"))
    neighbour = await stored(router, Garage(org_id=garage.org_id, number=garage.number, phone="+447700900997"))
    asked = [uuid4(), await a_message_of(router, other), await a_message_of(router, neighbour)]
    intents = [garage.intent(reply_to=str(one)) for one in asked]
    intents.append(garage.first_contact(reply_to=str(asked[1])))
    published = await router.decide(*intents, garage.intent(reply_to="yesterday"))
    assert {(d["route"], d["reason"]) for d in published["outbound.decisions.v1"]} == {("rejected", "invalid_intent")}
    assert [(await router.message(one))["reply_to"] for one in intents] == [None] * 4


async def test_a_message_of_a_merged_thread_is_quoted_before_and_after_its_rows_have_moved(router: Router) -> None:
    loser = await stored(router, Garage())
    quoted = await a_message_of(router, loser)
    winner = await stored(router, Garage(org_id=loser.org_id, number=loser.number, phone="+447700900111"))
    async with router.pool.acquire() as db, db.transaction():
        await merge_customers(db, [Merge(loser.org_id, loser.customer_id, winner.customer_id)])
    intents = [winner.intent(reply_to=str(quoted)), loser.intent(reply_to=str(quoted))]
    published = await router.decide(*intents)
    assert [command["quotes"] for command in published["outbound.whatsapp.v1"]] == [f"wamid.{quoted}"] * 2


OFF: list[tuple[str, dict[str, bool]]] = [
    ("transactional", {"transactional": False}),
    ("service_reminders", {"service_reminders": False}),
    ("marketing", {}),
]


@pytest.mark.parametrize(("purpose", "consents"), OFF)
async def test_a_template_is_held_against_the_consent_of_its_purpose(
    router: Router, purpose: str, consents: dict[Any, bool]
) -> None:
    garage = await stored(router, Garage.closed(consents=consents))
    async with router.pool.acquire() as db:
        await garage.store_template(db)
    others = [one for one in ("transactional", "service_reminders") if one != purpose]
    published = await router.decide(
        garage.intent(content=TEMPLATE, purpose=purpose),
        *(garage.intent(content=TEMPLATE, purpose=one) for one in (None, *others)),
        garage.intent(fallback_template=FALLBACK, purpose=purpose),
        garage.intent(content=TEMPLATE, purpose="fun"),
    )
    rejected, *sent, bridged, bad = published["outbound.decisions.v1"]
    assert (rejected["route"], rejected["reason"]) == ("rejected", f"{purpose}_consent_off")
    assert {one["route"] for one in sent} == {"template"}
    assert (bridged["route"], bad["reason"]) == ("bridge", "invalid_intent")
    assert [command["purpose"] for command in published["outbound.whatsapp.v1"]] == [None, *others]


async def test_a_template_needs_the_values_of_its_header_and_of_its_buttons_and_the_log_names_them(
    router: Router, log_lines: LogLines
) -> None:
    garage = await stored(router, Garage())
    header = {"type": "HEADER", "format": "IMAGE"}
    buttons = [{"type": "URL", "text": "Track", "url": "https://acme.example/{{1}}"}]
    async with router.pool.acquire() as db:
        await garage.store_template(db, header=header, buttons=buttons)
    picture = {"header": {"type": "image", "image": {"link": "https://acme.example/golf.jpg"}}}
    suffix = {"buttons": [{"sub_type": "url", "index": "0", "parameters": [{"type": "text", "text": "a7"}]}]}
    wholes = [TEMPLATE, TEMPLATE | picture, TEMPLATE | suffix, TEMPLATE | picture | suffix]
    published = await router.decide(*(garage.intent(content=content) for content in wholes))
    assert [decision["reason"] for decision in published["outbound.decisions.v1"]] == [
        *["template_parameters"] * 3,
        "template_requested",
    ]
    assert [line.get("detail") for line in log_lines.of("intent.decided")] == [
        "content.header: missing; content.buttons.0: missing",
        "content.buttons.0: missing",
        "content.header: missing",
        None,
    ]
    [command] = published["outbound.whatsapp.v1"]
    assert orjson.loads(orjson.dumps(command["content"])) == wholes[-1]
    for row in await router.rows("select route, reason, record from decisions"):
        decision = decide(*unpack(row["record"]))
        assert (decision.route, decision.reason) == (row["route"], row["reason"])


async def test_a_template_whose_text_grows_too_long_is_rejected_and_the_log_names_its_longest_value(
    router: Router, log_lines: LogLines
) -> None:
    garage = await stored(router, Garage())
    body = "Hi {{customer_name}}, we found: {{findings}}. Shall we go on?"
    own = len(body) - len("{{customer_name}}") - len("{{findings}}")
    async with router.pool.acquire() as db:
        await garage.store_template(db, body=body, header={"type": "HEADER", "format": "IMAGE"})
    picture = {"header": {"type": "image", "image": {"link": "https://acme.example/golf.jpg"}}}
    written = [
        TEMPLATE | picture | {"parameters": {"customer_name": "Kim", "findings": "f" * (1024 - own - 3 + more)}}
        for more in (0, 1)
    ]
    published = await router.decide(*(garage.intent(content=content) for content in written))
    assert [decision["reason"] for decision in published["outbound.decisions.v1"]] == [
        "template_requested",
        "template_parameters",
    ]
    details = [line.get("detail") for line in log_lines.of("intent.decided")]
    assert details == [None, "content.parameters.findings: too_long"]
