"""``transom doctor`` at providers whose accounts are set up wrongly, played by the sandbox."""

import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest
import pytest_asyncio

from deploy.cli.doctor.queries import SmsLine, WhatsappNumber
from deploy.cli.doctor.site import Directory
from deploy.local.sandbox.client import SandboxClient
from tests.support.doctor import PLANTED, Doctor, codes, finding
from tests.support.sandbox import (
    APP_SECRET,
    GRAPH_TOKEN,
    NUMBER_ID,
    TWILIO_SID,
    TWILIO_TOKEN,
    VONAGE_KEY,
    VONAGE_SECRET,
)

WABA, SMS_NUMBER = "206400000000001", "+447700900001"
PUBLIC = "https://hooks.transom.example"
SHOWN = "+447700900123"
DIRECTORY = Directory(
    numbers=(WhatsappNumber("acme", NUMBER_ID, WABA, SHOWN, None),),
    lines=(SmsLine("acme", SMS_NUMBER, None, None, sms_active=True),),
)


@pytest_asyncio.fixture
async def doctor(monkeypatch: pytest.MonkeyPatch, sandbox: SandboxClient) -> AsyncIterator[Doctor]:
    """Settings that fit the sandbox, and a sandbox as it should be."""
    made = Doctor(monkeypatch)
    made.set(
        META_APP_SECRETS=APP_SECRET,
        WHATSAPP_TOKEN=GRAPH_TOKEN,
        GRAPH_BASE_URL=sandbox.url,
        TWILIO_BASE_URL=sandbox.url,
        VONAGE_BASE_URL=sandbox.url,
        TWILIO_ACCOUNT_SID=TWILIO_SID,
        TWILIO_AUTH_TOKENS=TWILIO_TOKEN,
        PUBLIC_URL=PUBLIC,
    )
    made.planted |= {APP_SECRET, GRAPH_TOKEN, TWILIO_TOKEN, VONAGE_SECRET}
    await sandbox.configure(
        webhook_url=f"{PUBLIC}/webhooks/meta",
        sms_url=f"{PUBLIC}/webhooks/twilio/sms",
        vonage_sms_url=f"{PUBLIC}/webhooks/vonage/sms",
    )
    await sandbox.number(NUMBER_ID, waba_id=WABA, display_number=SHOWN)
    await sandbox.template("hello", "en_GB", "Hi", waba_id=WABA)
    yield made


async def test_accounts_as_they_should_be_are_good(doctor: Doctor) -> None:
    assert codes(await doctor.look_at("graph", DIRECTORY)) == {"graph_good"}
    assert codes(await doctor.look_at("sms", DIRECTORY)) == {"sms_good"}


SOON, GONE = time.time() + 5 * 86_400, time.time() - 5


@pytest.mark.parametrize(
    ("app", "code", "severity"),
    [
        ({"scopes": ["whatsapp_business_management"]}, "token_scope_missing", "error"),
        ({"expires_at": int(SOON)}, "token_expires", "warning"),
        ({"expires_at": int(GONE)}, "token_invalid", "error"),
        ({"only_accounts": ["206499999999999"]}, "token_not_for_account", "error"),
        ({"unsubscribed_accounts": [WABA]}, "account_not_subscribed", "error"),
        ({"callback_url": "https://elsewhere.example/webhooks/meta"}, "webhook_elsewhere", "error"),
        ({"fields": ["calls"]}, "app_fields_missing", "error"),
        ({"fields": ["messages"]}, "app_fields_more", "warning"),
        ({"object_subscribed": False}, "app_subscription_missing", "error"),
        ({"active": False}, "app_subscription_missing", "error"),
    ],
)
async def test_an_app_that_is_set_up_wrongly_names_its_fault(
    doctor: Doctor, sandbox: SandboxClient, app: Mapping[str, Any], code: str, severity: str
) -> None:
    await sandbox.meta_app(**app)
    report = await doctor.look_at("graph", DIRECTORY)
    assert {one.severity for one in report.findings if one.code == code} == {severity}


@pytest.mark.parametrize(
    ("number", "code", "severity"),
    [
        ({"waba_id": "206400000000777"}, "account_unknown", "error"),
        ({"shown_number": "+44 7700 900777"}, "number_differs", "error"),
        ({"status": "BANNED"}, "number_not_connected", "error"),
        ({"quality": "RED"}, "number_quality_low", "warning"),
        ({"name_status": "DECLINED"}, "number_name_open", "info"),
        ({"webhook_url": "https://elsewhere.example/hook"}, "webhook_elsewhere", "error"),
    ],
)
async def test_a_number_that_is_set_up_wrongly_names_its_fault(
    doctor: Doctor, sandbox: SandboxClient, number: Mapping[str, Any], code: str, severity: str
) -> None:
    await sandbox.number(NUMBER_ID, **{"waba_id": WABA, "display_number": SHOWN, **number})
    report = await doctor.look_at("graph", DIRECTORY)
    assert finding(report, code).severity == severity


