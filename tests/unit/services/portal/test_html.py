import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.pages.static_files import StaticFiles
from services.portal.html import PAGE_BYTES, REFUSALS, Html
from services.portal.html import STATIC as STATIC_FOLDER
from services.portal.languages import language_of
from services.portal.views import Garage, Page, TroublePage
from tests.support.portal_pages import ACME, KINDS, NOW, STORY, every_page, shown, thread
from tests.support.written_pages import CANARY, Read, text_of

STATIC = StaticFiles(STATIC_FOLDER)
HTML = Html(STATIC)
ENGLISH, GERMAN = language_of("en-GB"), language_of("de-DE")


PAGES = pytest.mark.parametrize("page", every_page().values(), ids=every_page().keys())


@PAGES
def test_a_page_has_no_inline_style_and_no_inline_script(page: Page) -> None:
    for tag, attributes in Read(HTML.page(page, ENGLISH)).elements:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        if tag == "script":
            assert str(attributes["src"]).startswith("/static/")


@PAGES
def test_a_page_asks_no_third_party_for_anything(page: Page) -> None:
    for tag, attributes in Read(HTML.page(page, ENGLISH)).elements:
        if tag in {"link", "script", "img", "use", "form"}:
            address = attributes.get("href") or attributes.get("src") or attributes.get("action") or ""
            assert not re.match(r"(\w+:)?//", address)
        elif tag == "a" and (address := attributes["href"] or "").startswith("http"):
            assert attributes["rel"] == "noopener noreferrer nofollow"


@PAGES
def test_an_id_stands_once_in_a_page(page: Page) -> None:
    ids = [attributes["id"] for _, attributes in Read(HTML.page(page, ENGLISH)).elements if "id" in attributes]
    assert len(ids) == len(set(ids))


@PAGES
def test_a_page_is_in_the_language_of_the_browser(page: Page) -> None:
    read = Read(HTML.page(page, GERMAN))
    assert read.elements[0] == ("html", {"lang": "de-DE", "dir": "ltr"})
    assert not re.search(r"\b(the|your|please|message)\b", Read(HTML.page(strip(page), GERMAN)).text, re.IGNORECASE)


def strip(page: Page) -> Page:
    """A page without what people wrote."""
    if isinstance(page, TroublePage):
        return replace(page, unsent=None)
    if hasattr(page, "messages"):
        return replace(page, messages=(), text="")  # type: ignore[arg-type]
    return page


def test_what_people_wrote_is_text_wherever_it_stands() -> None:
    contents: list[dict[str, Any]] = [
        {"kind": "text", "text": CANARY},
        {"kind": "image", "link": f"https://acme.example/{CANARY}", "caption": CANARY, "filename": CANARY},
        {"kind": "reaction", "message_id": "x", "emoji": CANARY},
        {"kind": "location", "latitude": 1, "longitude": 1, "name": CANARY, "address": CANARY},
        {"kind": "contacts", "contacts": [{"name": {"formatted_name": CANARY}, "phones": [{"phone": CANARY}]}]},
        {"kind": "interactive", "interactive": {"body": {"text": CANARY}}},
        {"kind": "unsupported", "type": "x", "caption": CANARY},
    ]
    messages = [shown(number, "you", content, "25 12:00") for number, content in enumerate(contents)]
    garage = Garage(CANARY, CANARY)
    for page in (thread(*messages, garage=garage, text=CANARY, refusal="empty"), *every_page().values()):
        named = replace(page, garage=garage) if page.garage else page
        written = HTML.page(named, ENGLISH)
        assert "<img" not in written
        assert "alert(1)</script" not in written
        assert "49" not in text_of(written)
        assert len([tag for tag, _ in Read(written).elements if tag == "script"]) == 1


@pytest.mark.parametrize("name", ["open", "open-button"])
def test_before_the_session_a_page_names_the_garage_and_nobody_else(name: str) -> None:
    written = HTML.page(every_page()[name], ENGLISH)
    assert "AcmeMotors has an update for you" in text_of(written)
    assert "900" not in written
    assert ("data-by-itself" in written) == (name == "open")


def test_without_an_own_host_the_gone_page_names_nobody() -> None:
    written = HTML.page(every_page()["gone-elsewhere"], ENGLISH)
    assert "AcmeMotors" not in written
    assert "wa.me" not in written
    assert "Text me a new link" in text_of(written)


def test_the_thread_shows_no_price_no_code_and_no_id_of_a_provider() -> None:
    messages = [shown(number, "garage", content, "25 12:00") for number, content in enumerate(KINDS, 1)]
    assert "secret" not in HTML.page(thread(*messages), ENGLISH)


def test_days_stand_once_between_the_messages_of_the_garages_zone() -> None:
    messages = [
        shown(1, "you", "a", "24 22:30"),
        shown(2, "you", "b", "24 23:30"),
        shown(3, "you", "c", "25 09:00"),
    ]
    berlin = Garage("Werkstatt", "+4930123456")
    written = text_of(HTML.page(thread(*messages, garage=berlin), GERMAN))
    assert re.findall(r"Gestern|Heute|\d\d:\d\d", written) == ["Gestern", "23:30", "Heute", "00:30", "10:00"]


@given(st.lists(st.integers(1, 9_000), min_size=1, max_size=60), st.sampled_from(["x", "😀", "<", "'"]))
def test_a_page_with_its_files_stays_within_its_bytes(lengths: list[int], letter: str) -> None:
    messages = [shown(number, "you", letter * length, "25 12:00") for number, length in enumerate(lengths)]
    written = HTML.page(thread(*messages), GERMAN)
    assert len(written.encode()) + files() <= PAGE_BYTES
    count = written.count(' id="m-')
    assert 1 <= count <= len(lengths)
    assert ("?before=" in written) == (count < len(lengths))
    if count < len(lengths):
        assert f"?before=p{len(lengths) - count}" in written


def files() -> int:
    return sum(len(file.plain) for file in STATIC.files())


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_text_stays_in_the_field_beside_the_sentence(refusal: str) -> None:
    written = HTML.page(thread(text="\n Yes & go", refusal=refusal), ENGLISH)
    assert "\n\n Yes &amp; go</textarea>" in written  # the first line end belongs to the element
    (said,) = [attributes for _, attributes in Read(written).elements if attributes.get("role") == "alert"]
    assert "hidden" not in said
    assert REFUSALS[refusal] in Read(written).text  # type: ignore[index]


def test_while_a_server_is_away_what_was_written_can_be_sent_from_its_page() -> None:
    written = HTML.page(every_page()["away-unsent"], ENGLISH)
    assert "\nYes please, go ahead.</textarea>" in written
    assert ("form", {"method": "post", "action": "/conversation/messages", "class": "kept"}) in Read(written).elements
    assert 'id="again"' not in written  # the page does not go on by itself


def test_an_event_has_the_message_as_the_page_writes_it() -> None:
    message = STORY[1]
    event = HTML.event(message, ACME, GERMAN, "7-1")
    assert event.startswith("id: 7-1\nevent: message\ndata: {")
    assert event.endswith("}\n\n")
    assert event.count("\n") == 4
    data = orjson.loads(event.split("data: ")[1])
    assert data["id"] == message.message_id
    assert data["html"] in HTML.page(thread(message), GERMAN)


def test_a_message_that_cannot_be_newer_is_marked_with_its_instant() -> None:
    late = replace(STORY[0], at=NOW + timedelta(days=1))
    assert 'datetime="2026-11-26T14:05:00Z"' in HTML.page(thread(late), ENGLISH)
