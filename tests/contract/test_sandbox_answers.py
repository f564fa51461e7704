"""The sandbox answers as the providers were recorded to answer: the same status, code, keys and types."""

from typing import Any

import pytest

from deploy.local.sandbox.client import SandboxClient
from tests.support.recordings import recording, recordings, shape
from tests.support.sandbox import CUSTOMER, GRAPH_TOKEN, NUMBER_ID, TWILIO_TOKEN, ProviderCaller

TWILIO = [name for name in recordings("twilio") if not name.startswith(("callback_", "list_"))]


async def on_file(sandbox: SandboxClient) -> None:
    """The business number and the templates that the recordings speak of."""
    await sandbox.number(NUMBER_ID, waba_id="206400000000001", display_number="+44 7700 900123")
    named = "Hi {{customer_name}}, see you at {{appointment_time}}."
    await sandbox.template("appointment_reminder", "en_GB", named, parameter_format="NAMED")
    await sandbox.template("car_ready", "en_GB", "Your {{1}} is ready.")
    await sandbox.template("picture_of_your_car", "en_GB", "Here it is.", header={"format": "IMAGE"})
    await sandbox.template("still_pending", "en_GB", "Soon.", status="PENDING")
    await sandbox.template("paused_offer", "en_GB", "Offer.", status="PAUSED", category="MARKETING")
    await sandbox.template("disabled_offer", "en_GB", "Offer.", status="DISABLED", category="MARKETING")


@pytest.mark.parametrize("name", recordings("graph"))
async def test_meta_answers_a_send_as_recorded(sandbox: SandboxClient, providers: ProviderCaller, name: str) -> None:
    scenario: dict[str, Any] = recording("graph", name)
    await on_file(sandbox)
    await sandbox.configure(**scenario.get("config", {}))
    if scenario.get("window") != "closed":
        await sandbox.customer_writes(NUMBER_ID, CUSTOMER)
    if "fault" in scenario:
        await sandbox.fault("meta", calls=1, **scenario["fault"])

    status, body = await providers.graph(
        scenario["ask"], token=scenario.get("token", GRAPH_TOKEN), number=scenario.get("number", NUMBER_ID)
    )

    assert status == scenario["status"]
    assert shape(body) == shape(scenario["body"])
    assert _told(body) == _told(scenario["body"])
    sent = [message["wamid"] for message in await sandbox.messages()]
    assert sent == [message["id"] for message in body.get("messages", [])]


@pytest.mark.parametrize("name", TWILIO)
async def test_twilio_answers_a_send_as_recorded(sandbox: SandboxClient, providers: ProviderCaller, name: str) -> None:
    scenario: dict[str, Any] = recording("twilio", name)
    if "recipient" in scenario:
        await sandbox.sms_recipient(scenario["form"]["To"], scenario["recipient"])
    if "fault" in scenario:
        await sandbox.fault("twilio", calls=1, **scenario["fault"])

    status, body = await providers.sms(scenario["form"], token=scenario.get("token", TWILIO_TOKEN))

    assert status == scenario["status"]
    assert shape(body) == shape(scenario["body"])
    same = ("code", "message", "status", "more_info", "num_segments", "to", "from", "body", "direction", "price")
    assert {key: body.get(key) for key in same} == {key: scenario["body"].get(key) for key in same}
    assert [text["sid"] for text in await sandbox.sms()] == ([body["sid"]] if status == 201 else [])


