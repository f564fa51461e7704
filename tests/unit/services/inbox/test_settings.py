"""The inbox starts with settings by which tokens can be checked, and is on loopback alone where it has no address."""

import pytest

from libs.common.errors import ConfigurationError
from libs.common.settings import load
from services.inbox.settings import InboxServiceSettings

KEY = "k" * 32
JWKS = {"JWKS_URL": "https://login.example/jwks", "JWT_AUDIENCE": "inbox", "JWT_ISSUER": "https://login.example"}
OIDC = {
    "OIDC_ISSUER": "https://login.example",
    "OIDC_CLIENT_ID": "transom",
    "INBOX_URL": "https://inbox.example",
    "JWT_AUDIENCE": "inbox",
    "JWT_ISSUER": "https://login.example",
}


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> InboxServiceSettings:
    for name, value in values.items():
        monkeypatch.setenv(f"TRANSOM_{name}", value)
    return load(InboxServiceSettings)


def test_without_an_address_it_listens_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = settings(monkeypatch, JWT_KEYS=KEY, HTTP_HOST="0.0.0.0", INBOX_URL="")
    assert (alone.http_host, alone.inbox, alone.is_local) == ("127.0.0.1", None, True)
    open_to_all = settings(monkeypatch, INBOX_URL="https://inbox.example")
    assert (open_to_all.http_host, str(open_to_all.inbox), open_to_all.is_local) == (
        "0.0.0.0",
        "https://inbox.example",
        False,
    )


@pytest.mark.parametrize("given", [{"JWT_KEYS": KEY}, JWKS, OIDC, {"JWT_KEYS": KEY, **JWKS, **OIDC}])
def test_keys_an_address_of_keys_or_a_provider_is_enough(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str]
) -> None:
    assert settings(monkeypatch, **given)


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "JWT_KEYS"),
        ({"JWT_KEYS": ""}, "JWT_KEYS"),
        *(({n: v for n, v in JWKS.items() if n != name}, name) for name in ("JWT_AUDIENCE", "JWT_ISSUER")),
        *(({n: v for n, v in OIDC.items() if n != name}, name) for name in OIDC if name != "OIDC_ISSUER"),
        ({**JWKS, "JWT_AUDIENCE": "", "JWT_KEYS": KEY}, "JWT_AUDIENCE"),
    ],
)
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=f"TRANSOM_{missing} is required"):
        settings(monkeypatch, **given)


@pytest.mark.parametrize("keys", ["x", "k" * 31, f"{KEY},short", ",,"])
def test_a_key_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    with pytest.raises(ConfigurationError, match="TRANSOM_JWT_KEYS"):
        settings(monkeypatch, JWT_KEYS=keys)


@pytest.mark.parametrize(
    "wrong",
    [
        {"JWKS_URL": "http://login.example/jwks"},
        {"OIDC_ISSUER": "http://login.example"},
        {
            "OIDC_ISSUER": "http://127.0.0.1:9000"
        },  # a provider of this machine beside an inbox that is reached from others
        {"INBOX_URL": "http://inbox.example"},
        {"INBOX_URL": "https://inbox.example/path"},
        {"FULL_ACCESS_ISSUERS": "https://login.example,http://other.example"},
    ],
)
def test_an_address_that_could_be_overheard_is_refused(monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str]) -> None:
    [name] = wrong
    with pytest.raises(ConfigurationError, match=f"TRANSOM_{name}"):
        settings(monkeypatch, JWT_KEYS=KEY, **JWKS | OIDC | wrong)


def test_issuers_of_full_access_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = settings(monkeypatch, JWT_KEYS=KEY, FULL_ACCESS_ISSUERS="https://login.example/, http://127.0.0.1:9/oidc")
    assert listed.issuers_of_full_access == {"https://login.example", "http://127.0.0.1:9/oidc"}
