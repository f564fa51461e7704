import re
from dataclasses import replace
from typing import Any

import pytest

from libs.common.pages.static_files import FOLDER
from services.inbox.drafts import Draft
from services.inbox.html import LANGUAGES, STATIC
from services.inbox.picker import Choice, picker_of
from services.inbox.shell import Shell, counted, initials_of
from services.inbox.views import Filter, Message, Thread
from services.portal.html import STATIC as PORTAL
from tests.support.inbox_pages import GARAGE, NOW, ROWS, STORY, badge, every_page, listing, message, page, talk
from tests.support.portal_pages import KINDS
from tests.support.written_pages import CANARY, Read, text_of

ENGLISH, GERMAN, ARABIC = (LANGUAGES.of(tag) for tag in ("en-GB", "de-DE", "ar"))
PAGES = pytest.mark.parametrize("values", every_page().values(), ids=every_page().keys())
MOST_STYLE = 25 * 1024
MOST_SCRIPT_LINES = 900


@PAGES
def test_a_page_has_no_inline_style_and_no_inline_script(values: dict[str, Any]) -> None:
    for tag, attributes in Read(page(ENGLISH, **values)).elements:
        assert tag != "style"
        assert not [name for name in attributes if name == "style" or name.startswith("on")]
        if tag == "script":
            assert str(attributes["src"]).startswith("/static/")


@PAGES
def test_an_id_stands_once_in_a_page_and_what_is_named_is_there(values: dict[str, Any]) -> None:
    elements = Read(page(ENGLISH, **values)).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes in elements:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        if tag == "use":
            assert (attributes["href"] or "").removeprefix("#") in ids


@PAGES
def test_a_page_has_one_heading_above_all(values: dict[str, Any]) -> None:
    assert [tag for tag, _ in Read(page(ENGLISH, **values)).elements].count("h1") == 1


@PAGES
def test_a_page_is_in_the_language_of_the_browser(values: dict[str, Any]) -> None:
    shown = {**values, "listing": listing(filter=Filter("failed"))}
    if "talk" in shown:
        shown["talk"] = replace(shown["talk"], thread=replace(shown["talk"].thread, messages=(), hold=None))
    if "composer" in shown:
        shown["composer"] = replace(shown["composer"], picker=picker_of((), Choice(), {}), draft=Draft())
    read = Read(page(GERMAN, **shown))
    assert read.elements[0] == ("html", {"lang": "de-DE", "dir": "ltr"})
    assert not re.search(r"\b(the|your|please|message|closes)\b", read.text, re.IGNORECASE)


def test_what_people_wrote_is_text_wherever_it_stands() -> None:
    contents: list[dict[str, Any]] = [
        {"kind": "text", "text": CANARY},
        {"kind": "image", "link": f"https://acme.example/{CANARY}", "caption": CANARY, "filename": CANARY},
        {"kind": "reaction", "message_id": "x", "emoji": CANARY},
        {"kind": "location", "latitude": 1, "longitude": 1, "name": CANARY, "address": CANARY},
        {"kind": "contacts", "contacts": [{"name": {"formatted_name": CANARY}, "phones": [{"phone": CANARY}]}]},
        {"kind": "interactive", "interactive": {"body": {"text": CANARY}}},
        {"kind": "interactive", "reply": {"type": "button_reply", "title": CANARY}},
        {"kind": "button", "text": CANARY},
        {"kind": "order", "text": CANARY, "items": [{"quantity": CANARY, "product_retailer_id": CANARY}]},
        {"kind": "template", "name": CANARY, "language": CANARY, "parameters": [CANARY]},
        {"kind": "unsupported", "type": CANARY, "caption": CANARY},
        {"kind": "text", "text": CANARY, "referral": {"headline": CANARY}},
    ]
    messages: list[Message] = []
    for number, content in enumerate(contents):
        messages += [
            message(2 * number, "25 12:00", content, author=CANARY, said=CANARY, is_out=True, kind="staff",
                    status="failed", reason=CANARY, provider_code=CANARY, channel=CANARY),
            message(2 * number + 1, "25 12:00", {"kind": "reaction", "emoji": CANARY}, author=CANARY,
                    reply_to=f"00000000-0000-7000-9000-{2 * number:012}"),
        ]  # fmt: skip
    shell = Shell(CANARY, CANARY, "inbox", CANARY, view="all")
    rows = [replace(row, name=CANARY, phone=CANARY, preview=CANARY) for row in ROWS]
    written = page(
        ENGLISH,
        shell=shell,
        listing=listing(*rows, filter=Filter("all", channel=CANARY, number=CANARY, q=CANARY), refused=CANARY),
        talk=talk(*messages, name=CANARY, phone=CANARY, number=CANARY, channel=CANARY),
    )
    written += page(ENGLISH, shell=shell, listing=listing(refused=CANARY, filter=Filter(q=CANARY)))
    assert "<img" not in written
    assert "alert(1)</script" not in written
    assert "{{7*7}}" in text_of(written)
    assert len([tag for tag, _ in Read(written).elements if tag == "script"]) == 2


