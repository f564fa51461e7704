"""What a request says of where it comes from: its origin, its host, its client's address."""

import pytest

from libs.common.pages.origins import client_address, is_loopback_host, names_host
from libs.common.portal_host import PortalOrigin

OURS = PortalOrigin("https", "tflow.link")
LOCAL = PortalOrigin("http", "127.0.0.1:8085")


@pytest.mark.parametrize(
    ("header", "ours", "named"),
    [
        ("tflow.link", OURS, True),
        ("TFlow.Link", OURS, True),
        ("tflow.link:443", OURS, True),
        ("tflow.link:80", OURS, False),
        ("tflow.link.", OURS, False),
        ("a.tflow.link", OURS, False),
        ("tflow.link@evil.example", OURS, False),
        ("127.0.0.1:8085", LOCAL, True),
        ("127.0.0.1", LOCAL, False),
        ("", LOCAL, False),
    ],
)
def test_a_host_is_ours_in_one_spelling(header: str, ours: PortalOrigin, named: bool) -> None:  # noqa: FBT001
    assert names_host(header, ours) is named


@pytest.mark.parametrize(
    "header", ["localhost", "LOCALHOST:80", "a.localhost:1", "127.0.0.1", "127.0.0.9:8", "[::1]:8"]
)
def test_this_machine_has_many_names(header: str) -> None:
    assert is_loopback_host(header.lower())


@pytest.mark.parametrize("header", ["localhost.evil.example", "10.0.0.1:80", "tflow.link", "[2001:db8::1]", "", ":80"])
def test_no_other_machine_is_this_one(header: str) -> None:
    assert not is_loopback_host(header)


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "found"),
    [
        ("192.0.2.1", [], 0, "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], 0, "192.0.2.1"),  # nobody is trusted
        ("10.0.0.1", ["198.51.100.66, 203.0.113.9"], 1, "203.0.113.9"),  # the client wrote the first one itself
        ("10.0.0.1", ["198.51.100.66", "203.0.113.9", "10.0.0.2"], 2, "203.0.113.9"),
        ("192.0.2.1", ["203.0.113.9"], 2, "192.0.2.1"),  # it came past a proxy
        ("192.0.2.1", ["nonsense"], 1, "192.0.2.1"),
        ("10.0.0.1", ["203.0.113.9:50000"], 1, "203.0.113.9"),
        ("10.0.0.1", ["[2001:db8:1:2::9]:50000"], 1, "2001:db8:1:2::/64"),
        ("10.0.0.1", ["[2001:db8:1:2::9]"], 1, "2001:db8:1:2::/64"),
        ("", [], 0, "unknown"),
        ("2001:db8:1:2:3:4:5:6", [], 0, "2001:db8:1:2::/64"),
        ("2001:db8:1:2::ffff", [], 0, "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", [], 0, "192.0.2.1"),
    ],
)
def test_the_client_is_whom_the_last_trusted_proxy_saw(
    peer: str, forwarded: list[str], proxies: int, found: str
) -> None:
    assert client_address(peer, forwarded, proxies) == found
