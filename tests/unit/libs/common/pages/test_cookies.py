"""Cookies are strict by configuration, and a form's token is good with its own cookie, host and purpose alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.pages.cookies import FormTokens, Kind, as_bytes, as_text, cookie_in, cookie_name, set_cookie
from libs.common.portal_host import PortalOrigin

HTTPS, HTTP = PortalOrigin("https", "tflow.link"), PortalOrigin("http", "localhost:8085")
COOKIE, OTHER = b"c" * 32, b"o" * 32
TOKENS = FormTokens([b"k" * 32, b"older" * 8])


@given(raw=st.binary(min_size=32, max_size=32))
def test_an_id_survives_its_cookie(raw: bytes) -> None:
    assert as_bytes(as_text(raw)) == raw


@pytest.mark.parametrize("text", [None, "", "x", "x" * 43, "é" * 43, as_text(b"a" * 31), as_text(b"a" * 33), "=" * 43])
def test_anything_else_is_no_id(text: str | None) -> None:
    assert as_bytes(text) is None


def test_the_prefix_and_secure_follow_the_configured_scheme() -> None:
    assert cookie_name("session", HTTPS) == "__Host-transom-session"
    assert set_cookie("session", "v", HTTPS, max_age=60).endswith("HttpOnly; SameSite=Strict; Secure; Max-Age=60")
    assert set_cookie("inbox", "v", HTTPS) == "__Host-transom-inbox=v; Path=/; HttpOnly; SameSite=Lax; Secure"
    assert set_cookie("visit", "v", HTTP) == "transom-visit=v; Path=/; HttpOnly; SameSite=Strict"


@pytest.mark.parametrize(
    ("kind", "cookie", "host", "good"),
    [
        ("visit", COOKIE, "tflow.link", True),
        ("session", COOKIE, "tflow.link", False),
        ("visit", OTHER, "tflow.link", False),
        ("visit", COOKIE, "portal.example", False),
    ],
)
def test_a_token_is_bound(kind: Kind, cookie: bytes, host: str, good: bool) -> None:  # noqa: FBT001
    assert TOKENS.is_good(TOKENS.token("visit", COOKIE, "tflow.link"), kind, cookie, host) is good


def test_a_token_of_an_older_key_is_good_and_a_missing_one_never() -> None:
    before = FormTokens([b"older" * 8]).token("visit", COOKIE, "h")
    assert TOKENS.is_good(before, "visit", COOKIE, "h")
    for token in (None, "", "x" * 43):
        assert not TOKENS.is_good(token, "visit", COOKIE, "h")


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        ([], None),
        (["b=2; a=1"], "1"),
        (["b=2", " a = 1 ;"], "1"),
        (["a=1; a=2"], "2"),
        (["a; aa=1; =a"], None),
        (["a=x=y"], "x=y"),
        (['a="x=y"'], "x=y"),
        (['a="'], '"'),
        ([r'a="\"1\""'], r"\"1\""),
    ],
)
def test_a_cookie_is_taken_as_it_was_sent(headers: list[str], value: str | None) -> None:
    assert cookie_in(headers, "a") == value