def test_the_badge_says_the_window_in_words() -> None:
    said = {
        "open": (badge("open", 192), "Open · closes in 3 h 12 min"),
        "closing": (badge("closing", 9), "Closing soon · 9 min left"),
        "last": (badge("closing", 0), "Closing soon · less than a minute left"),
        "expired": (badge("expired", -47), "Expired · 47 min ago"),
        "earlier": (badge("expired", -1_600), "Expired · Tue 11:27"),
        "never": (badge("never"), "Never wrote"),
    }
    for window, words in said.values():
        assert words in text_of(page(ENGLISH, talk=talk(window=window)))
    assert "Offen · schließt in 3 Std. 12 Min." in text_of(page(GERMAN, talk=talk(window=badge("open", 192))))


def test_each_row_says_its_window_its_channel_and_what_is_unread() -> None:
    written = text_of(page(ENGLISH))
    assert "Kim Larsen 14:03 Pads and discs, fitted: £284.00 with VAT 3 h 12 min , window open" in written
    assert "Hannah Cole unread 11:26" in written
    assert "22 h , window open" in written
    assert "Never wrote" in written
    labels = [dict(a).get("aria-label") for tag, a in Read(page(ENGLISH)).elements if tag == "svg"]
    assert {"Failed", "SMS", "Portal", "WhatsApp", "Waits for long"} <= set(labels)


def test_a_bridge_is_an_sms_of_the_system_linked_to_the_message_it_stands_for() -> None:
    written = page(ENGLISH, talk=talk(*STORY))
    assert f'<a class="ref" href="#m-{STORY[0].message_id}">' in written
    assert "Automatic bridge SMS Stands for the message of 09:10" in text_of(written)
    assert "1 segment · £0.0400" in text_of(written)
    alone = text_of(page(ENGLISH, talk=talk(STORY[1])))
    assert "Stands for an earlier message" in alone


def test_a_failure_has_its_sentence_and_its_code() -> None:
    failed = replace(STORY[0], reason="provider_refused", provider_code="131026", said="WhatsApp could not deliver it.")
    written = text_of(page(ENGLISH, talk=talk(failed)))
    assert "Not delivered WhatsApp could not deliver it. provider_refused · 131026" in written


@pytest.mark.parametrize(("status", "word"), [("pending", "Pending"), ("read", "Read")])
def test_what_waits_for_the_number_or_was_read_after_all_has_its_sentence_and_no_red(status: str, word: str) -> None:
    written = page(ENGLISH, talk=talk(replace(STORY[0], status=status, said="It goes out by itself.")))
    assert f"{word} Quote It goes out by itself." in text_of(written)
    assert 'class="fail"' not in written


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ("pending", "Pending"),
        ("sent", "Sent"),
        ("delivered", "Delivered"),
        ("read", "Read"),
        ("failed", "Not delivered"),
        ("hologram", "Pending"),
    ],
)
def test_a_message_of_ours_says_how_far_it_is(status: str, word: str) -> None:
    sent = message(1, "25 12:00", "Hello", is_out=True, kind="staff", author="Priya Shah", status=status)
    assert f"WhatsApp 12:00 {word}" in text_of(page(ENGLISH, talk=talk(sent)))


