"""Meta's limits on a template, one by one, and against a Meta that was written by itself."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.sandbox.template_rules import fault_of_name, fault_of_parts
from services.inbox.template_limits import Content, faults_of


def body(text: str, *values: str, **named: str) -> dict[str, Any]:
    example: dict[str, Any] = {}
    if values:
        example = {"example": {"body_text": [list(values)]}}
    if named:
        listed = [{"param_name": name, "example": value} for name, value in named.items()]
        example = {"example": {"body_text_named_params": listed}}
    return {"type": "BODY", "text": text, **example}


GOOD = body("Hi {{name}}, your {{car}} is ready, come by today.", name="Kim", car="Golf")
NUMBERED = body("Hi {{1}}, your car is ready.", "Kim")


def content(*components: Any, **changes: Any) -> Content:
    fields = {"name": "car_ready", "language": "en_GB", "category": "UTILITY", "parameter_format": "NAMED"} | changes
    return Content(**fields, components=list(components) or [GOOD])


def buttons(*listed: dict[str, Any]) -> dict[str, Any]:
    return {"type": "BUTTONS", "buttons": list(listed)}


def quick(text: str = "Yes") -> dict[str, Any]:
    return {"type": "QUICK_REPLY", "text": text}


def url(address: str, **more: Any) -> dict[str, Any]:
    return {"type": "URL", "text": "See", "url": address, **more}


def header(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "HEADER", "format": "TEXT", "text": text, **more}


def footer(text: str) -> dict[str, Any]:
    return {"type": "FOOTER", "text": text}


TAKEN: list[Content] = [
    content(),
    content(NUMBERED, parameter_format="POSITIONAL"),
    content(body("x" * 1024)),
    content(header("h" * 60), body("Hello there."), footer("f" * 60), buttons(quick("b" * 25))),
    content({"type": "HEADER", "format": "IMAGE", "example": {"header_handle": ["4::aW"]}}, body("Hello there.")),
    content({"type": "HEADER", "format": "LOCATION"}, body("Hello there.")),
    content(
        header("For {{name}}", example={"header_text_named_params": [{"param_name": "name", "example": "Kim"}]}), GOOD
    ),
    content(GOOD, buttons(quick("1"), quick("2"), url("https://a.example/{{1}}", example=["https://a.example/x"]))),
    content(GOOD, buttons({"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+447700900123"}, quick())),
    content(GOOD, buttons({"type": "COPY_CODE", "example": "SAVE10"})),
    content(name="a" * 512, language="fil", category="MARKETING"),
]

REFUSED: list[tuple[Content, str]] = [
    (content(name="Car Ready"), "name"),
    (content(name="a" * 513), "name"),
    (content(name=""), "name"),
    (content(name="car_ready\n"), "name"),
    (content(language="english"), "language"),
    (content(language="en-GB"), "language"),
    (content(category="AUTHENTICATION"), "category"),
    (content(category="utility"), "category"),
    (content(parameter_format="named"), "parameter_format"),
    (content({"type": "FOOTER", "text": "Bye"}), "components"),
    (content(GOOD, GOOD), "components.1.type"),
    (content(GOOD, {"type": "CAROUSEL"}), "components.1.type"),
    (content(body("  ")), "components.0.text"),
    (content(body("x" * 1025)), "components.0.text"),
    (content(body(" {{name}} is what they call you here.", name="Kim")), "components.0.text"),
    (content(body("They call you by the name of {{name}}\n", name="Kim")), "components.0.text"),
    (content(body("Hi there {{a}} {{b}}, how do you do today?", a="1", b="2")), "components.0.text"),
    (content(body("We {{a}} and {{b}} do.", a="1", b="2")), "components.0.text"),
    (content(body("Hi {{Name}}, your car is ready.", Name="Kim")), "components.0.text"),
    (content(body("Hi {{name, your car is ready.")), "components.0.text"),
    (
        content(body("Hi {{1}}, your {{3}} is ready for you now.", "a", "b"), parameter_format="POSITIONAL"),
        "components.0.text",
    ),
    (content(body("Hi {{name}}, your car is ready."), parameter_format="POSITIONAL"), "components.0.text"),
    (content(body("Hi {{name}}, your car is ready.")), "components.0.example"),
    (content(body("Hi {{name}}, your car is ready.", name=" ")), "components.0.example"),
    (content(body("Hi {{name}}, your car is ready.", name="a\nb")), "components.0.example"),
    (
        content(body("Hi {{1}}, your {{2}} is ready for you now.", "a"), parameter_format="POSITIONAL"),
        "components.0.example",
    ),
    (content(header("h" * 61), GOOD), "components.0.text"),
    (content(header("two\nlines"), GOOD), "components.0.text"),
    (content(header("*bold*"), GOOD), "components.0.text"),
    (content(header("🚗"), GOOD), "components.0.text"),
    (content(header("{{a}} of {{b}}"), GOOD), "components.0.text"),
    (content(header("For {{name}}"), GOOD), "components.0.example"),
    (content({"type": "HEADER", "format": "VIDEO"}, GOOD), "components.0.example"),
    (content({"type": "HEADER", "format": "SONG"}, GOOD), "components.0.format"),
    (content(GOOD, footer("f" * 61)), "components.1.text"),
    (content(GOOD, footer("Dear {{name}}")), "components.1.text"),
    (content(GOOD, buttons(*(quick(str(n)) for n in range(11)))), "components.1.buttons"),
    (content(GOOD, buttons(quick("b" * 26))), "components.1.buttons.0.text"),
    (content(GOOD, buttons(quick(), quick())), "components.1.buttons.1.text"),
    (content(GOOD, buttons(quick("1"), url("https://a.example/"), quick("2"))), "components.1.buttons"),
    (
        content(GOOD, buttons(*(url("https://a.example/") | {"text": str(n)} for n in range(3)))),
        "components.1.buttons",
    ),
    (content(GOOD, buttons(url("javascript:alert(1)"))), "components.1.buttons.0.url"),
    (content(GOOD, buttons(url("https://a.example/" + "x" * 1990))), "components.1.buttons.0.url"),
    (content(GOOD, buttons(url("https://a.example/{{1}}/x", example=["x"]))), "components.1.buttons.0.url"),
    (content(GOOD, buttons(url("https://a.example/{{1}}"))), "components.1.buttons.0.example"),
    (
        content(GOOD, buttons({"type": "PHONE_NUMBER", "text": "Call", "phone_number": "garage"})),
        "components.1.buttons.0.phone_number",
    ),
    (content(GOOD, buttons({"type": "COPY_CODE", "example": "x" * 16})), "components.1.buttons.0.example"),
    (content(GOOD, buttons({"type": "OTP", "text": "Copy"})), "components.1.buttons.0.type"),
]


@pytest.mark.parametrize("given_content", TAKEN)
def test_what_meta_takes_has_no_fault(given_content: Content) -> None:
    assert faults_of(given_content) == []
    assert refused_by_meta(given_content) is None


@pytest.mark.parametrize(("given_content", "field"), REFUSED)
def test_what_meta_refuses_names_its_field_and_says_why(given_content: Content, field: str) -> None:
    faults = faults_of(given_content)
    assert field in [fault.field for fault in faults]
    assert all(fault.text() and "%" not in fault.text() for fault in faults)


WITHOUT_EXAMPLES: list[tuple[Content, list[str]]] = [
    (content(body("Hi {{Name}}, your car is ready.")), ["placement", "examples"]),
    (content(body("Hi {{Name}}, your car is ready.", Name="Kim")), ["placement"]),
    (content(body("Hi {{name}}, your {{car is ready for you now.")), ["placement", "examples"]),
    (
        content(body("Hi {{1}}, your {{3}} is ready for you now.", "Kim"), parameter_format="POSITIONAL"),
        ["placement", "examples"],
    ),
    (
        content(body("Hi {{1}}, your {{3}} is ready for you now.", "Kim", "Golf"), parameter_format="POSITIONAL"),
        ["placement"],
    ),
    (content(header("For {{Name}}"), GOOD), ["placement", "examples"]),
    (content(GOOD, buttons(url("https://a.example/{{code}}"))), ["placement", "examples"]),
    (content(GOOD, buttons(url("https://a.example/{{code}}", example=["x"]))), ["placement"]),
]


@pytest.mark.parametrize(("given_content", "checks"), WITHOUT_EXAMPLES)
def test_whether_every_placeholder_has_an_example_does_not_hang_on_its_name(
    given_content: Content, checks: list[str]
) -> None:
    assert [fault.check for fault in faults_of(given_content)] == checks


def refused_by_meta(given_content: Content) -> Any:
    of_name = fault_of_name(given_content.name, given_content.language, given_content.category)
    return of_name or fault_of_parts(given_content.components, given_content.parameter_format)


WORDS = st.sampled_from(
    ["Hi", "your car", "is ready", "{{name}}", "{{1}}", "{{2}}", "{{a b}}", ", ", "\n", "🚗", "*x*"]
)
TEXTS = st.lists(WORDS, max_size=9).map(" ".join) | st.text(max_size=8)
NAMED = st.lists(st.fixed_dictionaries({"param_name": st.sampled_from(("name", "1")), "example": TEXTS}), max_size=2)
EXAMPLES = st.fixed_dictionaries(
    {},
    optional={
        "body_text": st.lists(st.lists(TEXTS, max_size=2), max_size=1),
        "header_text": st.lists(TEXTS, max_size=1),
        "body_text_named_params": NAMED,
        "header_text_named_params": NAMED,
        "header_handle": st.lists(st.just("4::aW"), max_size=1),
    },
)
BUTTON = st.fixed_dictionaries(
    {
        "type": st.sampled_from(("QUICK_REPLY", "URL", "PHONE_NUMBER", "COPY_CODE", "OTP")),
        "text": TEXTS,
        "url": st.sampled_from(("https://a.example/", "https://a.example/{{1}}", "ftp://a.example")),
        "phone_number": st.sampled_from(("+447700900123", "garage")),
        "example": st.lists(TEXTS, max_size=1),
    }
)
COMPONENT = st.fixed_dictionaries(
    {"type": st.sampled_from(("HEADER", "BODY", "BODY", "FOOTER", "BUTTONS")), "text": TEXTS},
    optional={
        "format": st.sampled_from(("TEXT", "IMAGE", "LOCATION")),
        "example": EXAMPLES,
        "buttons": st.lists(BUTTON, max_size=4),
    },
)


@given(st.lists(COMPONENT, min_size=1, max_size=4), st.sampled_from(("NAMED", "POSITIONAL")))
def test_what_has_no_fault_here_meta_takes(components: list[Any], parameter_format: str) -> None:
    given_content = content(*components, parameter_format=parameter_format)
    assert faults_of(given_content) or refused_by_meta(given_content) is None


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("type", "text", "format", "example", "buttons", "url")), inner)
    ),
    max_leaves=10,
)


@given(ODD)
def test_no_shape_of_components_is_an_accident(components: Any) -> None:
    assert faults_of(content()._replace(components=components))
