"""Intents and facts, valid by default, and hypothesis strategies for any of them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from libs.common.events.intents import BadIntent, Intent
from services.router.facts import Facts, TemplateFacts

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(hours=24)
MARGIN = timedelta(seconds=30)
DOUBT = timedelta(seconds=300)
INTENT_ID = UUID("01932f70-11aa-7d2e-8f00-3b7c5d9e1a01")
CONVERSATION = UUID("01932f6e-3a54-7c11-9d5b-6a1f0c7e2b11")
OTHER = UUID("01932f70-11aa-7d2e-8f00-3b7c5d9e1a99")

TEXT = {"kind": "text", "text": "Your Golf is ready."}
THREE_SEGMENTS = {"kind": "text", "text": "It\u2019s " + "a" * 454}
FOUR_SEGMENTS = {"kind": "text", "text": "It\u2019s " + "a" * 455}
EMOJI = {"kind": "text", "text": "\U0001f697" * 101}
IMAGE = {"kind": "image", "link": "https://example.org/golf.jpg"}
CAPTIONED_AUDIO = {"kind": "audio", "media_id": "77", "caption": "Hear the noise?"}
BRIDGE = {"kind": "bridge"}
TEMPLATE = {"kind": "template", "name": "car_ready", "language": "en_GB", "parameters": {"customer_name": "Kim"}}
FALLBACK = {name: value for name, value in TEMPLATE.items() if name != "kind"}
CAR_READY = TemplateFacts("APPROVED", "UTILITY", "NAMED", "Hi {{customer_name}}, your car is ready.")


def an_intent(**changes: Any) -> Intent:
    return Intent.model_validate(
        {
            "type": "outbound.intent.v1",
            "intent_id": INTENT_ID,
            "org_id": "acme",
            "conversation_id": CONVERSATION,
            "actor": {"kind": "ai"},
            "content": TEXT,
            "created_at": NOW - timedelta(seconds=1),
        }
        | changes
    )


def a_first_contact(**changes: Any) -> Intent:
    return an_intent(
        **{"conversation_id": None, "to": {"phone_number_id": "106400000000001", "phone": "+447700900999"}} | changes
    )


def a_bad_intent(**changes: Any) -> BadIntent:
    fields: dict[str, Any] = {
        "intent_id": INTENT_ID,
        "org_id": "acme",
        "reason": "invalid_intent",
        "detail": "content.text: Field required",
        "conversation_id": CONVERSATION,
        "created_at": NOW,
        "actor_kind": "ai",
        "user_id": None,
    }
    return BadIntent(**fields | changes)


def some_facts(**changes: Any) -> Facts:
    """A known customer with a phone who wrote an hour ago; every channel would do."""
    fields: dict[str, Any] = {
        "window_length": DAY,
        "margin": MARGIN,
        "doubt": DOUBT,
        "org_name": "AcmeMotors",
        "sms_number": "+447700900001",
        "sms_active": True,
        "portal_host": "tflow.link",
        "phone_number_id": "106400000000001",
        "display_number": "+447700900123",
        "conversation_id": CONVERSATION,
        "wa_id": "447700900999",
        "last_customer_at": NOW - timedelta(hours=1),
        "last_inbound_channel": "whatsapp",
        "last_inbound_at": NOW - timedelta(hours=1),
        "customer_id": OTHER,
        "phone": "+447700900999",
        "template": CAR_READY,
    }
    return Facts(**fields | changes)


def closed_facts(**changes: Any) -> Facts:
    """The same customer, who wrote two days ago."""
    return some_facts(**{"last_customer_at": NOW - 2 * DAY, "last_inbound_at": NOW - 2 * DAY} | changes)


INSTANTS = st.one_of(
    st.sampled_from(
        [
            NOW,
            NOW - DAY,
            NOW - DAY + MARGIN,
            NOW - DAY + timedelta(microseconds=1),
            NOW - DAY + MARGIN + timedelta(microseconds=1),
        ]
    ),
    st.timedeltas(-2 * DAY, 2 * DAY).map(NOW.__add__),
    st.integers(-400, 0).map(lambda seconds: NOW + timedelta(seconds=seconds)),
)

ACTORS = st.one_of(
    st.just({"kind": "ai"}),
    st.just({"kind": "system"}),
    st.just({"kind": "system", "capabilities": ["portal.link_wanted"]}),
    st.sampled_from([[], ["messages.view"], ["messages.send"], ["*"], ["messages.view", "messages.send"]]).map(
        lambda capabilities: {"kind": "staff", "user_id": "u1", "capabilities": capabilities}
    ),
)
PARAMETERS = st.sampled_from(
    [
        {"customer_name": "Kim"},
        {"customer_name": ""},
        {"customer_name": "a\nb"},
        {"customer_name": "a     b"},
        {},
        [],
        ["Kim"],
        {"other": "Kim"},
    ]
)
PICTURE = {"type": "image", "image": {"link": "https://example.org/golf.jpg"}}
HEADER_VALUES = st.sampled_from([None, None, PICTURE, {"type": "text", "text": "A-7"}])
SUFFIX = {"sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": "a7"}]}
CODE = {"sub_type": "copy_code", "parameters": [{"type": "coupon_code", "coupon_code": "10OFF"}]}
EMPTY_SUFFIX = {"sub_type": "url", "index": "1", "parameters": [{"type": "text", "text": " "}]}
BUTTON_VALUES = st.sampled_from([None, None, [SUFFIX], [CODE], [EMPTY_SUFFIX]])
HEADERS = st.sampled_from(
    [None, "null", "null", "null", '{"format": "IMAGE"}', '{"format": "TEXT", "text": "No {{1}}"}']
)
TRACK_BUTTONS = '[{"type": "QUICK_REPLY"}, {"type": "URL", "url": "https://acme.example/{{1}}"}]'
BUTTONS = st.sampled_from([None, "null", "null", "null", TRACK_BUTTONS, '[{"type": "COPY_CODE"}]'])
TEMPLATES = st.just(FALLBACK) | st.builds(
    lambda parameters, header, buttons: FALLBACK | {"parameters": parameters, "header": header, "buttons": buttons},
    PARAMETERS,
    HEADER_VALUES,
    BUTTON_VALUES,
)
PURPOSES = st.sampled_from([None, None, "transactional", "service_reminders", "marketing"])
CONTENTS = st.one_of(
    st.sampled_from([TEXT, TEXT, THREE_SEGMENTS, FOUR_SEGMENTS, EMOJI]),
    st.just(IMAGE),
    st.just(CAPTIONED_AUDIO),
    st.just({"kind": "reaction", "message_id": "wamid.1", "emoji": "👍"}),
    st.just({"kind": "contacts", "contacts": [{"name": {"formatted_name": "Bo"}, "n": 2**63, "x": None}]}),
    TEMPLATES.map(lambda fields: fields | {"kind": "template"}),
    st.just(BRIDGE),
)


def _a_few_of(fields: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Values of at most four of the fields: where all are drawn, one of them ends nearly every decision early."""
    names = st.lists(st.sampled_from(sorted(fields)), max_size=4, unique=True)
    return names.flatmap(lambda some: st.fixed_dictionaries({name: fields[name] for name in some}))


