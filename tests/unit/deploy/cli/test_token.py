"""``transom token`` makes a token for an hour at most, on one machine, and never beside a real identity provider."""

from datetime import timedelta

import jwt
import pytest

from deploy.cli.token import LONGEST, development_token
from libs.common.clock import utc_now
from libs.common.errors import ConfigurationError
from services.inbox.tokens import LONGEST as LONGEST_OF_THE_INBOX
from services.inbox.tokens import Rules, check_origin, check_times, claims_of_ours

KEY, OLDER = "k" * 32, "o" * 32


def made(
    monkeypatch: pytest.MonkeyPatch,
    org: str = "acme",
    user: str = "olga",
    ttl: str = "1h",
    may: str = "messages.view, messages.send",
    **env: str,
) -> str:
    for name, value in {"JWT_KEYS": f"{KEY},{OLDER}", **env}.items():
        monkeypatch.setenv(f"TRANSOM_{name}", value)
    return development_token(org, user, may, "Olga", ttl)


@pytest.mark.parametrize(
    "env",
    [{}, {"JWT_AUDIENCE": "inbox", "JWT_ISSUER": "transom-up"}, {"INBOX_URL": "http://127.0.0.1:8085"}],
)
def test_the_inbox_of_the_same_settings_takes_it(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    claims = claims_of_ours(made(monkeypatch, ttl="15m", **env), [KEY.encode()])
    check_origin(claims, Rules(env.get("JWT_AUDIENCE"), env.get("JWT_ISSUER")))
    assert check_times(claims, utc_now()) - utc_now() <= timedelta(minutes=15)
    assert (claims["org_id"], claims["sub"], claims["name"]) == ("acme", "olga", "Olga")
    assert claims["capabilities"] == ["messages.view", "messages.send"]
    assert LONGEST == LONGEST_OF_THE_INBOX


def test_it_is_signed_with_the_newest_key(monkeypatch: pytest.MonkeyPatch) -> None:
    assert jwt.decode(made(monkeypatch), KEY, algorithms=["HS256"])


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"ttl": "2h"}, "--ttl"),
        ({"ttl": "61m"}, "--ttl"),
        ({"ttl": "0s"}, "--ttl"),
        ({"ttl": "1d"}, "--ttl"),
        ({"org": "a b"}, "--org"),
        ({"user": ""}, "--user"),
        ({"may": "messages.view, nonsense"}, "--capabilities: 'nonsense' .* messages.send, .*, \\*"),
        ({"may": " , "}, "--capabilities: it is empty: one or more of"),
        ({"user": "a\nb"}, "--user"),
        (
            {"JWT_KEYS": "", "JWKS_URL": "http://127.0.0.1:1", "JWT_AUDIENCE": "a", "JWT_ISSUER": "i"},
            "TRANSOM_JWT_KEYS",
        ),
        ({"JWT_KEYS": ""}, "TRANSOM_JWT_KEYS is required: source the transom.env"),
        ({"INBOX_URL": "https://inbox.example"}, "TRANSOM_INBOX_URL"),
        ({"JWKS_URL": "https://login.example", "JWT_AUDIENCE": "a", "JWT_ISSUER": "i"}, "TRANSOM_JWKS_URL"),
        (
            {
                "OIDC_ISSUER": "https://login.example",
                "OIDC_CLIENT_ID": "c",
                "INBOX_URL": "http://127.0.0.1:1",
                "JWT_AUDIENCE": "a",
                "JWT_ISSUER": "i",
            },
            "TRANSOM_OIDC_ISSUER",
        ),
    ],
)
def test_anything_else_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], names: str) -> None:
    with pytest.raises(ConfigurationError, match=names):
        made(monkeypatch, **given)