@pytest.mark.parametrize("content", KINDS, ids=lambda content: content["kind"])
def test_every_kind_of_message_is_shown_as_what_it_is(content: dict[str, Any]) -> None:
    written = page(ENGLISH, talk=talk(message(1, "25 12:00", content)))
    bubble = written.partition('<div class="bubble">')[2].partition("</div>")[0]
    assert text_of(f"<div>{bubble}</div>")
    assert "secret-payload" not in written
    assert "secret-wamid" not in written


def test_a_page_of_older_messages_leads_to_the_newer_ones_and_is_not_live() -> None:
    shown = talk(*STORY)
    older = replace(shown.thread, reached=None, earlier="/inbox/x?before=1", later="/inbox/x")
    written = page(ENGLISH, talk=replace(shown, thread=older))
    assert "data-follow" not in written
    assert "data-follow" in page(ENGLISH, talk=shown)
    assert {"Earlier messages", "Newest messages"} <= set(re.findall(r"(?:Earlier|Newest) messages", written))


def test_names_of_both_directions_find_their_own() -> None:
    written = page(ENGLISH, talk=talk(message(1, "25 12:00", "هل السيارة جاهزة اليوم؟", author="ليلى حداد")))
    assert '<p class="said" dir="auto">هل' in written
    assert "<bdi>ليلى حداد</bdi>" in written
    assert '<bdi class="opt" dir="ltr">+44 7700 900123</bdi>' in written


@pytest.mark.parametrize(
    ("name", "letters"),
    [("Kim Larsen", "KL"), ("Kim", "K"), ("ليلى حداد", "لح"), ("Ana de la Cruz", "AC"), (None, "•"), ("???", "•")],
)
def test_a_person_is_two_letters(name: str | None, letters: str) -> None:
    assert initials_of(name) == letters


def test_a_counter_does_not_grow_without_end() -> None:
    assert [counted(count) for count in (0, 99, 100)] == ["0", "99", "99+"]


def test_the_view_of_what_closes_soon_has_a_heading_for_each_group() -> None:
    rows = sorted((one for one in ROWS if one.window.state == "closing"), key=lambda one: str(one.window.closes_at))
    shown = page(ENGLISH, listing=replace(listing(*rows), filter=Filter("closing")))
    words = [shown.index(word) for word in ("Within 15 minutes", "9 min<", "Within the hour", "41 min<",
                                            "Within two hours", "1 h 52 min<")]  # fmt: skip
    assert words == sorted(words)
    assert "Within" not in page(ENGLISH, listing=listing(*rows))


def test_an_address_keeps_the_list_beside_the_conversation() -> None:
    narrowed = Filter("closing", channel="sms", number="1", q="golf & co")
    assert narrowed.address("/inbox/x") == "/inbox/x?view=closing&channel=sms&number=1&q=golf+%26+co"
    assert Filter().address() == "/inbox"


def test_styles_and_scripts_stay_within_what_was_set() -> None:
    styles = [file for folder in (FOLDER, STATIC, PORTAL) for file in folder.glob("*.css")]
    assert sum(len(file.read_bytes()) for file in styles) <= MOST_STYLE
    scripts = [file for folder in (FOLDER, STATIC) for file in folder.glob("*.js")]
    assert sum(len(file.read_text().splitlines()) for file in scripts) <= MOST_SCRIPT_LINES


def test_a_window_that_closes_now_is_told_in_the_thread() -> None:
    opened = message(1, "24 14:00", "Hello", opens_window=True)
    shown = talk(opened, window=badge("expired", -8), number=GARAGE)
    assert "The WhatsApp window closed · 13:59" in text_of(page(ENGLISH, talk=shown))
    assert isinstance(shown.thread, Thread)
    assert opened.at < NOW


def test_a_composer_names_a_customer_without_a_name() -> None:
    for values in every_page().values():
        if (composer := values.get("composer")) is not None:
            written = page(GERMAN, **values | {"composer": replace(composer, name="")})
            assert "<bdi></bdi>" not in written
            assert not re.search(r'placeholder="[^"]*(  |an "|an$)', written)
