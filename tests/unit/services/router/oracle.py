"""The decision table once more, written as a table and by other means, to hold ``decide`` against.

Every row is (number, condition, outcome); the first whose condition holds decides. It shares no code with the router:
the window, the parameters and the channels are judged here anew from the raw facts.
"""

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from libs.common.events.intents import BadIntent, Intent
from services.router.facts import Facts

Verdict = tuple[str, str | None, str]
"""route, channel, reason"""


class View:
    """What the rows look at."""

    def __init__(self, intent: Intent | BadIntent, facts: Facts, now: datetime) -> None:
        self.bad = intent if isinstance(intent, BadIntent) else None
        self.f = facts
        self.now = now
        raw: dict[str, Any] = {} if isinstance(intent, BadIntent) else intent.model_dump()
        self.intent = raw
        self.kind = raw.get("content", {}).get("kind")
        self.is_template = self.kind == "template"
        self.channel = raw.get("channel")
        self.actor = raw.get("actor", {})

    def template_fault(self, template: dict[str, Any]) -> str | None:
        found = self.f.template
        if found is None or found.status != "APPROVED":
            return "template_not_approved"
        holes = set(re.findall(r"{{(\w+)}}", found.body))
        given = template["parameters"]
        if self.part_fault(template):
            return "template_parameters"
        if not holes and not given:
            return None
        as_mapping = given if isinstance(given, dict) else {str(i + 1): v for i, v in enumerate(given)}
        right_shape = isinstance(given, dict) == (found.parameter_format == "NAMED")
        clean = all(v.strip() and not any(bad in v for bad in ("\n", "\t", " " * 5)) for v in as_mapping.values())
        return None if right_shape and set(as_mapping) == holes and clean else "template_parameters"

    def part_fault(self, template: dict[str, Any]) -> bool:
        """Of header and buttons, those that the tests have: what each copy asks for, and which values give it."""
        found = self.f.template
        if found is None or found.header is None:
            return False
        named = found.parameter_format == "NAMED"
        header, buttons = template["header"], template["buttons"]
        if "IMAGE" in found.header:
            wrong_header = header is None or header["type"] != "image"
        elif "{{1}}" in found.header:
            wrong_header = named or header is None or header["type"] != "text"
        else:
            wrong_header = header is not None
        sub_types = [(b["sub_type"], b.get("index")) for b in buttons or ()]
        filled = [v.strip() for b in buttons or () for p in b["parameters"] for k, v in p.items() if k != "type"]
        if "URL" in (found.buttons or ""):
            wrong_buttons = sub_types != [("url", "1")]
        elif "COPY" in (found.buttons or ""):
            wrong_buttons = sub_types != [("copy_code", None)]
        else:
            wrong_buttons = bool(buttons)
        return wrong_header or wrong_buttons or not all(filled)

    def consent_fault(self) -> str | None:
        if not self.f.whatsapp_consent:
            return "whatsapp_consent_off"
        said = {
            "transactional": self.f.transactional_consent,
            "service_reminders": self.f.service_reminders_consent,
            "marketing": self.f.marketing_consent,
        }
        if self.intent["purpose"] and not said[self.intent["purpose"]]:
            return f"{self.intent['purpose']}_consent_off"
        marketing = self.f.template is not None and self.f.template.category == "MARKETING"
        return "marketing_consent_off" if marketing and not self.f.marketing_consent else None

    def fallback_usable(self) -> bool:
        fallback = self.intent["fallback_template"]
        if self.marked() or "template_refused" in self.f.refusals or self.f.refusals.count("transient") > 1:
            return False
        limited = self.later(self.f.marketing_limited_until)
        if limited and self.f.template is not None and self.f.template.category == "MARKETING":
            return False
        return fallback is not None and self.template_fault(fallback) is None and self.consent_fault() is None

    def sms_trouble(self, parts: int | None = None) -> str | None:
        """Why no SMS of so many segments goes; without them it is the text's own."""
        troubles = [
            (
                self.f.phone is None
                or self.f.phone_of_organisation
                or self.later(self.f.no_phone_until)
                or self.landline(),
                "no_phone",
            ),
            (not self.f.sms_consent or self.later(self.f.sms_stopped_until), "sms_opted_out"),
            (not self.f.sms_active or self.f.sms_number is None, "sms_unavailable"),
            (not self.f.sms_explicit and not self.wrote(), "never_contacted"),
            (re.match(r"\+(8[78]|979|44909)", self.f.phone or "") is not None or self.abroad(), "country_not_allowed"),
            (self.spent_out(parts or self.parts()) or self.answered_enough(), "spend_cap_reached"),
        ]
        return next((reason for holds, reason in troubles if holds), None)

    def landline(self) -> bool:
        """Also a number that is too short."""
        return self.f.sms_countries is not None and self.f.phone in ("+442071838750", "+447")

    def abroad(self) -> bool:
        codes = {"GB": "+44", "JE": "+44", "US": "+1", "IE": "+353"}
        countries = self.f.sms_countries
        return countries is not None and not any((self.f.phone or "").startswith(codes[c]) for c in countries)

    def spent_out(self, parts: int) -> bool:
        most, so_far = self.f.sms_daily_segments, self.f.sms_spent
        return most is not None and so_far is not None and so_far + parts > most

    def answered_enough(self) -> bool:
        most = self.f.sms_hourly_answers
        return most is not None and (self.f.sms_answers_hour >= most or self.f.sms_answers_day >= 20)

    def parts(self) -> int:
        """The segments of the intent's text, of those that the tests have."""
        return {0: 1, 19: 1, 459: 3, 460: 4, 101: 4}[len(self.intent["content"].get("text", ""))]

    def later(self, until: datetime | None) -> bool:
        return until is not None and until > self.now

    def wrote(self) -> bool:
        return self.f.contacted or self.f.last_customer_at is not None or self.f.last_inbound_at is not None

    def too_long(self) -> bool:
        """More than three segments: 153 of the cheap alphabet, 67 UTF-16 units of any other.

        Row by row, the texts of the tests are such.
        """
        text = self.intent["content"].get("text", "")
        cheap = text.replace("\u2019", "'").isascii()
        return (len(text) > 459) if cheap else (len(text.encode("utf-16-le")) // 2 > 201)

    def alive(self) -> str | None:
        """The SMS or portal channel that row 7 would take, usable or not."""
        unread = "portal_unread" in self.f.refusals
        if self.channel == "sms" or (self.channel == "portal" and not unread):
            return str(self.channel)
        at = self.f.last_inbound_at
        fresh = at is not None and self.now - at < self.f.window_length
        if self.channel == "auto" and fresh and self.f.last_inbound_channel in ("sms", "portal"):
            return None if unread and self.f.last_inbound_channel == "portal" else self.f.last_inbound_channel
        return None

    def alive_and_usable(self) -> str | None:
        alive = self.alive()
        if alive == "sms" and (self.kind != "text" or self.too_long() or self.sms_trouble() is not None):
            return None
        return alive

    def open(self) -> bool:
        at, refused = self.f.last_customer_at, self.f.identity_changed_at
        if at is None or (refused is not None and not refused < at) or self.refused_for_certain(at):
            return False
        return (self.now - at) + self.f.margin + self.put_off(at) < self.f.window_length

    def put_off(self, at: datetime) -> timedelta:
        """How long a further try waits before it is sent."""
        last = (self.f.refusals or ("",))[-1]
        seconds = {"transient": 2, "throttled": 30}.get(last, 0)
        refused = self.f.last_refused_at is not None and self.f.last_refused_at >= at
        return timedelta(seconds=15 if last == "window_closed" and refused else seconds)

    def marked(self) -> bool:
        return self.later(self.f.marked_until) or self.nowhere()

    def nowhere(self) -> bool:
        return self.f.without_number or not any((self.f.phone, self.f.wa_id, self.f.bsuid))

    def marked_since(self) -> bool:
        said, first = self.f.marked_at, self.f.first_decided_at
        return self.nowhere() or (
            self.marked() and ("unreachable" in self.f.refusals or (said and first and said >= first) is True)
        )

    def way_closed(self) -> str:
        return "whatsapp_unreachable" if self.marked() and self.open() else "window_expired"

    def refused_for_certain(self, at: datetime) -> bool:
        """Of what Meta refused since the customer wrote: the first long after the message, or anything sent when the
        doubt was over.
        """
        since = sorted(t for t in (self.f.first_refused_at, self.f.last_refused_at) if t is not None and t >= at)
        if not since or self.f.last_refused_at is None or self.f.last_refused_at < at:
            return False
        late = (since[0] - at).total_seconds() > self.f.doubt.total_seconds() or not self.f.doubt
        return late or (self.f.last_refused_at - since[0]).total_seconds() >= 15

    def unknown(self) -> bool:
        f = self.f
        return (
            f.org_name is None
            or (f.phone_number_id is None and not f.without_number)
            or (self.intent["conversation_id"] is not None and f.conversation_id is None)
        )

    def bad_phone(self) -> bool:
        to = self.intent.get("to")
        return to is not None and not re.fullmatch(r"(\+|00)[1-9]\d{6,14}", to["phone"])

    def expired(self) -> bool:
        at = self.intent["expires_at"]
        return at is not None and at <= self.now

    def unpermitted(self) -> bool:
        return self.actor["kind"] == "staff" and not {"*", "messages.send"} & set(self.actor["capabilities"])


Row = tuple[str, Callable[[View], object], Callable[[View], Verdict]]

TABLE: list[Row] = [
    ("1 bad", lambda v: v.bad, lambda v: ("rejected", None, v.bad.reason if v.bad else "")),
    ("0 erased", lambda v: v.f.erased, lambda _: ("rejected", None, "customer_erased")),
    ("1 id or phone", lambda v: v.f.id_taken or v.bad_phone(), lambda _: ("rejected", None, "invalid_intent")),
    (
        "1 caption",
        lambda v: v.kind == "audio" and v.intent["content"]["caption"],
        lambda _: ("rejected", None, "invalid_intent"),
    ),
    (
        "1 content",
        lambda v: v.channel == "sms" and v.kind not in ("text", "template", "bridge"),
        lambda _: ("rejected", None, "unsupported_content"),
    ),
    ("1 unknown", View.unknown, lambda _: ("rejected", None, "unknown_conversation")),
    ("1 reply", lambda v: v.f.reply_unknown, lambda _: ("rejected", None, "invalid_intent")),
    (
        "1b bridge",
        lambda v: (
            v.kind == "bridge"
            and v.actor["kind"] != "staff"
            and not (v.actor["kind"] == "system" and "portal.link_wanted" in v.actor.get("capabilities", ()))
        ),
        lambda _: ("rejected", None, "unsupported_content"),
    ),
    (
        "1b",
        lambda v: v.channel == "sms" and v.kind == "text" and v.too_long(),
        lambda _: ("rejected", None, "unsupported_content"),
    ),
    ("2", View.unpermitted, lambda _: ("rejected", None, "not_permitted")),
    ("3", View.expired, lambda _: ("silent", None, "intent_expired")),
    (
        "3b",
        lambda v: v.actor["kind"] == "ai" and v.later(v.f.held_until),
        lambda _: ("silent", None, "conversation_held"),
    ),
    (
        "3c",
        lambda v: v.kind == "bridge" and v.f.whatsapp_consent and v.open() and not v.marked(),
        lambda _: ("rejected", None, "window_open"),
    ),
    (
        "4",
        lambda v: v.is_template and v.template_fault(v.intent["content"]),
        lambda v: ("rejected", None, str(v.template_fault(v.intent["content"]))),
    ),
    ("5", lambda v: v.is_template and v.consent_fault(), lambda v: ("rejected", None, str(v.consent_fault()))),
    ("5b", lambda v: v.is_template and v.marked_since(), lambda _: ("rejected", None, "whatsapp_unreachable")),
    ("6", lambda v: v.is_template, lambda _: ("template", "whatsapp", "template_requested")),
    (
        "7",
        lambda v: v.kind != "bridge" and v.alive_and_usable(),
        lambda v: ("session", v.alive_and_usable(), "live_channel"),
    ),
    (
        "7b",
        lambda v: v.kind != "bridge" and v.channel == "sms" and v.sms_trouble(),
        lambda v: ("silent", None, str(v.sms_trouble())),
    ),
    (
        "8",
        lambda v: v.f.whatsapp_consent and v.open() and not v.marked(),
        lambda _: ("session", "whatsapp", "window_open"),
    ),
    ("9", lambda v: not v.f.whatsapp_consent, lambda _: ("silent", None, "whatsapp_consent_off")),
    (
        "10",
        lambda v: v.actor["kind"] == "ai" and v.f.credit_exhausted is True,
        lambda _: ("silent", None, "credit_exhausted"),
    ),
    (
        "11",
        lambda v: v.kind != "bridge" and v.fallback_usable(),
        lambda _: ("template", "whatsapp", "fallback_template"),
    ),
    ("12 sms", lambda v: v.sms_trouble(1), lambda v: ("silent", None, str(v.sms_trouble(1)))),
    (
        "13",
        lambda v: v.f.slot_holder not in (None, v.intent["intent_id"]),
        lambda _: ("silent", None, "bridge_already_sent"),
    ),
    ("14", lambda _: True, lambda v: ("bridge", "sms", v.way_closed())),
]


def verdict(intent: Intent | BadIntent, facts: Facts, now: datetime) -> tuple[str, Verdict]:
    """The row's number and what it says."""
    view = View(intent, facts, now)
    return next((name, outcome(view)) for name, condition, outcome in TABLE if condition(view))
