"""What could be fetched is an address, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.urls import is_url


@pytest.mark.parametrize(
    "taken",
    [
        "https://acme.example",
        "http://acme.example/",
        "HTTPS://ACME.EXAMPLE/A.JPG",
        "https://acme.example:8443/golf.jpg?size=2#top",
        "https://acme.example:/golf.jpg",
        "https://acme.example:65535/",
        "https://kim:secret@acme.example/golf.jpg",
        "https://münchen.example/prüfung.pdf",
        "https://192.0.2.7/golf.jpg",
        "https://[2001:db8::7]:8080/golf.jpg",
        "https://under_score.example/a%20b.pdf",
        "https://acme.example/a|b{c}.pdf",
    ],
)
def test_what_could_be_fetched_is_an_address(taken: str) -> None:
    assert is_url(taken)


@pytest.mark.parametrize(
    "refused",
    [
        "",
        "acme.example/golf.jpg",
        "ftp://acme.example/golf.jpg",
        "https://",
        "https:///golf.jpg",
        "https://?golf",
        "https://#golf",
        "https://:443/golf.jpg",
        "https://kim@/golf.jpg",
        "https://acme.example:99999/golf.jpg",
        "https://acme.example:0/golf.jpg",
        "https://acme.example:https/golf.jpg",
        "https://acme.example:-1/golf.jpg",
        "https://acme .example/golf.jpg",
        "https://acme.example/my golf.jpg",
        "https://acme.example/my\u00a0golf.jpg",
        "https://acme.example/golf.jpg\n",
        "https://acme.example/a\ufffdb.jpg",
        "https://[acme]/golf.jpg",
        "https://[2001:db8::7/golf.jpg",
    ],
)
def test_what_nobody_could_fetch_is_none(refused: str) -> None:
    assert not is_url(refused)


@given(st.text())
def test_any_text_is_judged(text: str) -> None:
    assert is_url(text) in (True, False)
    assert is_url(f"https://{text}") in (True, False)


@given(st.characters(max_codepoint=0x20) | st.just("\x7f"), st.integers(0, 20))
def test_no_control_character_is_in_an_address(character: str, place: int) -> None:
    address = "https://acme.example/golf.jpg"
    assert not is_url(address[:place] + character + address[place:])
