"""What a template asks for, and whether a send gives it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.template_parameters import Fault, Place, asked_by, faults, fill

NAMED_BODY = "Hi {{customer_name}}, see you at {{appointment_time}}."
MATCHES: list[tuple[str, str, Any, bool]] = [
    ("Hi {{1}}, {{2}}.", "POSITIONAL", ["a", "b"], True),
    ("Hi {{2}}, {{1}}, {{1}}.", "POSITIONAL", ["a", "b"], True),
    ("Hi {{1}}.", "POSITIONAL", ["a", "b"], False),
    ("Hi {{1}}, {{2}}.", "POSITIONAL", ["a"], False),
    ("Hi {{1}}.", "POSITIONAL", {"1": "a"}, False),
    ("Hi {{name}}.", "NAMED", ["a"], False),
    ("Hi {{name}}.", "NAMED", {"name": "a", "other": "b"}, False),
    ("Hi {{name}}.", "NAMED", {"name": "a    b"}, True),
    ("Hi {{name}}.", "NAMED", {"name": "a     b"}, False),
    ("Hi {{name}}.", "NAMED", {"name": "a\tb"}, False),
    ("Hi {{name}}.", "NAMED", {"name": "a\nb"}, False),
    ("Hi {{name}}.", "NAMED", {"name": " "}, False),
    ("Hi {{name}}.", "NAMED", [], False),
    ("Hi.", "NAMED", [], True),
    ("Hi.", "POSITIONAL", {}, True),
    ("Hi.", "NAMED", {"name": "a"}, False),
]


@pytest.mark.parametrize(("body", "parameter_format", "parameters", "expected"), MATCHES)
def test_parameters_match_a_body_or_not(body: str, parameter_format: str, parameters: Any, expected: bool) -> None:  # noqa: FBT001 -- the expectation
    assert (faults(asked_by(parameter_format, body, None, None), parameters) == []) is expected


def test_every_wrong_parameter_of_the_body_is_named() -> None:
    asked = asked_by("NAMED", NAMED_BODY, None, None)
    assert faults(asked, {"customer_name": "a\nb"}) == [
        Fault("parameters.customer_name", "layout"),
        Fault("parameters.appointment_time", "missing"),
    ]
    assert faults(asked_by("POSITIONAL", "{{1}} {{2}}", None, None), ["", "b", "c"]) == [
        Fault("parameters.1", "empty"),
        Fault("parameters.3", "unexpected"),
    ]
    assert faults(asked, []) == [
        Fault("parameters.customer_name", "missing"),
        Fault("parameters.appointment_time", "missing"),
    ]
    assert faults(asked, ["Kim"]) == [Fault("parameters", "format")]
    assert faults(asked_by("NAMED", "Hi.", None, None), {"private": "a"}) == [Fault("parameters", "unexpected")]


PICTURE = {"type": "HEADER", "format": "IMAGE"}
TITLE = {"type": "HEADER", "format": "TEXT", "text": "Order {{1}}"}
NAMED_TITLE = {"type": "HEADER", "format": "TEXT", "text": "Order {{order_id}}"}
MAP = {"type": "HEADER", "format": "LOCATION"}
GARAGE = {"latitude": 51.5, "longitude": "-0.1", "name": "AcmeMotors"}
HEADERS: list[tuple[Any, str, Any, str | None]] = [
    (None, "POSITIONAL", None, None),
    (None, "POSITIONAL", {"type": "text", "text": "a"}, "unexpected"),
    ({"type": "HEADER", "format": "TEXT", "text": "Your order"}, "POSITIONAL", None, None),
    ({"type": "HEADER", "format": "TEXT", "text": "Your order"}, "NAMED", {"type": "text", "text": "a"}, "unexpected"),
    (PICTURE, "POSITIONAL", None, "missing"),
    (PICTURE, "POSITIONAL", {"type": "image", "image": {"link": "https://example.org/golf.jpg"}}, None),
    (PICTURE, "NAMED", {"type": "IMAGE", "image": {"id": "1234"}}, None),
    (PICTURE, "POSITIONAL", {"type": "image", "image": {}}, "missing"),
    (PICTURE, "POSITIONAL", {"type": "image", "image": {"id": "1", "link": "https://a.example/b"}}, "format"),
    (PICTURE, "POSITIONAL", {"type": "image", "image": {"link": "ftp://a.example/b"}}, "format"),
    (PICTURE, "POSITIONAL", {"type": "image", "image": {"link": "https:///b"}}, "format"),
    (PICTURE, "POSITIONAL", {"type": "image", "image": {"link": "https://a.example:99999/b"}}, "format"),
    (PICTURE, "POSITIONAL", {"type": "video", "video": {"id": "1"}}, "format"),
    (PICTURE, "POSITIONAL", {"type": "image", "image": {"id": " "}}, "empty"),
    (TITLE, "POSITIONAL", {"type": "text", "text": "A-7"}, None),
    (TITLE, "POSITIONAL", {"type": "text", "text": "A-7", "parameter_name": "order_id"}, "format"),
    (TITLE, "POSITIONAL", {"type": "text", "text": "A\t7"}, "layout"),
    (TITLE, "POSITIONAL", {"type": "text", "text": ""}, "empty"),
    (TITLE, "POSITIONAL", {"type": "text", "text": "A" * 60}, None),
    (TITLE, "POSITIONAL", {"type": "text", "text": "A" * 61}, "too_long"),
    (TITLE, "POSITIONAL", {"type": "text", "text": 7}, "format"),
    (TITLE, "POSITIONAL", {"type": "currency", "currency": {"fallback_value": "7 GBP"}}, None),
    (NAMED_TITLE, "NAMED", {"type": "text", "text": "A-7", "parameter_name": "order_id"}, None),
    (NAMED_TITLE, "NAMED", {"type": "text", "text": "A-7"}, "format"),
    (MAP, "POSITIONAL", {"type": "location", "location": GARAGE}, None),
    (MAP, "POSITIONAL", {"type": "location", "location": {"latitude": 51.5}}, "missing"),
    (MAP, "POSITIONAL", {"type": "location", "location": GARAGE | {"latitude": 91}}, "format"),
    (MAP, "POSITIONAL", {"type": "location", "location": GARAGE | {"latitude": "north"}}, "format"),
    (MAP, "POSITIONAL", {"type": "location", "location": GARAGE | {"latitude": -90, "longitude": 180}}, None),
    (MAP, "POSITIONAL", {"type": "location", "location": GARAGE | {"latitude": 90, "longitude": -180}}, None),
    *(
        (MAP, "POSITIONAL", {"type": "location", "location": GARAGE | beyond}, "format")
        for beyond in ({"latitude": 90.1}, {"latitude": -90.1}, {"longitude": 180.1}, {"longitude": -180.1})
    ),
    (MAP, "POSITIONAL", {"type": "text", "location": GARAGE}, "format"),
    (MAP, "POSITIONAL", {"type": "location", "location": "51.5, -0.1"}, "format"),
    (PICTURE, "POSITIONAL", {"type": "video", "image": {"id": "1"}}, "format"),
    (PICTURE, "POSITIONAL", {"type": "image", "image": "https://a.example/b"}, "format"),
    (PICTURE, "POSITIONAL", {"type": "image", "image": {"id": 7}}, "empty"),
    (PICTURE, "POSITIONAL", {"type": "image", "image": {"link": 7}}, "format"),
    (TITLE, "POSITIONAL", {"type": "currency"}, "format"),
    (TITLE, "POSITIONAL", {"type": "image", "image": {"id": "1"}}, "format"),
    (TITLE, "POSITIONAL", {"type": "date_time", "date_time": {"fallback_value": "Monday"}}, None),
    ("Order {{1}}", "POSITIONAL", None, "missing"),
    ("Order {{1}}", "POSITIONAL", {"type": "text", "text": "A-7"}, None),
    ({"text": "Order {{1}}"}, "POSITIONAL", None, "missing"),
    ({"format": "TEXT", "text": "{{1}} of {{2}}"}, "POSITIONAL", {"type": "text", "text": "A-7"}, "format"),
    *(({"format": form}, "POSITIONAL", None, "missing") for form in ("VIDEO", "DOCUMENT")),
    ({"format": "VIDEO"}, "POSITIONAL", {"type": "video", "video": {"id": "1"}}, None),
    ({"format": "DOCUMENT"}, "POSITIONAL", {"type": "document", "document": {"id": "1"}}, None),
    ({"type": "HEADER", "format": "HOLOGRAM"}, "POSITIONAL", {"type": "hologram"}, None),
    ({"type": "HEADER", "format": "HOLOGRAM"}, "POSITIONAL", None, None),
]


@pytest.mark.parametrize(("header", "parameter_format", "given_header", "code"), HEADERS)
def test_a_header_gets_what_its_format_asks_for(
    header: Any, parameter_format: str, given_header: Any, code: str | None
) -> None:
    found = faults(asked_by(parameter_format, "Hi.", header, None), [], given_header)
    assert [fault.code for fault in found] == ([] if code is None else [code])
    assert {fault.field for fault in found} <= {"header"}


TRACK = {"type": "URL", "text": "Track", "url": "https://acme.example/{{1}}"}
SITE = {"type": "URL", "text": "Site", "url": "https://acme.example/"}
CALL = {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+447700900001"}
COUPON = {"type": "COPY_CODE", "example": "10OFF"}
YES = {"type": "QUICK_REPLY", "text": "Yes"}
SHOP = {"type": "CATALOG", "text": "Shop"}
OTP = {"type": "OTP", "otp_type": "COPY_CODE"}
FLOW = {"type": "FLOW", "text": "Book"}


def url(text: Any, **more: Any) -> dict[str, Any]:
    return {"sub_type": "url", "parameters": [{"type": "text", "text": text}]} | more


def code(text: Any, **more: Any) -> dict[str, Any]:
    return {"sub_type": "copy_code", "parameters": [{"type": "coupon_code", "coupon_code": text}]} | more


def payload(text: Any, **more: Any) -> dict[str, Any]:
    return {"sub_type": "quick_reply", "parameters": [{"type": "payload", "payload": text}]} | more


BUTTONS: list[tuple[Any, Any, list[tuple[str, str]]]] = [
    (None, None, []),
    (None, [url("a")], [("buttons.0", "unexpected")]),
    ([SITE, CALL], None, []),
    ([SITE], [url("a")], [("buttons.0", "unexpected")]),
    ([TRACK], None, [("buttons.0", "missing")]),
    ([TRACK], [url("a7")], []),
    ([TRACK], [url("a7", sub_type="URL", index=0)], []),
    ([TRACK], [url("")], [("buttons.0", "empty")]),
    ([TRACK], [url("a\nb")], [("buttons.0", "layout")]),
    ([TRACK], [{"sub_type": "url", "parameters": []}], [("buttons.0", "missing")]),
    ([TRACK], [{"sub_type": "url"}], [("buttons.0", "format")]),
    ([TRACK], [url(7)], [("buttons.0", "format")]),
    ([TRACK], [url(None)], [("buttons.0", "empty")]),
    ([TRACK], [code("a7")], [("buttons.0", "format")]),
    ([YES, TRACK], [url("a7", index="1")], []),
    ([YES, TRACK], [url("a7")], [("buttons.0", "format"), ("buttons.1", "missing")]),
    ([YES, TRACK], [payload("yes"), url("a7")], []),
    ([YES], [payload("")], [("buttons.0", "empty")]),
    ([YES], [payload("a\nb")], []),
    ([YES], [payload("yes", index=5)], [("buttons.0", "unexpected")]),
    ([YES], [payload("yes", index=0), payload("no", index="0")], [("buttons.1", "unexpected")]),
    ([COUPON], [code("10OFF")], []),
    ([COUPON], [code("1" * 21)], [("buttons.0", "too_long")]),
    ([COUPON], None, [("buttons.0", "missing")]),
    ([COUPON], [code("1" * 20)], []),
    ([OTP], [url("123456")], []),
    ([OTP], None, [("buttons.0", "missing")]),
    ([CALL], [payload("yes")], [("buttons.0", "unexpected")]),
    ([FLOW], None, []),
    ([FLOW], [{"sub_type": "flow", "parameters": [{"type": "action"}]}], []),
    ([FLOW], [url("a7")], [("buttons.0", "format")]),
    ([TRACK], [{"sub_type": "url", "parameters": [{"type": "payload", "text": "a7"}]}], [("buttons.0", "format")]),
    ([SHOP, TRACK], [{"sub_type": "catalog", "parameters": [{"type": "action"}]}, url("a")], []),
    ([SHOP], None, []),
]


@pytest.mark.parametrize(("buttons", "given_buttons", "expected"), BUTTONS)
def test_a_button_gets_what_its_type_asks_for(
    buttons: Any, given_buttons: Any, expected: list[tuple[str, str]]
) -> None:
    asked = asked_by("POSITIONAL", "Hi.", None, buttons)
    assert [tuple(fault) for fault in faults(asked, [], None, given_buttons)] == expected


def test_a_form_asks_in_the_order_of_the_message() -> None:
    asked = asked_by("NAMED", NAMED_BODY, NAMED_TITLE, [YES, TRACK])
    assert [place.field for place in asked.places] == [
        *("header", "parameters.customer_name", "parameters.appointment_time", "buttons.0", "buttons.1")
    ]
    assert asked.places[0] == Place("header", "order_id", "text")


def test_positional_values_are_sent_by_their_numbers_wherever_they_stand_in_the_text() -> None:
    asked = asked_by("POSITIONAL", " ".join(f"{{{{{n}}}}}" for n in range(12, 0, -1)), None, None)
    values = {f"parameters.{n}": f"value {n}" for n in range(1, 13)}
    assert fill(asked, values).parameters == [f"value {n}" for n in range(1, 13)]


def test_a_button_that_needs_no_value_is_sent_with_one_alone() -> None:
    asked = asked_by("POSITIONAL", "Hi.", None, [YES, FLOW, TRACK])
    assert fill(asked, {"buttons.1": "x", "buttons.2": "a7"}).buttons == [url("a7", index="2")]
    assert fill(asked, {"buttons.0": "yes"}).buttons == [payload("yes", index="0"), url("", index="2")]
    assert fill(asked_by("POSITIONAL", "Hi.", None, [YES]), {}).buttons is None


def test_a_header_is_sent_as_what_was_typed() -> None:
    def typed(value: str, header: Any = PICTURE) -> Any:
        return fill(asked_by("POSITIONAL", "Hi.", header, None), {"header": value}).header

    assert typed("https://a.example/b") == {"type": "image", "image": {"link": "https://a.example/b"}}
    assert typed(" 123 ") == {"type": "image", "image": {"id": "123"}}
    assert typed("") == {"type": "image", "image": {}}
    assert typed("51.5, -0.1", MAP) == {"type": "location", "location": {"latitude": "51.5", "longitude": "-0.1"}}
    assert typed("51.5", MAP) == {"type": "location", "location": {"latitude": "51.5"}}


TEXTS = st.text("ab7 -äß漢", min_size=1).filter(str.strip)
TEMPLATES = st.tuples(
    st.sampled_from(["NAMED", "POSITIONAL"]),
    st.integers(0, 3),
    st.sampled_from(["none", "static", "text", "IMAGE", "DOCUMENT", "LOCATION"]),
    st.lists(st.sampled_from([TRACK, SITE, CALL, COUPON, YES]), max_size=4),
)


def a_template(parameter_format: str, places: int, header: str, buttons: list[Any]) -> tuple[str, str, Any, Any]:
    def hole(number: int) -> str:
        return "{{" + (f"name_{number}" if parameter_format == "NAMED" else str(number)) + "}}"

    text = " ".join(["Hi", *(hole(n) for n in range(1, places + 1)), "."])
    shown = {
        "none": None,
        "static": {"format": "TEXT", "text": "Hello"},
        "text": {"format": "TEXT", "text": f"To {hole(1)}"},
    }
    return parameter_format, text, shown.get(header, {"format": header}), buttons or None


@given(TEMPLATES, st.data())
def test_a_filled_form_is_a_send_that_meta_takes_and_a_gap_in_it_is_named(
    template: tuple[str, int, str, list[Any]], data: st.DataObject
) -> None:
    asked = asked_by(*a_template(*template))
    right = {"image": "https://example.org/a.jpg", "document": "123", "location": "51.5, -0.1", "copy_code": "10OFF"}
    values = {place.field: right.get(place.kind) or data.draw(TEXTS) for place in asked.places}
    values = {field: " ".join(value.split()) for field, value in values.items()}
    assert faults(asked, *fill(asked, values)) == []
    if needed := [place.field for place in asked.places if place.required]:
        gap = data.draw(st.sampled_from(needed))
        assert gap in {fault.field for fault in faults(asked, *fill(asked, values | {gap: " "}))}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab{}1 ", max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["type", "sub_type", "index", "parameters", "text", "url", "link", "format", "image", "location"]
            ),
            inner,
        )
    ),
    max_leaves=8,
)
OBJECTS = JSON.filter(lambda found: isinstance(found, dict))


@given(JSON, JSON, st.none() | OBJECTS, st.none() | st.lists(OBJECTS, max_size=3))
def test_no_shape_of_a_template_or_of_a_send_breaks_the_rule(
    header: Any, buttons: Any, given_header: Any, given_buttons: Any
) -> None:
    for fault in faults(asked_by("POSITIONAL", "Hi {{1}}.", header, buttons), ["a"], given_header, given_buttons):
        assert fault.code in ("missing", "empty", "layout", "too_long", "format", "unexpected")


BESIDE: list[dict[str, Any]] = [
    {"header": {"type": "image", "image": {"id": "1"}}},
    {"buttons": [url("a7")]},
]


@pytest.mark.parametrize("beside", BESIDE, ids=["header", "buttons"])
@pytest.mark.parametrize(("parameter_format", "names"), [("NAMED", ("name", "found")), ("POSITIONAL", ("1", "2"))])
def test_beside_other_parts_a_body_with_its_values_has_an_end(
    beside: dict[str, Any], parameter_format: str, names: tuple[str, str]
) -> None:
    body = f"Hi {{{{{names[0]}}}}}: {{{{{names[1]}}}}}. Bye {{{{{names[0]}}}}}"
    header, buttons = (PICTURE, None) if "header" in beside else (None, [TRACK])
    asked = asked_by(parameter_format, body, header, buttons)
    room = 1024 - len("Hi Kim: . Bye Kim")
    for length, found in ((room, []), (room + 1, [Fault(f"parameters.{names[1]}", "too_long")])):
        values = ["Kim", "f" * length]
        given_values = dict(zip(names, values, strict=True)) if parameter_format == "NAMED" else values
        assert faults(asked, given_values, **beside) == found


def test_a_body_that_is_sent_alone_is_not_judged_by_its_length() -> None:
    asked = asked_by("POSITIONAL", "We found: {{1}}.", None, [YES])
    assert faults(asked, ["f" * 4096]) == []


def test_a_value_that_is_wrong_otherwise_is_named_for_that() -> None:
    asked = asked_by("POSITIONAL", "{{1}} {{2}}", PICTURE, None)
    assert faults(asked, ["f" * 2000, " "], **BESIDE[0]) == [Fault("parameters.2", "empty")]
