"""A portal's host has one spelling, that of browsers, and is a host alone."""

# ruff: noqa: RUF001 -- look-alikes are the subject

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.portal_host import MOST_CHARACTERS, organisation_host, origin_of, platform_origin


@pytest.mark.parametrize(
    ("named", "host"),
    [
        ("tflow.link", "tflow.link"),
        ("TFlow.Link", "tflow.link"),
        ("straße.de", "xn--strae-oqa.de"),
        ("faß.example", "xn--fa-hia.example"),
        ("müller.example", "xn--mller-kva.example"),
        ("xn--mller-kva.example", "xn--mller-kva.example"),
        ("ｅvil．com", "evil.com"),
        ("a1.portal-2.example", "a1.portal-2.example"),
        ("localhost:8095", "localhost:8095"),
        ("acme.localhost:8095", "acme.localhost:8095"),
    ],
)
def test_a_host_is_written_as_browsers_write_it(named: str, host: str) -> None:
    assert organisation_host(named) == host


@pytest.mark.parametrize(
    "named",
    [
        *("", " ", "tflow.link ", "two words", "a\nb", "tflow.link.", ".tflow.link", "a..b", "tflow"),
        *(
            "https://tflow.link",
            "tflow.link/p",
            "evil.example/login",
            "tflow.link?x=1",
            "kim@tflow.link",
            "tflow.link#",
        ),
        *("tflow.link:443", "127.0.0.1:8080/x", "127.0.0.1", "127.0.0.1:8080", "127.1", "2130706433", "0x7f.0.0.0x1"),
        *("１２７.0.0.1", "[::1]", "::1", "localhost", "localhost:0", "localhost:99999", "localhost:x", "localhost:٣"),
        *("wa.me", "WA.ME", "x.wa.me", "web.whatsapp.com", "under_score.example", "-a.example", "xn--a.example"),
        *("a" * 60 + ".link", "ü" * 300, "a\u202eb.example", "\ud800.example", "a" * 100_000),
    ],
)
def test_what_is_no_host_of_the_internet_is_refused(named: str) -> None:
    with pytest.raises(ValueError, match=r"host|port|localhost"):
        organisation_host(named)


@given(st.text(max_size=80))
def test_whatever_is_named_is_refused_or_has_its_one_spelling(named: str) -> None:
    try:
        host = organisation_host(named)
    except ValueError:
        return
    assert len(host) <= MOST_CHARACTERS
    assert set(host) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-:")
    assert organisation_host(host) == host
    assert origin_of(host).host == host
    assert str(platform_origin(str(origin_of(host)))) == str(origin_of(host))


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://tflow.link", "https://tflow.link"),
        ("https://TFLOW.link/", "https://tflow.link"),
        ("https://straße.de", "https://xn--strae-oqa.de"),
        ("http://127.0.0.1:8095", "http://127.0.0.1:8095"),
        ("http://[::1]:8095/", "http://[::1]:8095"),
        ("http://localhost:8095", "http://localhost:8095"),
        ("https://127.0.0.1:8443", "https://127.0.0.1:8443"),
    ],
)
def test_the_platform_s_portal_is_https_but_on_this_machine(url: str, origin: str) -> None:
    assert str(platform_origin(url)) == origin


@pytest.mark.parametrize(
    "url",
    [
        *("http://tflow.link", "https://tflow.link:8443", "http://10.0.0.1:80", "https://10.0.0.1", "ftp://tflow.link"),
        *("https://tflow.link/p", "https://tflow.link?x", "https://a@tflow.link", "https://", "tflow.link", ""),
        *("https://wa.me", "https://tflow.link:99999", "https://[::1", "https://" + "a" * 60 + ".link"),
    ],
)
def test_another_address_of_the_platform_is_refused_and_not_quoted(url: str) -> None:
    with pytest.raises(ValueError, match=r"must|host|address") as raised:
        platform_origin(url)
    assert "tflow.link:" not in str(raised.value)