USUAL_INTENTS: list[dict[str, Any]] = [
    {},
    {"fallback_template": FALLBACK},
    {"channel": "portal"},
    {"channel": "sms"},
    {"channel": "sms", "content": IMAGE},
    {"channel": "sms", "content": FOUR_SEGMENTS},
    {"content": TEMPLATE},
    {"content": TEMPLATE, "purpose": "transactional"},
    {"content": BRIDGE, "actor": {"kind": "staff", "user_id": "u1", "capabilities": ["messages.send"]}},
]
WELL_FORMED = st.builds(
    lambda make, usual, changes: make(**usual | changes),
    st.sampled_from([an_intent, an_intent, a_first_contact]),
    st.sampled_from(USUAL_INTENTS),
    _a_few_of(
        {
            "actor": ACTORS,
            "content": CONTENTS,
            "channel": st.sampled_from(["auto", "whatsapp", "sms", "portal"]),
            "fallback_template": st.none() | TEMPLATES,
            "expires_at": st.none() | INSTANTS,
            "purpose": PURPOSES,
            "reply_to": st.sampled_from([None, OTHER]),
        }
    ),
)
ODD_PHONE = st.builds(
    lambda phone: a_first_contact(to={"phone_number_id": "1", "phone": phone}),
    st.sampled_from(["07700", "00447700900999", "x"]),
)
BAD = st.builds(
    lambda reason, created_at: a_bad_intent(reason=reason, created_at=created_at),
    st.sampled_from(["invalid_intent", "unsupported_content"]),
    st.none() | INSTANTS,
)
INTENTS: st.SearchStrategy[Intent | BadIntent] = st.sampled_from([*[WELL_FORMED] * 16, ODD_PHONE, BAD]).flatmap(
    lambda kind: kind
)
PHONES = st.sampled_from(
    [
        *(None, *["+447700900999"] * 6, "+12025550123", "+442071838750", "+447"),
        *("+88213000001", "+870772001234", "+449098790000"),
    ]
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "window_length": st.sampled_from([DAY, timedelta(seconds=8)]),
    "margin": st.sampled_from([timedelta(0), MARGIN]),
    "org_name": st.sampled_from([None, "AcmeMotors", "AcmeMotors"]),
    "credit_exhausted": st.sampled_from([None, True, False]),
    "sms_number": st.sampled_from([None, "+447700900001", "+447700900001"]),
    "sms_active": st.booleans(),
    "sms_countries": st.sampled_from([None, ("GB",), ("GB",), ("JE",), ("IE", "US"), ()]),
    "sms_spent": st.sampled_from([None, 0, 0, 497, 498, 499, 500, 501]),
    "sms_daily_segments": st.sampled_from([None, 500, 500, 0]),
    "sms_answers_hour": st.sampled_from([0, 0, 5, 6]),
    "sms_answers_day": st.sampled_from([0, 0, 19, 20]),
    "sms_hourly_answers": st.sampled_from([None, 6, 6, 0]),
    "sms_segments": st.sampled_from([None, 1, 3]),
    "sms_estimate": st.sampled_from([None, "0.04 GBP"]),
    "portal_host": st.sampled_from([None, "tflow.link"]),
    "phone_number_id": st.sampled_from([None, "106400000000001", "106400000000001", "106400000000001"]),
    "display_number": st.just("+447700900123"),
    "conversation_id": st.sampled_from([None, CONVERSATION, CONVERSATION, CONVERSATION]),
    "wa_id": st.sampled_from([None, "447700900999"]),
    "bsuid": st.sampled_from([None, "GB.1"]),
    "wa_id_at": st.none() | INSTANTS,
    "bsuid_at": st.none() | INSTANTS,
    "phone_at": st.none() | INSTANTS,
    "last_customer_at": st.none() | INSTANTS,
    "identity_changed_at": st.none() | INSTANTS,
    "doubt": st.sampled_from([timedelta(0), DOUBT, DOUBT]),
    "first_refused_at": st.none() | INSTANTS,
    "last_refused_at": st.none() | INSTANTS,
    "last_inbound_channel": st.sampled_from([None, "whatsapp", "sms", "portal"]),
    "last_inbound_at": st.none() | INSTANTS,
    "customer_id": st.sampled_from([None, OTHER]),
    "erased": st.sampled_from([False] * 9 + [True]),
    "phone": PHONES,
    "no_phone_until": st.none() | INSTANTS,
    "sms_stopped_until": st.none() | INSTANTS,
    "contacted": st.booleans(),
    "sms_explicit": st.booleans(),
    "whatsapp_consent": st.sampled_from([True, True, False]),
    "sms_consent": st.booleans(),
    "marketing_consent": st.booleans(),
    "transactional_consent": st.sampled_from([True, True, False]),
    "service_reminders_consent": st.sampled_from([True, True, False]),
    "held_until": st.none() | INSTANTS,
    "quoted": st.sampled_from([None, "wamid.1"]),
    "reply_unknown": st.sampled_from([False, False, False, False, True]),
    "template": st.none()
    | st.builds(
        TemplateFacts,
        st.sampled_from(["APPROVED", "APPROVED", "PAUSED"]),
        st.sampled_from(["UTILITY", "MARKETING"]),
        st.sampled_from(["NAMED", "POSITIONAL"]),
        st.sampled_from(["Hi {{customer_name}}.", "Hi {{1}}.", "Hi."]),
        st.none() | HEADERS,
        st.none() | BUTTONS,
    ).map(lambda found: found if found.header and found.buttons else replace(found, header=None, buttons=None)),
    "slot_holder": st.sampled_from([None, INTENT_ID, OTHER]),
    "id_taken": st.sampled_from([False, False, False, False, True]),
    "marked_at": st.none() | INSTANTS,
    "marked_until": st.none() | INSTANTS,
    "marketing_limited_until": st.none() | INSTANTS,
    "refusals": st.lists(
        st.sampled_from(
            ["window_closed", "unreachable", "template_refused", "transient", "throttled", "account", "portal_unread"]
        ),
        max_size=2,
    ).map(tuple),
    "first_decided_at": st.none() | INSTANTS,
}
MARKED: dict[str, Any] = {"marked_at": NOW - timedelta(hours=1), "marked_until": NOW + DAY}
USUAL_FACTS: list[dict[str, Any]] = [
    *({}, {}, {}, MARKED, MARKED | {"first_decided_at": NOW - timedelta(hours=2)}),
    {"whatsapp_consent": False},
    {"transactional_consent": False, "template": replace(CAR_READY, category="MARKETING")},
    {"marketing_limited_until": NOW + DAY, "template": replace(CAR_READY, category="MARKETING")},
    {"sms_consent": False},
    {"credit_exhausted": True},
    {"held_until": NOW + DAY},
    {"last_inbound_channel": "portal", "last_inbound_at": NOW - timedelta(minutes=1)},
    {"slot_holder": OTHER},
    {"reply_unknown": True},
]
NEARLY_USUAL = st.builds(
    lambda make, usual, changes: make(**usual | changes),
    st.sampled_from([some_facts, closed_facts]),
    st.sampled_from(USUAL_FACTS),
    _a_few_of(FIELDS),
)
FACTS = st.sampled_from([*[NEARLY_USUAL] * 9, st.builds(Facts, **FIELDS)]).flatmap(lambda kind: kind)
