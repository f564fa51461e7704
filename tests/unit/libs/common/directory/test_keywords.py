"""Which whole texts are keywords, and that nothing else is one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.directory.keywords import keyword_of


@pytest.mark.parametrize(
    "text",
    [
        "STOP",
        "stop",
        " Stop. ",
        "STOP!!!",
        "“stop”",
        "Stop all",
        "STOPALL",
        "Unsubscribe",
        "opt-out",
        "OPT OUT",
        "optout",
        "STOPP",
        "Arrêt",
        "ARRET",
        "\uff33\uff34\uff2f\uff30",
        "STOP 🛑",
        "\u200bstop\u200b",
        "Stop promotions",
        "stop\n",
        "Abmelden",
        "baja",
        "SAIR",
        "stop" + " " * 60,
    ],
)  # fmt: skip -- a list
def test_these_ask_to_stop(text: str) -> None:
    assert keyword_of(text) == "stop"


@pytest.mark.parametrize("text", ["START", "start!", "Unstop", "subscribe", "opt-in"])
def test_these_ask_to_start(text: str) -> None:
    assert keyword_of(text) == "start"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "Please stop by tomorrow",
        "stop it",
        "don't stop",
        "non-stop",
        "The start",
        "nonstop",
        "Cancel",
        "END",
        "quit",
        "yes",
        "no",
        "s t o p",
        "stop stop",
        "bus stop",
        "Startseite",
        "☎",
        "stop" + " " * 61,
    ],
)  # fmt: skip -- a list
def test_these_are_words_like_any_others(text: str) -> None:
    assert keyword_of(text) is None


@given(st.text())
def test_any_text_can_be_asked(text: str) -> None:
    assert keyword_of(text) in {None, "stop", "start"}
