"""A template as a form shows and posts it."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inbox.template_forms import (
    Piece,
    TemplateForm,
    advice_of,
    form_of,
    preview,
    read_form,
    shown_faults,
    state_of,
    title_of,
    urgency_of,
)
from services.inbox.template_limits import faults_of

NAMED = TemplateForm(name="car_ready")
NUMBERED = TemplateForm(name="car_ready", parameter_format="POSITIONAL")
COMPONENTS: list[dict[str, Any]] = [
    {
        "type": "HEADER",
        "format": "TEXT",
        "text": "For {{name}}",
        "example": {"header_text_named_params": [{"param_name": "name", "example": "Kim"}]},
    },
    {
        "type": "BODY",
        "text": "Hi {{name}}, your {{car}} is ready for you now.",
        "example": {
            "body_text_named_params": [
                {"param_name": "name", "example": "Kim"},
                {"param_name": "car", "example": "Golf"},
            ]
        },
    },
    {"type": "FOOTER", "text": "AcmeMotors"},
    {
        "type": "BUTTONS",
        "buttons": [
            {"type": "QUICK_REPLY", "text": "Yes"},
            {"type": "QUICK_REPLY", "text": "No"},
            {"type": "URL", "text": "See", "url": "https://a.example/{{1}}", "example": ["https://a.example/x"]},
            {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+447700900123"},
            {"type": "COPY_CODE", "example": "SAVE10"},
        ],
    },
]


def posted(form: TemplateForm) -> dict[str, str]:
    """The fields that a browser posts, with its line ends."""
    fields = {
        name: getattr(form, name)
        for name in ("category", "header", "body", "footer", "link_label", "link_url", "link_example", "call_label")
    }
    fields |= {"call_number": form.call_number} | {f"quick.{n}": label for n, label in enumerate(form.quick)}
    fields |= {f"example.{part}.{name}": value for part, name, value in form.places}
    return {name: value.replace("\n", "\r\n") for name, value in fields.items()}


def test_what_a_form_shows_it_posts_again_unchanged() -> None:
    form = form_of(NAMED, "MARKETING", COMPONENTS)
    assert form.components == COMPONENTS
    assert read_form(posted(form), form, is_new=False).components == COMPONENTS
    assert faults_of(form.content) == []


def test_a_header_with_a_file_is_kept_as_it_is() -> None:
    media = {"type": "HEADER", "format": "IMAGE", "example": {"header_handle": ["4::aW"]}}
    form = form_of(NAMED, "UTILITY", [media, {"type": "BODY", "text": "Hello there."}])
    assert read_form(posted(form), form, is_new=False).components[0] == media


@given(st.lists(st.sampled_from(["Hi", "{{1}}", "{{2}}", "your car", "\n", "is ready"]), min_size=1, max_size=9))
def test_any_text_of_a_form_comes_back_with_its_examples(words: list[str]) -> None:
    text = " ".join(words)
    form = TemplateForm(parameter_format="POSITIONAL", body=text, examples={"body.1": "Kim", "body.2": "Golf"})
    again = form_of(NUMBERED, "UTILITY", form.components)
    assert again.body == text
    assert [(part, name) for part, name, _ in again.places] == [(part, name) for part, name, _ in form.places]


def test_name_and_language_of_a_template_that_exists_are_not_posted_away() -> None:
    form = read_form({"name": "other", "language": "de", "body": "New."}, NAMED, is_new=False)
    assert (form.name, form.language, form.body) == ("car_ready", "en_GB", "New.")
    assert read_form({"name": " other ", "language": "de"}, TemplateForm(), is_new=True).name == "other"


def test_a_missing_example_is_shown_beside_its_own_field() -> None:
    form = TemplateForm(
        name="car_ready", body="Hi {{name}}, your {{car}} is ready for you.", examples={"body.car": "Golf"}
    )
    assert [(one.part, one.field) for one in shown_faults(faults_of(form.content), form)] == [("body", "body.name")]


def test_a_fault_of_a_button_is_shown_beside_its_own_field() -> None:
    form = TemplateForm(
        name="car_ready",
        body="Your car is ready for you.",
        quick=("", "Yes", "Yes"),
        link_url="javascript:0",
        call_label="C" * 26,
        call_number="none",
        kept_buttons=({"type": "COPY_CODE"},),
    )
    faults = [one for one in shown_faults(faults_of(form.content), form) if one.part == "buttons"]
    assert [(one.field, one.fault.check) for one in faults] == [
        ("quick.2", "buttons"),
        ("link_label", "buttons"),
        ("link_url", "buttons"),
        ("call_label", "lengths"),
        ("call_number", "buttons"),
        (None, "examples"),
    ]


def test_a_fault_of_all_buttons_is_shown_beside_none_of_them() -> None:
    form = TemplateForm(
        name="car_ready",
        body="Your car is ready for you.",
        link_label="See it",
        link_url="https://acme.example/",
        quick=("Yes",),
        kept_buttons=({"type": "QUICK_REPLY", "text": "No"},),
    )
    assert [(one.part, one.field) for one in shown_faults(faults_of(form.content), form)] == [("buttons", None)]


def test_a_fault_of_a_button_that_the_form_does_not_have_is_shown_beside_none() -> None:
    """Somebody else has written the draft meanwhile, and what stands is checked when it is submitted."""
    theirs = TemplateForm(name="car_ready", body="Your car is ready for you.", quick=("Yes", "No", "N" * 26))
    ours = replace(theirs, quick=("Yes",))
    assert [(one.part, one.field) for one in shown_faults(faults_of(theirs.content), ours)] == [("buttons", None)]


def test_a_preview_shows_every_place_filled_or_not() -> None:
    pieces = preview("Hi {{name}}, your {{car}} is {{ready.", "body", {"body.name": "Kim"})
    assert pieces == [
        Piece("Hi ", "text"),
        Piece("Kim", "filled"),
        Piece(", your ", "text"),
        Piece("{{car}}", "gap"),
        Piece(" is {{ready.", "text"),
    ]


@pytest.mark.parametrize("status", ["APPROVED", "REJECTED", "LIMIT_EXCEEDED", "A_WORD_OF_TOMORROW"])
def test_a_status_has_a_word_even_where_it_is_not_known(status: str) -> None:
    assert state_of(status).word
    assert isinstance(urgency_of(status), int)


def test_what_needs_somebody_comes_first_and_what_is_gone_last() -> None:
    words = ["DELETED", "APPROVED", "DRAFT", "PENDING", "PAUSED", "REJECTED"]
    assert sorted(words, key=urgency_of) == ["REJECTED", "PAUSED", "PENDING", "DRAFT", "APPROVED", "DELETED"]


def test_a_rejection_says_what_to_do_also_for_a_reason_that_is_not_known() -> None:
    assert "category" in str(advice_of("REJECTED", "TAG_CONTENT_MISMATCH"))
    assert advice_of("REJECTED", "OF_TOMORROW")
    assert advice_of("APPROVED", None) is None
    assert title_of("extra_work_approval") == "Extra work approval"
