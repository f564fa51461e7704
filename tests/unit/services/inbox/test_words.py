"""Text and query become the same words, each of its organisation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inbox.words import (
    MOST_LETTERS,
    MOST_WORDS,
    asks_for_number,
    lexemes,
    number_query,
    text_query,
    words_in,
    words_of_content,
    words_of_customer,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Is my Golf ready?", ["is", "my", "golf", "ready"]),
        ("Zoë Müller-Weiß", ["zoe", "muller", "weiss"]),
        ("\uff26\uff35\uff2c\uff2c width", ["full", "width"]),
        ("Привет", ["privet"]),
        ("車は", ["che", "ha"]),
        ("golf GOLF Golf", ["golf"]),
        ("", []),
        ("?!", []),
    ],
)
def test_words_are_plain_letters_of_any_script(text: str, words: list[str]) -> None:
    assert words_in(text) == words


def test_a_customer_is_found_by_any_end_of_their_number() -> None:
    words = words_of_customer("Kim", ["+447700900999", "447700900999"])
    assert {"kim", "+447700900999", "+7700900999", "+900999", "+0999"} <= set(words)
    assert "+999" not in words
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"kind": "text", "text": "Brake pads"}, {"brake", "pads"}),
        ({"kind": "image", "media_id": "123456", "caption": "The dent"}, {"the", "dent"}),
        ({"kind": "document", "media_id": "123456", "filename": "Invoice 77.pdf"}, {"invoice", "77", "pdf"}),
        ({"kind": "contacts", "contacts": [{"name": {"formatted_name": "Bo"}, "phones": [{"phone": "+4477"}]}]}, set()),
        ({"kind": "template", "name": "car_ready", "parameters": {"car": "Golf"}}, {"car", "ready", "golf"}),
        ({"kind": "template", "name": "x1", "parameters": ["Golf"]}, {"x1", "golf"}),
        ({"kind": "unsupported", "type": "system", "raw": {"body": "447700900999"}}, set()),
    ],
)
def test_of_a_message_what_people_read_is_found_and_no_id(content: dict[str, object], words: set[str]) -> None:
    assert set(words_of_content(content)) == words


@pytest.mark.parametrize(
    "q",
    [
        "+447700900999",
        "07700 900 999",
        "9009",
        "kim 90 09",
        "(0)77-00",
        "\u0660\u0667\u0667\u0660\u0660",
        "\uff17\uff17\uff10\uff10",
        "44,770,900",
        "44'|'77",
        "770:900",
        "7\u200b7\u200b0\u200b0",
        "\u136c\u136c\u136f\u136f",
        "\u2779\u2779\u277c\u277c",
    ],
)
def test_digits_of_a_number_ask_for_one(q: str) -> None:
    assert asks_for_number(q)


@pytest.mark.parametrize("q", ["kim", "mot 26 x", "a3 b4 c5 d6", "golf gti 16v", "12 x 3"])
def test_few_digits_and_digits_between_letters_ask_for_none(q: str) -> None:
    assert not asks_for_number(q)


def test_a_number_is_searched_without_its_trunk_zero() -> None:
    assert number_query("acme", "07700 900-999") == "'acme/+7700900999':*"
    assert number_query("acme", "+44 7700") == "'acme/+447700':*"
    assert number_query("acme", "770") is None
    assert number_query("acme", "kim 7700") is None


@given(org=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,20}", fullmatch=True), text=st.text(max_size=300))
def test_a_query_has_only_plain_words_of_its_organisation(org: str, text: str) -> None:
    query = text_query(org, text)
    words = words_in(text)
    assert (query is None) == (not words)
    for word in words:
        assert word.isascii()
        assert word.isalnum()
        assert 0 < len(word) <= MOST_LETTERS
    assert len(words) <= MOST_WORDS
    if query is not None:
        assert query == " & ".join(f"'{org}/{word}':*" for word in words)
    assert lexemes(org, words) == [f"{org}/{word}" for word in words]


@given(text=st.text(alphabet="abc zoë1", min_size=1, max_size=60))
def test_whatever_was_written_is_found_by_its_own_words(text: str) -> None:
    assert set(words_in(text)) == set(words_in(" ".join(words_in(text))))
