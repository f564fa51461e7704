"""The bridge SMS is one segment with both links whole, whatever the organisation is called."""

# ruff: noqa: RUF001 -- look-alikes are the subject

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.gsm7 import EXTENSION, fits, segments, septets
from services.sms_bridge.compose import Composed, Unwritable, compose

CODE = "aZ09bY18cX7"
HOSTS = st.from_regex(r"[a-z][a-z0-9]{0,20}\.[a-z]{2,10}", fullmatch=True) | st.sampled_from(
    ["x" * 57 + ".io", "acme.localhost:65535", "xn--mller-kva.example"]
)
NUMBERS = st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True)


def a_bridge(
    org_name: str = "AcmeMotors", whatsapp_number: str = "+447700900123", portal_host: str = "tflow.link"
) -> Composed:
    composed = compose(org_name=org_name, whatsapp_number=whatsapp_number, portal_host=portal_host, code=CODE)
    assert isinstance(composed, Composed)
    return composed


def test_the_text_is_as_promised() -> None:
    assert a_bridge().text == (
        "AcmeMotors: Update for you. WhatsApp: wa.me/447700900123 Portal: tflow.link/aZ09bY18cX7"
    )


@given(org_name=st.text(alphabet=st.characters()), whatsapp_number=NUMBERS, portal_host=HOSTS)
def test_any_name_makes_one_segment_with_whole_links(org_name: str, whatsapp_number: str, portal_host: str) -> None:
    text = a_bridge(org_name, whatsapp_number, portal_host).text
    assert fits(text)
    assert septets(text) <= 160
    assert segments(text) == 1
    assert "\n" not in text
    assert "\r" not in text
    assert text.endswith(f"Update for you. WhatsApp: wa.me/{whatsapp_number[1:]} Portal: {portal_host}/{CODE}")


# What phones make links of: domains and addresses with what hangs on them, and seven digits in however many groups.
_LINKS = re.compile(
    r"\w+://\S+|(?:[\w.+-]+@)?\w(?:[\w-]*\.)+(?:[^\W\d_]{2,}|localhost)(?::\d+)?(?:/\S*)?|\d+(?:\.\d+){3}\S*",
    re.IGNORECASE,
)
_NUMBERS = re.compile(r"(?:\d[\s().,/-]*){7,}")


def links_of(text: str) -> tuple[list[str], list[str]]:
    return _LINKS.findall(text), _NUMBERS.findall(_LINKS.sub(" ", text))


@given(
    org_name=st.text()
    | st.lists(
        st.sampled_from(
            [
                *(
                    "evil",
                    "com",
                    ".",
                    "．",
                    "。",
                    "/",
                    ":",
                    "@",
                    "+",
                    "www",
                    "http",
                    "://",
                    "wa.me",
                    " ",
                    "-",
                    "(",
                    "\u202e",
                ),
                *("0", "77", "009", "٣", "1.2.3.4", "€", "é", "Bank", "tflow.link", "ｅvil．com", "\n", "\\"),
            ]
        ),
        max_size=12,
    ).map("".join)
)
def test_a_phone_finds_our_two_links_in_the_text_and_nothing_else(org_name: str) -> None:
    text = a_bridge(org_name).text
    assert links_of(text) == (["wa.me/447700900123", f"tflow.link/{CODE}"], [])


def test_the_finder_of_links_finds_them() -> None:
    found = "see evil.com/x or http://a or 1.2.3.4 or kim@evil.example, call 020 7946 0000"
    assert links_of(found) == (["evil.com/x", "http://a", "1.2.3.4", "kim@evil.example"], ["020 7946 0000"])


@pytest.mark.parametrize(
    ("org_name", "written"),
    [
        ("PayPal: confirm at paypa1.example/kim", "PayPal confirm at paypa1. example kim"),
        ("wa.me/8821612345678 or", "wa. me or"),
        ("evil．com／x", "evil. com x"),
        ("Acme\u202emoc.live", "Acmemoc. live"),
        ("Bank +882 16 12345678", "Bank"),
        ("www.acme.de", "acme. de"),
        ("J.D. Motors Ltd.", "J. D. Motors Ltd."),
        ("Garage 24, 020 7", "Garage 24, 020 7"),
    ],
)
def test_a_name_brings_no_link_and_no_number(org_name: str, written: str) -> None:
    assert a_bridge(org_name).text.startswith(f"{written}: Update for you.")


