"""The portal refuses keys that can be guessed, and is on loopback alone where its address is not configured."""

import pytest

from libs.common.errors import ConfigurationError
from libs.common.settings import load
from services.portal.settings import PortalServiceSettings

KEY = "k" * 32


def settings(monkeypatch: pytest.MonkeyPatch, **values: str) -> PortalServiceSettings:
    for name, value in {"PORTAL_LINK_KEYS": KEY, **values}.items():
        monkeypatch.setenv(f"TRANSOM_{name}", value)
    return load(PortalServiceSettings)


def test_without_an_address_it_listens_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = settings(monkeypatch, HTTP_HOST="0.0.0.0")
    assert (alone.http_host, alone.platform) == ("127.0.0.1", None)
    open_to_all = settings(monkeypatch, PORTAL_URL="https://tflow.link")
    assert (open_to_all.http_host, str(open_to_all.platform)) == ("0.0.0.0", "https://tflow.link")


@pytest.mark.parametrize("keys", ["", "x", "k" * 31, f"{KEY},short", "\t", ",,"])
def test_a_key_that_can_be_guessed_is_refused(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    with pytest.raises(ConfigurationError, match="TRANSOM_PORTAL_LINK_KEYS"):
        settings(monkeypatch, PORTAL_LINK_KEYS=keys)


@pytest.mark.parametrize("url", ["http://tflow.link", "https://tflow.link/path", "https://10.0.0.1", "ftp://x.y"])
def test_an_address_that_customers_cannot_use_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    with pytest.raises(ConfigurationError, match="TRANSOM_PORTAL_URL"):
        settings(monkeypatch, PORTAL_URL=url)


@pytest.mark.parametrize("hops", ["-1", "17", "one"])
def test_a_count_of_proxies_is_a_small_number(monkeypatch: pytest.MonkeyPatch, hops: str) -> None:
    with pytest.raises(ConfigurationError, match="TRANSOM_TRUSTED_PROXIES"):
        settings(monkeypatch, TRUSTED_PROXIES=hops)
