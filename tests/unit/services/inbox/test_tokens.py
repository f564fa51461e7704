"""A token counts for an hour, for this inbox, with the key of its algorithm; its holder alone learns what is wrong."""

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from services.inbox.tokens import (
    LEEWAY,
    LONGEST,
    MAX_TOKEN,
    Rules,
    TokenRefused,
    capabilities_of,
    check_origin,
    check_times,
    claims_of_ours,
    header_of,
    name_of,
    org_of,
    user_of,
)

NOW = datetime(2026, 11, 26, 14, 0, tzinfo=UTC)
KEY, OLDER, STRANGE = b"a-key-of-thirty-two-bytes-and-more", b"an-older-key-of-thirty-two-bytes..", b"x" * 32
CLAIMS = {"org_id": "acme", "sub": "olga", "exp": int((NOW + timedelta(minutes=30)).timestamp())}
RSA = generate_private_key(65537, 2048)


def raw(header: dict[str, Any], claims: dict[str, Any]) -> str:
    parts = [json.dumps(header).encode(), json.dumps(claims).encode(), b""]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def refused(work: Any) -> TokenRefused:
    with pytest.raises(TokenRefused) as caught:
        work()
    return caught.value


@pytest.mark.parametrize("key", [KEY, OLDER])
def test_any_of_our_keys_may_have_signed(key: bytes) -> None:
    assert claims_of_ours(jwt.encode(CLAIMS, key, "HS256"), [KEY, OLDER]) == CLAIMS


def signed_with_text(secret: bytes) -> str:
    """As somebody signs who takes a public key for the secret of HS256."""
    unsigned = raw({"alg": "HS256", "typ": "JWT"}, CLAIMS).rpartition(".")[0]
    signature = hmac.digest(secret, unsigned.encode(), "sha256")
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}"


PUBLIC = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
FORGED = {
    "another key": jwt.encode(CLAIMS, STRANGE, "HS256"),
    "no signature": raw({"alg": "none"}, CLAIMS),
    "None": raw({"alg": "None"}, CLAIMS),
    "an empty signature": raw({"alg": "HS256"}, CLAIMS),
    "another algorithm": jwt.encode(CLAIMS, KEY * 2, "HS512"),
    "of another kind": jwt.encode(CLAIMS, RSA, "RS256"),
    "a public key as a secret": signed_with_text(PUBLIC),
    "changed afterwards": jwt.encode(CLAIMS, KEY, "HS256")[:-3] + "abc",
    "a critical header": jwt.encode(CLAIMS, KEY, "HS256", headers={"crit": ["b64"], "b64": False}),
    "no dots": "x",
    "empty": "",
    "no JSON": "a.b.c",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
def test_what_we_have_not_signed_is_refused_without_a_word(token: str) -> None:
    assert refused(lambda: claims_of_ours(token, [KEY, OLDER])).said is None


@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda b: base64.urlsafe_b64encode(b).decode()))
def test_no_text_is_more_than_refused(text: str) -> None:
    for work in (lambda: header_of(text), lambda: claims_of_ours(text, [KEY])):
        assert refused(work).said is None


def test_a_long_token_is_not_looked_at() -> None:
    long = jwt.encode(CLAIMS | {"name": "x" * MAX_TOKEN}, KEY, "HS256")
    assert refused(lambda: header_of(long)).why == "malformed"


def test_where_a_token_says_its_key_is_counts_for_nothing() -> None:
    strange = {"jku": "https://evil.example/jwks", "x5u": "https://evil.example/x", "jwk": {"kty": "oct", "k": "eA"}}
    token = jwt.encode(CLAIMS, STRANGE, "HS256", headers=strange)
    assert refused(lambda: claims_of_ours(token, [KEY])).why == "signature"


def seconds(delta: timedelta) -> float:
    return (NOW + delta).timestamp()


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": seconds(timedelta(minutes=30))}, None),
        ({"exp": seconds(-LEEWAY / 2)}, None),  # clocks differ
        ({"exp": seconds(-LEEWAY)}, "expired"),
        ({"exp": seconds(LONGEST), "iat": seconds(timedelta())}, None),
        ({"exp": seconds(LONGEST + 2 * LEEWAY)}, "too_long"),
        ({"exp": seconds(timedelta(minutes=1)), "iat": seconds(-LONGEST)}, "too_long"),
        ({"exp": seconds(timedelta(minutes=30)), "iat": seconds(2 * LEEWAY)}, "not_yet"),
        ({"exp": seconds(timedelta(minutes=30)), "nbf": seconds(2 * LEEWAY)}, "not_yet"),
        ({}, "claims"),
        ({"exp": None}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": "4102444800"}, "claims"),
        ({"exp": float("inf")}, "claims"),
        ({"exp": 1e300}, "claims"),
        ({"exp": seconds(timedelta(minutes=30)), "iat": "now"}, "claims"),
    ],
)
def test_a_token_counts_for_an_hour_at_most(claims: dict[str, Any], why: str | None) -> None:
    if why is None:
        assert check_times(claims, NOW) == datetime.fromtimestamp(claims["exp"], UTC)
    else:
        found = refused(lambda: check_times(claims, NOW))
        assert found.why == why
        assert found.said


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"aud": "inbox", "iss": "https://i"}, None),
        ({"aud": ["other", "inbox"], "iss": "https://i"}, None),
        ({"aud": "other", "iss": "https://i"}, "audience"),
        ({"iss": "https://i"}, "audience"),
        ({"aud": {"inbox": 1}, "iss": "https://i"}, "audience"),
        ({"aud": "inbox"}, "issuer"),
        ({"aud": "inbox", "iss": "https://i/"}, "issuer"),
        ({"aud": "inbox", "iss": ["https://i"]}, "issuer"),
    ],
)
def test_audience_and_issuer_are_those_of_the_settings(claims: dict[str, Any], why: str | None) -> None:
    rules = Rules("inbox", "https://i")
    assert why is None or refused(lambda: check_origin(claims, rules)).why == why
    check_origin(claims, Rules(None, None))


@pytest.mark.parametrize("subject", [None, "", 7, "x" * 201, "a\nb", "a\u202eb", "\ud800"])
def test_a_subject_is_one_that_a_line_can_hold(subject: Any) -> None:
    assert refused(lambda: user_of({"sub": subject})).why == "claims"


@pytest.mark.parametrize("org_id", [None, "", 7, ["acme"], "ac\0me", "ac\ud800me"])
def test_a_token_of_ours_names_its_organisation(org_id: Any) -> None:
    assert refused(lambda: org_of({"org_id": org_id})).why == "claims"


def test_a_name_turns_no_line_around() -> None:
    assert name_of({"name": "Kim\u202e\nNowak"}) == "Kim Nowak"
    assert name_of({"name": " \n"}) is None
    assert name_of({"name": ["Kim"]}) is None


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (["messages.view", "*"], {"messages.view"}),
        ("messages.view messages.send", {"messages.view", "messages.send"}),
        (["messages.view", 7, None], {"messages.view"}),
        ({"messages.view": True}, set()),
        (None, set()),
        ("*", set()),
    ],
)
def test_capabilities_are_words_and_everything_is_said_by_listed_issuers_alone(said: Any, found: set[str]) -> None:
    assert capabilities_of({"capabilities": said}, full=False) == found
    assert capabilities_of({"capabilities": ["*"]}) == {"*"}
