"""Every fault of the settings is found at once, and no value of a secret is told."""

import json
from pathlib import Path

import pytest

from deploy.cli.doctor.configuration import SETTINGS, fields, secret_names
from tests.support.doctor import GOOD, PLANTED, Doctor, codes, finding


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch) -> Doctor:
    return Doctor(monkeypatch)


def test_settings_without_fault_are_good(doctor: Doctor) -> None:
    report = doctor.configuration()
    assert (codes(report), report.exit_code) == ({"configuration_good"}, 0)


def test_an_empty_environment_names_everything_that_is_required(doctor: Doctor) -> None:
    doctor.unset(*GOOD)
    missing = {one.subject for one in doctor.configuration().findings if one.code == "setting_missing"}
    assert missing == {
        "TRANSOM_META_APP_SECRETS",
        "TRANSOM_META_VERIFY_TOKEN",
        "TRANSOM_WHATSAPP_TOKEN",
        "TRANSOM_TWILIO_ACCOUNT_SID",
        "TRANSOM_PORTAL_LINK_KEYS",
        "TRANSOM_JWT_KEYS",
    }


def test_a_service_is_asked_for_what_it_needs_alone(doctor: Doctor) -> None:
    doctor.unset(*GOOD)
    doctor.services = ("router",)
    assert codes(doctor.configuration()) == {"configuration_good"}


def test_a_role_of_ingest_has_ingests_settings(doctor: Doctor) -> None:
    doctor.unset(*GOOD)
    doctor.services = ("ingest-edge", "ingest-worker")
    report = doctor.configuration()
    missing = {one.subject for one in report.findings if one.code == "setting_missing"}
    assert missing == {"TRANSOM_META_APP_SECRETS", "TRANSOM_META_VERIFY_TOKEN"}
    assert all("It stops: ingest." in one.remedy for one in report.findings if one.code == "setting_missing")


def test_a_missing_setting_hides_no_other_fault(doctor: Doctor) -> None:
    doctor.unset("META_APP_SECRETS")
    doctor.set(WINDOW_SECONDS="100", WINDOW_MARGIN_SECONDS="200", SEND_LEASE_SECONDS="5", BATCH_RECORDS="many")
    report = doctor.configuration()
    contradictions = {one.subject for one in report.findings if one.code == "settings_contradict"}
    assert "TRANSOM_WINDOW_MARGIN_SECONDS, TRANSOM_WINDOW_SECONDS" in contradictions
    assert any("TRANSOM_SEND_LEASE_SECONDS" in one for one in contradictions)
    assert finding(report, "setting_invalid").subject == "TRANSOM_BATCH_RECORDS"
    assert "It stops: every service." in finding(report, "setting_invalid").remedy
    assert finding(report, "setting_missing").subject == "TRANSOM_META_APP_SECRETS"


@pytest.mark.parametrize(
    ("settings", "code", "subject"),
    [
        ({"KAFKA_BOOTSTAP": "x:9092"}, "variable_unknown", "TRANSOM_KAFKA_BOOTSTAP"),
        ({"WHATSAPP_TOKEN": "changeme"}, "secret_placeholder", "TRANSOM_WHATSAPP_TOKEN"),
        ({"META_APP_SECRETS": "<your app secret>"}, "secret_placeholder", "TRANSOM_META_APP_SECRETS"),
        ({"PORTAL_LINK_KEYS": "ab" * 32}, "key_weak", "TRANSOM_PORTAL_LINK_KEYS"),
        ({"JWT_KEYS": "0123456789abcdef" * 4}, "key_weak", "TRANSOM_JWT_KEYS"),
        ({"JWT_KEYS": "short"}, "setting_invalid", "TRANSOM_JWT_KEYS"),
        ({"META_VERIFY_TOKEN": "hello77"}, "token_short", "TRANSOM_META_VERIFY_TOKEN"),
        (
            {"JWT_KEYS": GOOD["PORTAL_LINK_KEYS"]},
            "secret_reused",
            "TRANSOM_JWT_KEYS, TRANSOM_PORTAL_LINK_KEYS",
        ),
        ({"PUBLIC_URL": "http://hooks.transom.example"}, "public_url_plain", "TRANSOM_PUBLIC_URL"),
        ({"PUBLIC_URL": "https://127.0.0.1:8080"}, "public_url_plain", "TRANSOM_PUBLIC_URL"),
        ({"PORTAL_URL": "http://portal.transom.example"}, "setting_invalid", "TRANSOM_PORTAL_URL"),
        ({"PORTAL_URL": "https://localhost:9"}, "portal_url_local", "TRANSOM_PORTAL_URL"),
        ({"INBOX_URL": "http://inbox.transom.example"}, "setting_invalid", "TRANSOM_INBOX_URL"),
        ({"TRUSTED_PROXIES": "0"}, "proxies_not_trusted", "TRANSOM_TRUSTED_PROXIES"),
        ({"WINDOW_SECONDS": "3600"}, "window_not_a_day", "TRANSOM_WINDOW_SECONDS"),
        ({"WINDOW_MARGIN_SECONDS": "43200"}, "window_margin_wide", "TRANSOM_WINDOW_MARGIN_SECONDS"),
        ({"REDIS_URL": "redis://:pw-planted@redis.example:6379/0"}, "password_in_clear", "TRANSOM_REDIS_URL"),
        ({"SMS_PROVIDER": "vonage"}, "sms_default_missing", "TRANSOM_SMS_PROVIDER"),
        (
            {"VONAGE_API_KEY": "k1", "VONAGE_API_SECRET": "vonage-planted-1"},
            "sms_signature_missing",
            "account vonage:k1",
        ),
        ({"TWILIO_AUTH_TOKENS": ""}, "setting_missing", "TRANSOM_TWILIO_AUTH_TOKENS"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, "settings_contradict", ""),
        ({"SMS_ACCOUNTS": "not json"}, "settings_contradict", "TRANSOM_SMS_ACCOUNTS"),
    ],
)
def test_a_fault_of_the_variables_is_named(doctor: Doctor, settings: dict[str, str], code: str, subject: str) -> None:
    doctor.set(**settings)
    found = [one for one in doctor.configuration().findings if one.code == code]
    assert subject in " ".join(one.subject for one in found)
    assert found


