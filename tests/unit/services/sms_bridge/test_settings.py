"""A bridge that is not configured says in one line what is missing, and ends."""

import pytest

from services.sms_bridge.app import main

REQUIRED = {
    "TRANSOM_TWILIO_ACCOUNT_SID": "AC1",
    "TRANSOM_TWILIO_AUTH_TOKENS": "secret-token",
    "TRANSOM_PORTAL_LINK_KEYS": "secret-key" * 4,
}


def refusal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], changes: dict[str, str | None]) -> str:
    for name, value in (REQUIRED | changes).items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert main(0) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "secret" not in line
    return line


@pytest.mark.parametrize("missing", list(REQUIRED))
def test_a_missing_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    assert f"{missing} is required: set it" in refusal(monkeypatch, capsys, {missing: None})


@pytest.mark.parametrize("empty", ["", " , "])
def test_empty_link_keys_are_no_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], empty: str
) -> None:
    assert "TRANSOM_PORTAL_LINK_KEYS" in refusal(monkeypatch, capsys, {"TRANSOM_PORTAL_LINK_KEYS": empty})


def test_an_unknown_provider_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(monkeypatch, capsys, {"TRANSOM_SMS_PROVIDER": "smoke signals"})
    assert "TRANSOM_SMS_PROVIDER: input should be 'twilio' or 'vonage'" in line


def test_half_an_account_of_vonage_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(monkeypatch, capsys, {"TRANSOM_VONAGE_API_SECRET": "secret-value"})
    assert "TRANSOM_VONAGE_API_KEY is required: set it" in line


def test_accounts_that_cannot_be_read_are_named_without_their_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accounts = '{"acme": {"provider": "twilio", "account": "AC1", "credentials": ["a secret"]}}'
    assert "TRANSOM_SMS_ACCOUNTS: acme.credentials" in refusal(monkeypatch, capsys, {"TRANSOM_SMS_ACCOUNTS": accounts})


def test_a_bridge_without_any_account_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    none: dict[str, str | None] = {"TRANSOM_TWILIO_ACCOUNT_SID": None, "TRANSOM_TWILIO_AUTH_TOKENS": None}
    assert "TRANSOM_TWILIO_ACCOUNT_SID is required" in refusal(monkeypatch, capsys, none)


def test_a_grace_that_ends_before_the_claim_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "TRANSOM_SMS_GRACE_SECONDS" in refusal(monkeypatch, capsys, {"TRANSOM_SMS_GRACE_SECONDS": "20"})
