"""Which account an organisation has, and that no other stands in for one that is not configured."""

import json
from typing import Any

import pytest

from libs.common.providers.accounts import SmsAccounts, account_of, read_accounts

TWILIO = {"provider": "twilio", "account": "AC1", "credentials": ["t1", "t0"], "messaging_service": "MG1"}
VONAGE = {"provider": "vonage", "account": "key1", "credentials": "s1", "signature_secrets": "sig1,sig0"}
ACCOUNTS = SmsAccounts(
    "twilio",
    {"twilio": account_of("twilio", "AC0", ["t"]), "vonage": account_of("vonage", "key0", ["s"])},
    read_accounts(json.dumps({"acme": TWILIO, "beta": VONAGE})),
)


@pytest.mark.parametrize(
    ("provider", "name", "account"),
    [
        (None, None, "AC0"),
        ("twilio", None, "AC0"),
        ("vonage", None, "key0"),
        (None, "acme", "AC1"),
        ("twilio", "acme", "AC1"),
        ("vonage", "beta", "key1"),
        ("vonage", "acme", None),
        (None, "gamma", None),
        ("other", None, None),
    ],
)
def test_an_organisation_has_the_account_that_it_names_and_no_other(
    provider: str | None, name: str | None, account: str | None
) -> None:
    found = ACCOUNTS.of(provider, name)
    assert (found and found.key.account) == account


def test_the_routes_are_all_that_an_organisation_may_have() -> None:
    routes = ACCOUNTS.routes()
    assert {(provider, name): one.key.account for provider, name, one in routes} == {
        (None, None): "AC0",
        ("twilio", None): "AC0",
        ("vonage", None): "key0",
        (None, "acme"): "AC1",
        ("twilio", "acme"): "AC1",
        (None, "beta"): "key1",
        ("vonage", "beta"): "key1",
    }
    assert len(routes) == 7


def test_a_secret_signs_for_its_own_account_alone() -> None:
    assert ACCOUNTS.signing("twilio", "AC1") == (b"t1", b"t0")
    assert ACCOUNTS.signing("vonage", "key1") == (b"sig1", b"sig0")
    assert ACCOUNTS.signing("vonage", "key0") == ()  # an api secret signs nothing
    assert ACCOUNTS.signing("vonage", "AC1") == ACCOUNTS.signing("twilio", "nobody") == ()


@pytest.mark.parametrize(
    ("entry", "named"),
    [
        (TWILIO | {"provider": "smoke-signals-secret"}, "acme.provider"),
        (TWILIO | {"credentials": []}, "acme.credentials"),
        (TWILIO | {"account": "AC1/../secret"}, "acme.account"),
        (TWILIO | {"signature_secrets": ["secret"]}, "acme"),
        (VONAGE | {"messaging_service": "MGsecret"}, "acme"),
        (TWILIO | {"tokens": "secret"}, "acme.tokens"),
        ("secret", "acme"),
    ],
)
def test_a_wrong_entry_is_named_and_its_values_are_not(entry: Any, named: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_accounts(json.dumps({"acme": entry}))
    assert str(caught.value).startswith(named)
    assert "secret" not in str(caught.value).replace("signature_secrets", "")


@pytest.mark.parametrize("text", ["{secret", "[]", '"secret"'])
def test_what_is_no_json_object_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        read_accounts(text)
    assert "secret" not in str(caught.value)


def test_nothing_is_no_accounts_and_no_secret_is_shown() -> None:
    assert read_accounts(" ") == {}
    assert "t1" not in repr(ACCOUNTS)
    assert "sig1" not in repr(ACCOUNTS)
