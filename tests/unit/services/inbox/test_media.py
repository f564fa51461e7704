from collections.abc import AsyncIterator

import pytest

from services.inbox.media import MediaFile, StoredFile, headers_of, is_metas

GRAPH = "https://graph.facebook.com"


async def nothing() -> AsyncIterator[bytes]:
    yield b""


@pytest.mark.parametrize(
    ("address", "is_ours"),
    [
        ("https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1", True),
        ("https://scontent.xx.fbcdn.net/v/1", True),
        ("https://graph.facebook.com/1", True),
        ("https://lookaside.fbsbx.com:443/x", True),
        ("http://lookaside.fbsbx.com/x", False),
        ("https://lookaside.fbsbx.com:8443/x", False),
        ("https://evilfbsbx.com/x", False),
        ("https://fbsbx.com.evil.example/x", False),
        ("https://fbsbx.com@evil.example/x", False),
        ("https://user:key@lookaside.fbsbx.com/x", False),
        ("https://169.254.169.254/latest/meta-data", False),
        ("https://[::1]/x", False),
        ("//lookaside.fbsbx.com/x", False),
        ("file:///etc/passwd", False),
        ("https://lookaside.fbsbx.com:port/x", False),
        ("", False),
    ],
)
def test_only_metas_hosts_are_asked_with_the_token(address: str, is_ours: bool) -> None:  # noqa: FBT001
    assert is_metas(address, GRAPH) == is_ours


def test_on_one_machine_the_graph_of_the_settings_is_meta() -> None:
    assert is_metas("http://127.0.0.1:8090/files/1", "http://127.0.0.1:8090")
    assert not is_metas("http://127.0.0.1:8091/files/1", "http://127.0.0.1:8090")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("estimate.pdf", "estimate.pdf"),
        ('a"; filename=x.html\r\nSet-Cookie: a=b', "a%3B%20filename%3Dx.htmlSet-Cookie%3A%20a%3Db"),
        ("../../etc/passwd", "....etcpasswd"),
        ("Rechnung März.pdf", "Rechnung%20M%C3%A4rz.pdf"),
        ("\r\n", "file"),
        (None, "image.jpg"),
    ],
)
def test_a_file_is_a_download_whatever_its_name(name: str | None, shown: str) -> None:
    headers = headers_of(StoredFile("1", "image", name, None), MediaFile("image/jpeg", 7, nothing()))
    assert headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{shown}"
    assert headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert headers["X-Content-Type-Options"] == "nosniff"