async def test_a_number_that_meta_does_not_have_is_named(doctor: Doctor) -> None:
    other = WhatsappNumber("acme", "106499999999999", WABA, SHOWN, None)
    report = await doctor.look_at("graph", Directory(numbers=(*DIRECTORY.numbers, other)))
    assert codes(report) == {"number_unknown"}
    assert finding(report, "number_unknown").subject == "number 106499999999999 of acme"


async def test_tokens_and_secrets_that_meta_refuses_are_named_and_not_shown(doctor: Doctor) -> None:
    doctor.set(WHATSAPP_TOKEN=PLANTED)
    assert codes(await doctor.look_at("graph", DIRECTORY)) == {"token_invalid"}
    own = WhatsappNumber("acme", NUMBER_ID, WABA, SHOWN, f"{PLANTED}2")
    doctor.set(WHATSAPP_TOKEN=GRAPH_TOKEN)
    report = await doctor.look_at("graph", Directory(numbers=(own,)))
    assert finding(report, "token_invalid").subject == f"token of number {NUMBER_ID}"
    doctor.set(META_APP_SECRETS=PLANTED)
    assert codes(await doctor.look_at("graph", DIRECTORY)) == {"app_secret_wrong"}
    doctor.set(META_APP_SECRETS=f"{PLANTED},{APP_SECRET}")
    assert codes(await doctor.look_at("graph", DIRECTORY)) == {"graph_good", "app_secret_old"}


async def test_a_directory_that_cannot_be_read_is_said(doctor: Doctor) -> None:
    assert codes(await doctor.look_at("graph")) == {"graph_directory_unseen"}
    assert codes(await doctor.look_at("sms")) == {"sms_directory_unseen"}


async def test_a_throttled_graph_is_no_verdict(doctor: Doctor, sandbox: SandboxClient) -> None:
    await sandbox.fault("meta", "throttle", endpoint="fetch", spares=3)
    report = await doctor.look_at("graph", DIRECTORY)
    assert "graph_throttled" in codes(report)
    assert report.severity == "warning"


async def test_twilio_that_is_set_up_wrongly_names_its_fault(doctor: Doctor, sandbox: SandboxClient) -> None:
    """One account, set up wrongly in one way after the other."""
    await sandbox.sms_number(SMS_NUMBER, exists=False)
    unknown = finding(await doctor.look_at("sms", DIRECTORY), "sms_number_unknown")
    assert (unknown.subject, unknown.severity) == (f"number {SMS_NUMBER}", "error")

    await sandbox.sms_number(SMS_NUMBER, webhook_url="https://elsewhere.example/sms", sms=False)
    report = await doctor.look_at("sms", DIRECTORY)
    assert codes(report) == {"sms_webhook_elsewhere", "sms_number_cannot_send"}
    assert f"{PUBLIC}/webhooks/twilio/sms" in finding(report, "sms_webhook_elsewhere").remedy

    await sandbox.sms_number(SMS_NUMBER)
    await sandbox.sms_account(status="suspended", type="Trial")
    assert codes(await doctor.look_at("sms", DIRECTORY)) == {"sms_account_not_active", "sms_account_trial"}

    doctor.set(TWILIO_MESSAGING_SERVICE="MG" + "1" * 32)
    await sandbox.sms_account(inbound_request_url="https://elsewhere.example/sms")
    assert codes(await doctor.look_at("sms", DIRECTORY)) == {"sms_webhook_elsewhere"}
    await sandbox.sms_account(messaging_service_exists=False)
    assert codes(await doctor.look_at("sms", DIRECTORY)) == {"sms_service_unknown"}

    doctor.set(TWILIO_AUTH_TOKENS="planted-wrong-token-77")
    doctor.planted.add("planted-wrong-token-77")
    assert codes(await doctor.look_at("sms", DIRECTORY)) == {"sms_credentials_refused"}


async def test_vonage_that_is_set_up_wrongly_names_its_fault(doctor: Doctor, sandbox: SandboxClient) -> None:
    doctor.set(
        SMS_PROVIDER="vonage",
        VONAGE_API_KEY=VONAGE_KEY,
        VONAGE_API_SECRET=VONAGE_SECRET,
        VONAGE_SIGNATURE_SECRET="planted-signature-55",
    )
    doctor.planted.add("planted-signature-55")
    assert codes(await doctor.look_at("sms", DIRECTORY)) == {"sms_good"}
    await sandbox.sms_account(balance=0.2)
    await sandbox.sms_number(SMS_NUMBER, webhook_url="https://elsewhere.example/sms")
    assert codes(await doctor.look_at("sms", DIRECTORY)) == {"sms_balance_low", "sms_webhook_elsewhere"}
    await sandbox.sms_number(SMS_NUMBER, webhook_url="")
    assert "sms_webhook_unseen" in codes(await doctor.look_at("sms", DIRECTORY))
    doctor.set(VONAGE_API_SECRET=PLANTED)
    assert codes(await doctor.look_at("sms", DIRECTORY)) == {"sms_credentials_refused"}


async def test_an_organisation_without_an_account_is_named(doctor: Doctor) -> None:
    lines = (SmsLine("beta", "+447700900002", "vonage", None, sms_active=True),)
    report = await doctor.look_at("sms", Directory(lines=lines))
    assert finding(report, "sms_account_unknown").subject == "organisation beta"