def test_a_wrong_name_is_told_the_nearest_right_one(doctor: Doctor) -> None:
    doctor.set(POSTGRESS_DSN=f"postgresql://u:{PLANTED}@h/d")
    assert "TRANSOM_POSTGRES_DSN" in finding(doctor.configuration(), "variable_unknown").remedy


def test_what_kubernetes_and_transom_up_add_is_not_unknown(doctor: Doctor) -> None:
    doctor.set(
        INGEST_SERVICE_HOST="10.0.0.1",
        INGEST_SERVICE_PORT="80",
        INGEST_PORT="tcp://10.0.0.1:80",
        INGEST_PORT_80_TCP="tcp://10.0.0.1:80",
        INGEST_PORT_80_TCP_ADDR="10.0.0.1",
        SANDBOX_URL="http://127.0.0.1:1",
        ROUTER_URL="http://127.0.0.1:2",
    )
    assert codes(doctor.configuration()) == {"configuration_good"}


def test_settings_from_files_count_and_a_file_that_is_not_there_is_named_without_its_path(
    doctor: Doctor, tmp_path: Path
) -> None:
    good = tmp_path / "token"
    good.write_text(f"{GOOD['WHATSAPP_TOKEN']}\n")
    doctor.unset("WHATSAPP_TOKEN", "JWT_KEYS")
    doctor.set(WHATSAPP_TOKEN_FILE=str(good), JWT_KEYS_FILE=PLANTED)  # the secret itself instead of a path
    report = doctor.configuration()
    assert codes(report) == {"setting_file_bad"}
    assert finding(report, "setting_file_bad").subject == "TRANSOM_JWT_KEYS_FILE"


def test_every_secret_setting_is_known_as_one() -> None:
    assert {"POSTGRES_DSN", "REDIS_URL", "KAFKA_SASL_PASSWORD", "SMS_ACCOUNTS", "OIDC_CLIENT_SECRET"} <= secret_names()
    assert len(fields()) > len(secret_names()) > 10
    assert set(SETTINGS) == {"ingest", "router", "whatsapp-sender", "sms-bridge", "portal", "inbox"}


def test_secrets_of_named_accounts_are_not_told(doctor: Doctor) -> None:
    accounts = {"acme": {"provider": "vonage", "account": "k", "credentials": [PLANTED], "signature_secrets": []}}
    doctor.set(SMS_ACCOUNTS=json.dumps(accounts))
    assert "sms_signature_missing" in codes(doctor.configuration())


async def test_settings_that_cannot_be_read_leave_their_server_unlooked_at(doctor: Doctor) -> None:
    doctor.set(KAFKA_SECURITY_PROTOCOL="SASL_SSL", POSTGRES_POOL_SIZE="0")
    assert codes(await doctor.look_at("kafka")) == {"kafka_not_checked"}
    assert codes(await doctor.look_at("postgres")) == {"postgres_not_checked"}
    assert {"settings_contradict", "setting_invalid"} <= codes(doctor.configuration())
    assert set(doctor.services) == set(SETTINGS)