@pytest.mark.parametrize(
    "org_name",
    [
        "x" * 10_000,
        "€" * 10_000,
        "🚗" * 10_000,
        "".join(sorted(EXTENSION)) * 50,
        "\r\n" * 500 + "A",
        "ﷺ" * 900,
        "…" * 900,
    ],
)
def test_a_monstrous_name_is_cut_and_the_links_are_not(org_name: str) -> None:
    text = a_bridge(org_name).text
    assert septets(text) <= 160
    assert text.endswith("wa.me/447700900123 Portal: tflow.link/aZ09bY18cX7")


@given(org_name=st.text(min_size=30), portal_host=HOSTS)
def test_a_name_has_at_most_forty_septets_and_is_cut_before_a_link_is(org_name: str, portal_host: str) -> None:
    text = a_bridge(org_name, "+123456789012345", portal_host).text
    assert septets(text.partition("Update for you.")[0]) <= 40 + len(": ")


def test_the_longest_links_leave_room_for_a_name() -> None:
    text = a_bridge("x" * 300, "+123456789012345", "x" * 57 + ".io").text
    assert text.startswith("x" * 20)
    assert septets(text) == 160


@pytest.mark.parametrize("org_name", ["", "   ", "🚗🔧", "⠃♥", "\x1b\x00", "+44 20 7946 0000", "://"])
def test_a_name_of_which_nothing_can_be_written_leaves_no_colon_behind(org_name: str) -> None:
    assert a_bridge(org_name).text == "Update for you. WhatsApp: wa.me/447700900123 Portal: tflow.link/aZ09bY18cX7"


@given(org_name=st.text(max_size=60))
def test_the_thread_never_sees_the_code(org_name: str) -> None:
    composed = a_bridge(org_name)
    assert CODE not in composed.masked
    assert composed.masked == composed.text.removesuffix(CODE) + "*" * 11


@pytest.mark.parametrize(
    ("configured", "written"),
    [
        ("https://tflow.link", "tflow.link"),
        ("https://TFlow.link/", "tflow.link"),
        ("straße.de", "xn--strae-oqa.de"),
        ("http://127.0.0.1:8095", "127.0.0.1:8095"),
        ("müller.example", "xn--mller-kva.example"),
    ],
)
def test_a_portal_address_is_written_without_scheme_and_slash(configured: str, written: str) -> None:
    assert f"Portal: {written}/{CODE}" in a_bridge(portal_host=configured).text


@pytest.mark.parametrize(
    ("whatsapp_number", "portal_host", "why"),
    [
        ("", "tflow.link", "whatsapp_number_unusable"),
        ("call us", "tflow.link", "whatsapp_number_unusable"),
        ("+447700900123", "", "portal_host_unusable"),
        ("+447700900123", "two words", "portal_host_unusable"),
        ("+447700900123", "evil.link/?x=1", "portal_host_unusable"),
        ("+447700900123", "a\nb", "portal_host_unusable"),
        ("+447700900123", "ü" * 300, "portal_host_unusable"),
        ("+447700900123", "evil.example/login", "portal_host_unusable"),
        ("+447700900123", "127.0.0.1:8080/x", "portal_host_unusable"),
        ("+447700900123", "wa.me", "portal_host_unusable"),
        ("+447700900123", "http://tflow.link", "portal_host_unusable"),
        ("+447700900123", ".".join(["a" * 30] * 4), "portal_host_unusable"),
    ],
)
def test_links_that_cannot_be_written_are_said_and_never_cut(whatsapp_number: str, portal_host: str, why: str) -> None:
    assert compose(org_name="Acme", whatsapp_number=whatsapp_number, portal_host=portal_host, code=CODE) == Unwritable(
        why
    )


@given(portal_host=st.text(), whatsapp_number=st.text())
def test_no_directory_entry_can_break_the_composer(portal_host: str, whatsapp_number: str) -> None:
    composed = compose(org_name="Acme", whatsapp_number=whatsapp_number, portal_host=portal_host, code=CODE)
    assert isinstance(composed, Unwritable) or septets(composed.text) <= 160


def test_without_a_whatsapp_number_the_text_leads_to_the_portal_alone() -> None:
    composed = compose(org_name="Acme", whatsapp_number=None, portal_host="tflow.link", code=CODE)
    assert isinstance(composed, Composed)
    assert composed.text == f"Acme: Update for you. Portal: tflow.link/{CODE}"
