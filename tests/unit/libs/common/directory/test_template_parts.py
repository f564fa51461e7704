"""The parts of a template in Meta's shape, and what a send has to give."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.directory.template_parts import Parameter, components_of, parameters_of, parts_of
from libs.common.template_parameters import asked_by

BODY = {
    "type": "BODY",
    "text": "Hi {{name}}, your {{car}} is ready, {{name}}.",
    "example": {
        "body_text_named_params": [{"param_name": "name", "example": "Kim"}, {"param_name": "car", "example": "Golf"}]
    },
}
KEYS = ("type", "text", "buttons", "example", "url")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)


def test_named_places_are_listed_once_with_their_examples() -> None:
    assert parameters_of([BODY], "NAMED") == [
        Parameter("name", None, "body", None, "text", "Kim"),
        Parameter("car", None, "body", None, "text", "Golf"),
    ]


def test_numbered_places_are_listed_by_number_in_header_body_and_button() -> None:
    components: list[dict[str, Any]] = [
        {"type": "HEADER", "format": "TEXT", "text": "For {{1}}", "example": {"header_text": ["Kim"]}},
        {"type": "BODY", "text": "A {{2}} and {{1}}.", "example": {"body_text": [["one", "two"]]}},
        {
            "type": "BUTTONS",
            "buttons": [
                {"type": "QUICK_REPLY", "text": "Yes"},
                {"type": "URL", "text": "See", "url": "https://a.example/{{1}}", "example": ["https://a.example/x"]},
                {"type": "URL", "text": "Site", "url": "https://a.example/"},
            ],
        },
    ]
    assert parameters_of(components, "POSITIONAL") == [
        Parameter(None, 1, "header", None, "text", "Kim"),
        Parameter(None, 1, "body", None, "text", "one"),
        Parameter(None, 2, "body", None, "text", "two"),
        Parameter(None, 1, "button", 1, "text", "https://a.example/x"),
    ]


def test_a_one_time_code_is_listed_as_a_send_has_to_give_it() -> None:
    buttons = [{"type": "OTP", "otp_type": "COPY_CODE", "text": "Copy code"}]
    components = [{"type": "BODY", "text": "{{1}} is your code."}, {"type": "BUTTONS", "buttons": buttons}]
    listed = parameters_of(components, "POSITIONAL")
    assert [(one.place, one.button) for one in listed] == [("body", None), ("button", 0)]
    asked = asked_by("POSITIONAL", "{{1}} is your code.", None, buttons)
    assert [place.field for place in asked.places if place.required] == ["parameters.1", "buttons.0"]


def test_a_media_header_wants_a_file() -> None:
    components = [{"type": "HEADER", "format": "IMAGE"}, {"type": "BODY", "text": "Hi."}]
    assert parameters_of(components, "NAMED") == [Parameter(None, None, "header", None, "image", None)]


@pytest.mark.parametrize("header", [{"format": "TEXT", "text": "Hi"}, {"type": "text", "text": "Hi"}, {"text": "Hi"}])
def test_what_a_load_file_names_becomes_components_and_comes_out_of_them_again(header: dict[str, Any]) -> None:
    buttons = [{"type": "QUICK_REPLY", "text": "Yes"}]
    parts = parts_of(components_of("Text.", header, buttons))
    assert parts == ("Text.", {"type": "HEADER", "format": "TEXT", "text": "Hi"}, None, buttons)


@given(JSON, st.sampled_from(("NAMED", "POSITIONAL")))
def test_no_shape_is_too_odd_to_be_read(components: Any, parameter_format: str) -> None:
    parts_of(components)
    parameters_of(components, parameter_format)
    parameters_of([components], parameter_format)


def test_digits_without_end_are_no_place_of_a_text() -> None:
    """Python reads no number of more than 4,300 digits. One such draft broke the list of all templates."""
    assert parameters_of([{"type": "BODY", "text": "Hi {{" + "9" * 5_000 + "}}"}], "POSITIONAL") == []
