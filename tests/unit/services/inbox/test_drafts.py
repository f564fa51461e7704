"""The form of the composer, read as far as it goes."""

from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from services.inbox.drafts import Draft, draft_of, key_of

FORM = {"form": "a" * 32, "text": "Hi"}
TEXT = {"kind": "text", "text": "Hi"}


def test_line_ends_are_those_that_were_typed() -> None:
    assert draft_of({"text": "a\r\nb"}).text == "a\nb"


def test_values_count_for_the_template_that_was_shown_with_them() -> None:
    shown = {"template": "en_GB/a", "shown": "en_GB/a", "f.parameters.x": "1"}
    assert draft_of(shown).choice.values == {"parameters.x": "1"}
    assert draft_of(shown | {"template": "en_GB/b"}).choice.values is None


def test_a_template_stays_chosen_where_a_search_has_taken_it_off_the_list() -> None:
    choice = draft_of({"shown": "en_GB/a", "f.parameters.x": "1", "tq": "other"}).choice
    assert (choice.template, choice.values) == ("en_GB/a", {"parameters.x": "1"})


def test_a_text_is_discarded_when_that_was_asked_and_confirmed() -> None:
    assert draft_of({"text": "x", "discard": "ask"}) == Draft(text="x", is_discarding=True)
    assert draft_of({"text": "x", "discard": "yes"}).text == ""
    assert draft_of({"text": "x", "discard": "no"}) == Draft(text="x")


def test_a_quote_is_taken_away_without_the_text() -> None:
    quoted = {"text": "x", "reply_to": str(uuid4())}
    assert draft_of(quoted).reply_to is not None
    another = uuid4()
    assert draft_of(quoted | {"quote": str(another)}).reply_to == another
    assert draft_of(quoted | {"unquote": "1"}) == Draft(text="x")


def test_a_form_posted_twice_is_one_message_and_an_edited_text_another() -> None:
    first = key_of(FORM, TEXT, "whatsapp")
    assert first == key_of(dict(FORM), dict(reversed(TEXT.items())), "whatsapp")
    assert first != key_of(FORM, TEXT | {"text": "Hello"}, "whatsapp")
    assert first != key_of(FORM, TEXT, "sms")
    assert first != key_of(FORM | {"form": "b" * 32}, TEXT, "whatsapp")
    assert key_of({"form": "not an id!"}, TEXT, "whatsapp") is None


@given(
    st.dictionaries(
        st.sampled_from(
            ["text", "via", "reply_to", "edits", "picking", "discard", "seen", "tq", "tl", "template", "shown", "f.x"]
        ),
        st.text(max_size=200),
    )
)
def test_no_form_is_too_odd_to_be_read(form: dict[str, str]) -> None:
    draft = draft_of(form)
    assert draft.via in (None, "whatsapp", "sms", "portal")
    assert draft.seen is None or 0 <= draft.seen < 10**18
