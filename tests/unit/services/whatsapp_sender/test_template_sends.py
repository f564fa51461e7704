"""The rule for a template's values against an opponent: the sandbox judges the same sends by rules of its own."""

from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from deploy.local.sandbox.schemas import Answer
from deploy.local.sandbox.templates import Template, Templates
from libs.common.events.content import OutTemplate
from libs.common.template_parameters import asked_by, faults
from services.whatsapp_sender.payloads import payload
from tests.support.examples import examples

WABA = "206400000000001"
TEXTS = st.sampled_from(["Kim", "A-7", "a    b", " ", "", "a\nb", "a     b", "x" * 21])
LINK = {"link": "https://example.org/golf.jpg"}
URL = {"type": "URL", "text": "Track", "url": "https://acme.example/{{1}}"}
BUTTONS = st.lists(
    st.sampled_from(
        [
            URL,
            {"type": "URL", "text": "Site", "url": "https://acme.example/"},
            {"type": "PHONE_NUMBER", "text": "Call", "phone_number": "+447700900001"},
            {"type": "COPY_CODE", "example": "10OFF"},
            {"type": "QUICK_REPLY", "text": "Yes"},
        ]
    ),
    max_size=3,
)
HEADERS = st.sampled_from(
    [
        None,
        None,
        {"format": "TEXT", "text": "Hello"},
        {"format": "TEXT", "text": "Order {{1}}"},
        {"format": "TEXT", "text": "Order {{order}}"},
        {"format": "IMAGE"},
        {"format": "DOCUMENT"},
    ]
)
GIVEN_HEADERS = st.none() | st.one_of(
    TEXTS.map(lambda text: {"type": "text", "text": text}),
    TEXTS.map(lambda text: {"type": "text", "text": text, "parameter_name": "order"}),
    st.sampled_from([{"type": "image", "image": LINK}, {"type": "document", "document": LINK}]),
)
PARAMETERS = st.sampled_from(
    [
        {"sub_type": "url", "type": "text", "field": "text"},
        {"sub_type": "copy_code", "type": "coupon_code", "field": "coupon_code"},
        {"sub_type": "quick_reply", "type": "payload", "field": "payload"},
    ]
)
GIVEN_BUTTONS = st.none() | st.lists(
    st.builds(
        lambda index, kind, text: {
            "sub_type": kind["sub_type"],
            "index": str(index),
            "parameters": [{"type": kind["type"], kind["field"]: text}],
        },
        st.integers(0, 3),
        PARAMETERS,
        TEXTS,
    ),
    max_size=3,
)
BODIES = {
    "NAMED": ["Hi.", "Hi {{name}}.", "Hi {{name}} at {{time}}."],
    "POSITIONAL": ["Hi.", "Hi {{1}}.", "Hi {{1}}, {{2}}."],
}
VALUES = st.lists(TEXTS, max_size=2) | st.dictionaries(st.sampled_from(["name", "time"]), TEXTS, max_size=2)


@st.composite
def sends(draw: st.DrawFn) -> tuple[Template, OutTemplate]:
    """A template and a send of it, often a right one."""
    form = draw(st.sampled_from(["NAMED", "POSITIONAL"]))
    body = draw(st.sampled_from(BODIES[form]))
    header, buttons = draw(HEADERS), draw(BUTTONS)
    template = Template(
        name="t", language="en_GB", body=body, parameter_format=form, header=header, buttons=buttons or None
    )
    fields: dict[str, Any] = {"parameters": draw(VALUES), "header": draw(GIVEN_HEADERS), "buttons": draw(GIVEN_BUTTONS)}
    return template, OutTemplate(name="t", language="en_GB", **fields)


def metas_word(template: Template, send: OutTemplate) -> bool:
    known = Templates()
    known.put(template)
    body = payload(send, to="+447700900999", recipient=None, callback="c")
    return not isinstance(known.judge(WABA, body["template"]), Answer)


@given(sends())
@settings(max_examples=examples(300))
def test_what_the_rule_lets_through_is_what_meta_takes(sent: tuple[Template, OutTemplate]) -> None:
    template, send = sent
    asked = asked_by(template.parameter_format, template.body, template.header, template.buttons)
    ours = faults(asked, send.parameters, send.header, send.buttons) == []
    spoken = [place.name for place in (*asked.body, *_spoken(asked.header))]
    assume(all(name.isdigit() != asked.named for name in spoken))  # Meta approves no template with other places
    if _blank(send):
        assert not ours  # Meta takes a text of spaces, and shows a gap: we do not send it
        return
    assert ours == metas_word(template, send), faults(asked, send.parameters, send.header, send.buttons)


def _spoken(header: Any) -> tuple[Any, ...]:
    return tuple(place for place in header or () if place.kind == "text")


def _blank(send: OutTemplate) -> bool:
    values = send.parameters.values() if isinstance(send.parameters, dict) else send.parameters
    texts = [*values, (send.header or {}).get("text", "x")]
    return any(text and not text.strip() for text in texts)