async def test_twilio_lists_what_it_really_sent(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.configure(sent_after=0)
    scenario = recording("twilio", "list_of_what_was_sent")
    await providers.sms(recording("twilio", "a_text_is_queued")["form"])

    status, body = await providers.sms_get(query=scenario["query"] | {"DateSent>": "2000-01-01"})

    assert (status, shape(body)) == (200, shape(scenario["body"]))
    assert body["messages"][0]["status"] == "delivered"


async def test_twilio_lists_what_it_refused_with_its_error_and_tells_of_it_nowhere_else(
    sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    await sandbox.sms_recipient(CUSTOMER, "opted_out")
    form = recording("twilio", "a_text_is_queued")["form"]
    status, _ = await providers.sms(form)
    _, body = await providers.sms_get(query={"To": CUSTOMER})
    [listed] = body["messages"]
    assert (status, listed["status"], listed["error_code"], listed["date_sent"]) == (400, "failed", 21610, None)
    assert (listed["body"], listed["from"]) == (form["Body"], form["From"])
    assert (await sandbox.sms(), await sandbox.webhooks()) == ([], [])


BUSY = "“Kim’s” Golf – ready… https://garage.example/jobs/12345678"  # noqa: RUF001 -- what smart encoding is for


@pytest.mark.parametrize(
    ("rules", "sent", "shown"),
    [
        ({"sms_trial": True}, f"Sent from your Twilio trial account - {BUSY}", None),
        ({"sms_smart_encoding": True}, '"Kim\'s" Golf - ready... https://garage.example/jobs/12345678', None),
        ({"sms_short_links": True}, "“Kim’s” Golf – ready… twil.io/345678", None),  # noqa: RUF001 -- as above
        ({"sms_redact_bodies": True}, BUSY, ""),
    ],
    ids=["trial", "smart encoding", "short links", "redaction"],
)
async def test_twilio_shows_a_text_as_the_account_has_it(
    sandbox: SandboxClient, providers: ProviderCaller, rules: dict[str, bool], sent: str, shown: str | None
) -> None:
    await sandbox.configure(sent_after=0, **rules)
    form = recording("twilio", "a_text_is_queued")["form"] | {"Body": BUSY}
    _, created = await providers.sms(form)
    [text] = await sandbox.sms()
    assert (created["body"], text["message"]["body"]) == (sent, sent)
    _, page = await providers.sms_get(query={"To": CUSTOMER})
    _, fetched = await providers.sms_get(f"/{created['sid']}")
    assert (page["messages"][0]["body"], fetched["body"]) == (sent if shown is None else shown,) * 2


async def test_twilio_masks_a_customers_number_once_it_is_done_with_the_message(
    sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    await sandbox.configure(sent_after=3600, sms_redact_numbers=True, sms_redact_bodies=True)
    form = recording("twilio", "a_text_is_queued")["form"]
    await providers.sms(form)
    assert len((await providers.sms_get(query={"To": CUSTOMER}))[1]["messages"]) == 1
    await sandbox.configure(sent_after=0)
    assert (await providers.sms_get(query={"To": CUSTOMER}))[1]["messages"] == []
    [masked] = (await providers.sms_get(query={"From": form["From"]}))[1]["messages"]
    assert (masked["to"], masked["from"], masked["body"]) == (CUSTOMER[:-4] + "XXXX", form["From"], "")


async def test_what_twilio_refused_is_masked_as_well(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.configure(sms_redact_numbers=True, sms_redact_bodies=True)
    await sandbox.sms_recipient(CUSTOMER, "opted_out")
    await providers.sms(recording("twilio", "a_text_is_queued")["form"])
    [refused] = (await providers.sms_get())[1]["messages"]
    assert (refused["error_code"], refused["to"], refused["body"]) == (21610, CUSTOMER[:-4] + "XXXX", "")


async def test_twilios_list_may_be_late_and_a_message_is_found_by_its_id_at_once(
    sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    await sandbox.configure(sms_list_lag=3600)
    form = recording("twilio", "a_text_is_queued")["form"]
    _, created = await providers.sms(form)
    await sandbox.sms_recipient(CUSTOMER, "opted_out")
    await providers.sms(form)
    assert (await providers.sms_get())[1]["messages"] == []
    assert (await providers.sms_get(f"/{created['sid']}"))[0] == 200
    await sandbox.configure(sms_list_lag=0)
    assert len((await providers.sms_get())[1]["messages"]) == 2


async def test_twilio_pages_its_list_newest_first(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    form = recording("twilio", "a_text_is_queued")["form"]
    sids = [(await providers.sms(form | {"Body": f"text {i}"}))[1]["sid"] for i in range(5)]
    await providers.sms(form | {"To": "+447700900998"})

    found: list[str] = []
    path, query = "", {"To": CUSTOMER, "PageSize": "2"}
    while path is not None:
        _, page = await providers.sms_get(path, query)
        found += [message["sid"] for message in page["messages"]]
        path, query = page["next_page_uri"], {}

    assert found == sids[::-1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"To": "+447700900997"}, 0),
        ({"From": "+447700900002"}, 0),
        ({"DateSent>": "2999-01-01"}, 0),
        ({"DateSent>": "2000-01-01T00:00:00Z"}, 1),
        ({"DateSent<": "2000-01-01"}, 0),
        ({"DateSent<": "2999-01-01"}, 1),
        ({"DateSent": "2000-01-01"}, 0),
        ({}, 1),
    ],
)
async def test_twilio_filters_its_list(
    sandbox: SandboxClient, providers: ProviderCaller, query: dict[str, str], found: int
) -> None:
    await sandbox.configure(sent_after=0)
    await providers.sms(recording("twilio", "a_text_is_queued")["form"])
    _, page = await providers.sms_get(query=query)
    assert len(page["messages"]) == found


@pytest.mark.parametrize(
    ("query", "found"), [({"To": CUSTOMER}, 1), ({"DateSent>": "2000-01-01"}, 0), ({"DateSent<": "2999-01-01"}, 0)]
)
async def test_twilio_finds_no_queued_text_by_the_date_it_was_sent(
    sandbox: SandboxClient, providers: ProviderCaller, query: dict[str, str], found: int
) -> None:
    await sandbox.configure(sent_after=3600)
    _, created = await providers.sms(recording("twilio", "a_text_is_queued")["form"])
    _, page = await providers.sms_get(query=query)
    assert page["messages"] == [created] * found
    assert (await providers.sms_get(f"/{created['sid']}"))[1] == created


async def test_twilio_shows_one_message_and_knows_no_other(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    _, created = await providers.sms(recording("twilio", "a_text_is_queued")["form"])
    assert (await providers.sms_get(f"/{created['sid']}"))[1]["body"] == created["body"]
    status, body = await providers.sms_get("/SM" + "f" * 32)
    assert (status, body["code"]) == (404, 20404)


async def test_a_number_is_known_without_registration_until_one_is_registered(
    sandbox: SandboxClient, providers: ProviderCaller
) -> None:
    assert (await providers.text())[0] == 200
    await sandbox.number("106400000000002")
    status, body = await providers.text()
    assert (status, body["error"]["code"], body["error"]["error_subcode"]) == (400, 100, 33)


async def test_a_number_may_carry_a_token_of_its_own(sandbox: SandboxClient, providers: ProviderCaller) -> None:
    await sandbox.number(NUMBER_ID, token="only-here")
    body = recording("graph", "a_text_is_accepted")["ask"]
    assert (await providers.graph(body, token="only-here"))[0] == 200
    await sandbox.number("106400000000002")
    assert (await providers.graph(body, token="only-here", number="106400000000002"))[0] == 401


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        "text",
        1,
        {
            "messaging_product": "whatsapp",
            "to": "+447700900999",
            "type": "template",
            "template": {"name": "x", "language": {"code": "en"}, "components": [7]},
        },
        {
            "messaging_product": "whatsapp",
            "to": "+447700900999",
            "type": "interactive",
            "interactive": {"type": "button", "action": {"buttons": [1]}},
        },
    ],
)
async def test_meta_refuses_nonsense_politely(sandbox: SandboxClient, providers: ProviderCaller, body: Any) -> None:
    await sandbox.template("x", "en", "Hi")
    status, answer = await providers.graph(body)
    assert (status, answer["error"]["code"]) == (400, 100)
    assert await sandbox.messages() == []


def _told(body: dict[str, Any]) -> Any:
    """What a caller acts upon: the error's code, subcode and message, or who was understood."""
    error = body.get("error")
    return body.get("contacts") if error is None else (error["code"], error.get("error_subcode"), error["message"])
