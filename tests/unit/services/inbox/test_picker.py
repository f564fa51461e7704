"""The picker: its list, its fields, its preview, and what it makes an intent of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.content import OutTemplate
from services.inbox.picker import (
    MOST_OPTIONS,
    Choice,
    PickTemplate,
    content_of,
    fields_of,
    picker_of,
    preview_of,
)
from tests.unit.services.inbox.composing_builders import a_template

KNOWN = {"customer_name": "Amara"}


def test_the_list_shows_first_words_with_what_is_known_and_hides_what_meta_deleted() -> None:
    picker = picker_of([a_template(), a_template("old", status="DELETED")], Choice(), KNOWN)
    [option] = picker.options
    assert option.template.title == "Decision needed"
    assert option.first_words == "Hi Amara, we need your decision on your …."
    assert option.why_not is None
    assert (picker.total, picker.approved) == (1, 1)


def test_what_may_not_be_sent_stays_visible_behind_the_rest_with_its_reason() -> None:
    offer = a_template("a_winter_offer", category="MARKETING")
    paused = a_template("a_paused_one", status="PAUSED")
    picker = picker_of([offer, paused, a_template()], Choice(), KNOWN)
    reasons = [(one.template.name, one.why_not) for one in picker.options]
    assert reasons[0] == ("decision_needed", None)
    assert dict(reasons)["a_winter_offer"] == "marketing_consent_off"
    assert dict(reasons)["a_paused_one"] == "status"
    allowed = picker_of([offer], Choice(), KNOWN, marketing=True)
    assert allowed.options[0].why_not is None
    assert picker_of([a_template()], Choice(), KNOWN, consent=False).options[0].why_not == "whatsapp_consent_off"


def test_search_looks_into_names_and_bodies_and_takes_every_word() -> None:
    templates = [a_template(), a_template("car_is_ready", components=[{"type": "BODY", "text": "Come and collect"}])]
    assert [o.template.name for o in picker_of(templates, Choice(search="COLLECT ready"), {}).options] == [
        "car_is_ready"
    ]
    assert picker_of(templates, Choice(search="collect decision"), {}).options == []
    assert picker_of(templates, Choice(search="nothing like it"), {}).total == 2


def test_a_long_list_is_cut_and_says_how_many_are_left() -> None:
    picker = picker_of([a_template(f"t{n}") for n in range(MOST_OPTIONS + 5)], Choice(), {})
    assert (len(picker.options), picker.hidden) == (MOST_OPTIONS, 5)


def test_the_language_with_most_templates_comes_first_and_a_chosen_one_wins() -> None:
    templates = [a_template(), a_template(language="de"), a_template("x", language="de"), a_template(language="pl")]
    assert picker_of(templates, Choice(), {}).language == "de"
    assert picker_of(templates, Choice(language="en_GB"), {}).language == "en_GB"
    assert picker_of(templates, Choice(language="xx"), {}).language == "de"


def test_an_empty_list_says_how_many_are_in_review() -> None:
    picker = picker_of([a_template(status="PENDING"), a_template("b", status="REJECTED")], Choice(), {})
    assert (picker.approved, picker.waiting) == (0, 1)


def test_fields_come_with_examples_and_what_is_known_and_complain_only_once_they_are_sent() -> None:
    choice = Choice(template="en_GB/decision_needed")
    name, vehicle = picker_of([a_template()], choice, KNOWN).fields
    assert (name.key, name.value, name.fault) == ("parameters.customer_name", "Amara", None)
    assert (vehicle.label, vehicle.example, vehicle.fault) == ("Vehicle", "VW Golf", None)
    sent = picker_of([a_template()], Choice(template=choice.template, is_submitted=True), KNOWN)
    assert sent.fields[1].fault == "empty"
    assert not sent.is_complete


@pytest.mark.parametrize(
    ("value", "fault"),
    [("Golf\nVII", "layout"), ("Golf\tVII", "layout"), ("Golf     VII", "layout"), ("Golf    VII", None)],
)
def test_what_meta_refuses_in_a_value_is_a_fault_at_its_field(value: str, fault: str | None) -> None:
    choice = Choice(
        template="en_GB/decision_needed", values={"parameters.vehicle": value, "parameters.customer_name": "A"}
    )
    assert picker_of([a_template()], choice, {}).fields[1].fault == fault


def test_a_preview_marks_what_is_filled_in_and_what_is_missing() -> None:
    picker = picker_of([a_template()], Choice(template="en_GB/decision_needed"), KNOWN)
    assert picker.preview is not None
    pieces = [(piece.text, piece.field, piece.is_gap) for piece in picker.preview.body]
    assert pieces == [
        ("Hi ", None, False),
        ("Amara", "parameters.customer_name", False),
        (", we need your decision on your ", None, False),
        ("", "parameters.vehicle", True),
        (".", None, False),
    ]


def test_a_preview_has_no_gap_that_no_field_fills() -> None:
    text = "Hi {{" + "9" * 600 + "}}"
    template = a_template(components=[{"type": "BODY", "text": text}], parameter_format="POSITIONAL")
    assert fields_of(template) == []
    assert [(piece.text, piece.field) for piece in preview_of(template, []).body] == [(text, None)]


RICH = PickTemplate(
    name="invoice",
    language="en_GB",
    category="UTILITY",
    status="APPROVED",
    parameter_format="POSITIONAL",
    components=[
        {"type": "HEADER", "format": "DOCUMENT", "example": {"header_handle": ["x"]}},
        {"type": "BODY", "text": "{{2}} for {{1}}", "example": {"body_text": [["Kim", "The invoice"]]}},
        {"type": "FOOTER", "text": "AcmeMotors"},
        {
            "type": "BUTTONS",
            "buttons": [
                {"type": "QUICK_REPLY", "text": "Call me"},
                {
                    "type": "URL",
                    "text": "Pay",
                    "url": "https://pay.example/{{1}}",
                    "example": ["https://pay.example/7"],
                },
                {"type": "COPY_CODE", "text": "Copy", "example": "SAVE10"},
            ],
        },
    ],
)


def test_header_positional_places_and_buttons_become_metas_shapes() -> None:
    values = {
        "header": "https://x.example/bill.pdf",
        "parameters.1": "Kim",
        "parameters.2": "Bill",
        "buttons.1": "42",
        "buttons.2": "SAVE20",
    }
    picker = picker_of([RICH], Choice(template=RICH.key, values=values, is_submitted=True), {})
    assert picker.is_complete
    assert content_of(RICH, picker.fields) == {
        "kind": "template",
        "name": "invoice",
        "language": "en_GB",
        "parameters": ["Kim", "Bill"],
        "header": {"type": "document", "document": {"link": "https://x.example/bill.pdf"}},
        "buttons": [
            {"sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": "42"}]},
            {
                "sub_type": "copy_code",
                "index": "2",
                "parameters": [{"type": "coupon_code", "coupon_code": "SAVE20"}],
            },
        ],
    }
    OutTemplate.model_validate(content_of(RICH, picker.fields))
    assert picker.preview is not None
    assert (picker.preview.format, picker.preview.footer) == ("DOCUMENT", "AcmeMotors")
    assert list(picker.preview.buttons) == ["Call me", "Pay", "Copy"]


def test_a_file_that_is_no_address_is_a_fault() -> None:
    picker = picker_of(
        [RICH], Choice(template=RICH.key, values={"header": "ftp://x.example/bill.pdf"}, is_submitted=True), {}
    )
    assert picker.fields[0].fault == "format"


def test_a_template_with_parts_that_are_not_known_here_says_so() -> None:
    carousel = a_template(components=[{"type": "BODY", "text": "See"}, {"type": "CAROUSEL", "cards": []}])
    unknown = a_template(components=[{"type": "BUTTONS", "buttons": [{"type": "CATALOG", "text": "See"}]}])
    for template in (carousel, unknown):
        picker = picker_of([template], Choice(template=template.key), {})
        assert (picker.options[0].why_not, picker.is_complete) == ("parts", False)


def test_a_named_header_keeps_its_name() -> None:
    header = {"type": "HEADER", "format": "TEXT", "text": "For {{name}}"}
    template = a_template(components=[header, {"type": "BODY", "text": "Come"}])
    choice = Choice(template=template.key, values={"header": "Kim"}, is_submitted=True)
    content = content_of(template, picker_of([template], choice, {}).fields)
    assert content["header"] == {"type": "text", "text": "Kim", "parameter_name": "name"}
    assert content["parameters"] == {}


@given(
    st.lists(st.text(st.characters(exclude_characters="{}"), max_size=20), min_size=1, max_size=5),
    st.text(max_size=20),
)
def test_a_preview_loses_nothing_of_the_template_and_nothing_that_was_typed(parts: list[str], value: str) -> None:
    text = "{{1}}".join(parts)
    template = a_template(parameter_format="POSITIONAL", components=[{"type": "BODY", "text": text}])
    picker = picker_of([template], Choice(template=template.key, values={"parameters.1": value}), {})
    shown = "".join(piece.text for piece in preview_of(template, picker.fields).body)
    assert shown == (value.join(parts) if len(parts) > 1 else text)
    assert len(fields_of(template)) == (1 if len(parts) > 1 else 0)
