from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.pages.entries import entry_of
from services.inbox.contents import entry_for_staff, origin_of
from services.inbox.words import words_of_content
from tests.support.portal_pages import KINDS


@pytest.mark.parametrize("content", KINDS, ids=lambda content: content["kind"])
def test_every_kind_has_something_to_see(content: dict[str, Any]) -> None:
    entry = entry_for_staff(content)
    assert entry.label or entry.text


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ({"kind": "order", "items": [{"product_retailer_id": "wiper-2", "quantity": 2}, {"quantity": 1}, "x"]},
         ("2 \N{MULTIPLICATION SIGN} wiper-2",)),
        ({"kind": "template", "name": "ready", "language": "de", "parameters": ["Kim", "16:00"]}, ("Kim", "16:00")),
        ({"kind": "template", "name": "ready", "language": "de", "parameters": {"name": "Kim"}}, ("Kim",)),
    ],
)  # fmt: skip
def test_an_order_has_its_articles_and_a_template_its_values(content: dict[str, Any], options: tuple[str, ...]) -> None:
    assert entry_for_staff(content).options == options


def test_a_template_with_its_words_is_those_words() -> None:
    content = {"kind": "template", "name": "ready", "language": "de", "parameters": [], "text": "Ihr Golf ist fertig."}
    assert entry_for_staff(content).text == "Ihr Golf ist fertig."
    assert entry_for_staff(content).label is None


@pytest.mark.parametrize(("type_", "code"), [("unsupported", 131060), ("view_once", 131051)])
def test_a_photo_to_be_seen_once_is_said_to_be_one(type_: str, code: int) -> None:
    entry = entry_for_staff({"kind": "unsupported", "type": type_, "errors": [{"code": code}]})
    assert entry.label == "A view-once photo or video: WhatsApp does not hand it to us"


@pytest.mark.parametrize("type_", ["erased", "poll"])
def test_a_message_that_was_erased_says_so_and_no_word_of_it_is_found(type_: str) -> None:
    content = {"kind": "unsupported", "type": type_, "erased": True}
    assert entry_for_staff(content).label == entry_of(content).label == "This message was erased"
    assert words_of_content(content) == []


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ({"kind": "text", "text": "Hi"}, None),
        ({"kind": "text", "text": "Hi", "forwarded": True}, ("Forwarded", "")),
        ({"referral": {"headline": "Winter tyres"}}, ("From an advertisement: %(name)s", "Winter tyres")),
        ({"referral": {"headline": 7}}, ("From an advertisement", "")),
        ({"referred_product": {"product_retailer_id": "wiper-2"}}, ("About the article: %(name)s", "wiper-2")),
        ({"referred_product": {"catalog_id": "7"}}, None),
    ],
)
def test_a_message_says_where_it_came_from(content: dict[str, Any], shown: tuple[str, str] | None) -> None:
    assert origin_of(content) == shown


@given(
    st.dictionaries(
        st.sampled_from(["kind", "items", "parameters", "errors", "reply", "text", "name", "referral", "forwarded",
                         "referred_product"]),
        st.sampled_from(["order", "template", "unsupported", "interactive", "bridge"])
        | st.none() | st.integers() | st.text() | st.lists(st.none() | st.dictionaries(st.text(), st.integers())),
    )
)  # fmt: skip
def test_nothing_that_is_stored_breaks_a_page(content: dict[str, Any]) -> None:
    entry = entry_for_staff(content)
    assert entry.label or entry.text
    origin_of(content)
