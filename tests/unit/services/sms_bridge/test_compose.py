"""The bridge SMS is one segment with both links whole, whatever the organisation is called."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.gsm7 import EXTENSION, fits, segments, septets
from services.sms_bridge.compose import Composed, Unwritable, compose

CODE = "aZ09bY18cX7"
HOSTS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?\.[a-z]{2,20}(:[0-9]{2,5})?", fullmatch=True)
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


def test_a_long_name_uses_the_room_there_is() -> None:
    assert septets(a_bridge("x" * 300).text) == 160


@pytest.mark.parametrize("org_name", ["", "   ", "🚗🔧", "东京", "\x1b\x00"])
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
        ("HTTP://tflow.link/", "tflow.link"),
        ("http://127.0.0.1:8095", "127.0.0.1:8095"),
        ("tflow.link/p", "tflow.link/p"),
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
        ("+447700900123", ".".join(["a" * 30] * 4), "portal_host_too_long"),
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
