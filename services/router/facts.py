"""The facts that a decision is taken on, beside the intent and the clock.

They are stored with the decision, so that the decision can be taken again.

Facts are written compactly (a field that holds its default is left out) and versioned by the record that holds them. A
later version may add fields with defaults; it never changes the meaning of one. No I/O, no clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from libs.common.directory.addressing import KnownAddresses
from libs.common.events.fields import ConsentPurpose
from libs.common.events.intents import BadIntent, Intent
from libs.common.events.outbound import BridgeReason, Channel, OutboundRefused
from libs.common.sms_policy import SmsPolicy, Taken
from libs.common.sms_reach import SmsReach
from libs.common.template_parameters import Asked, asked_by
from libs.common.thread.failure_reasons import closed_by
from libs.common.window import DOUBT_WAIT, Window

NO_WAIT = timedelta(0)
TRANSIENT_WAIT = timedelta(seconds=2)
THROTTLED_WAITS = [timedelta(seconds=30), timedelta(minutes=2), timedelta(minutes=8), timedelta(minutes=15)]
"""After each late status of a rate limit; the last one stays. Meta asks for 4^n seconds between sends to a customer."""


@dataclass(frozen=True, slots=True)
class TemplateFacts:
    """The template that an intent names (its content, else its fallback), as Meta has it.

    ``header`` and ``buttons`` are JSON as the copy holds it, ``null`` where there is none. None in facts of a release
    before the rule: they are not judged.
    """

    status: str
    category: str
    parameter_format: str
    body: str
    header: str | None = None
    buttons: str | None = None

    @property
    def asked(self) -> Asked:
        """What a send of it gives."""
        return _asked(self.parameter_format, self.body, self.header, self.buttons)


@lru_cache(maxsize=4096)
def _asked(parameter_format: str, body: str, header: str | None, buttons: str | None) -> Asked:
    parts = [None if part is None else orjson.loads(part) for part in (header, buttons)]
    asked = asked_by(parameter_format, body, *parts)
    return asked if header is not None and buttons is not None else asked._replace(header=None, buttons=None)


class Facts(NamedTuple):
    """The rows that the decision was taken on. Of an unusable intent most fields are empty.

    ``phone_number_id`` is None when the number, or the conversation that would name it, is unknown or another tenant's.
    A first contact has a number and no ``conversation_id``. Consents and credit are as stored, defaults applied.
    """

    window_length: timedelta
    margin: timedelta

    org_name: str | None = None
    """None: the organisation is unknown."""
    credit_exhausted: bool | None = None
    """None: unknown, which allows."""
    sms_number: str | None = None
    sms_active: bool = False
    sms_countries: tuple[str, ...] | None = None
    """Where its SMS may go; None in facts of a release before the rule."""
    portal_host: str | None = None

    phone_number_id: str | None = None
    display_number: str | None = None
    without_number: bool = False
    """The conversation has no WhatsApp number: the organisation had none when the customer wrote by SMS."""

    conversation_id: UUID | None = None
    wa_id: str | None = None
    bsuid: str | None = None
    wa_id_at: datetime | None = None
    bsuid_at: datetime | None = None
    """When the customer named it last."""
    last_customer_at: datetime | None = None
    identity_changed_at: datetime | None = None
    doubt: timedelta = timedelta(0)
    first_refused_at: datetime | None = None
    last_refused_at: datetime | None = None
    last_inbound_channel: Channel | None = None
    last_inbound_at: datetime | None = None
    held_until: datetime | None = None
    """Until then staff hold the conversation; None: they do not."""
    quoted: str | None = None
    """Meta's id of the message that the intent quotes; None where it quotes none, or one that is not on WhatsApp."""
    reply_unknown: bool = False
    """The intent quotes a message that is not of this conversation."""

    customer_id: UUID | None = None
    erased: bool = False
    """The customer was erased: nobody is behind the conversation."""
    phone: str | None = None
    """The customer's present one, or that which the intent names, where it names another line; None when there is
    none."""
    phone_at: datetime | None = None
    """Since when the directory says so."""
    no_phone_until: datetime | None = None
    """Until then the phone is marked: no SMS arrives there."""
    sms_stopped_until: datetime | None = None
    """Until then the phone is marked: it replied STOP, and nobody has consented since."""
    phone_of_organisation: bool = False
    """The phone is the SMS number of an organisation, so two systems would talk to each other."""
    contacted: bool = False
    """The customer has written to the organisation or called it: to any number, on any channel."""
    whatsapp_consent: bool = True
    sms_consent: bool = True
    sms_explicit: bool = False
    """The customer has consented to SMS explicitly, not by default."""
    marketing_consent: bool = False
    transactional_consent: bool = True
    service_reminders_consent: bool = True

    template: TemplateFacts | None = None
    slot_holder: UUID | None = None
    """The intent whose bridge holds the conversation's slot; asked only for an intent that would be a bridge."""
    sms_spent: int | None = None
    """Segments of the organisation's day before this one; asked only for an intent that would go by SMS, as the next
    six are."""
    sms_daily_segments: int | None = None
    sms_answers_hour: int = 0
    sms_answers_day: int = 0
    """The SMS answers in the conversation within the hour and the day before."""
    sms_hourly_answers: int | None = None
    sms_segments: int | None = None
    """How many segments the SMS would have; None where it was not asked."""
    sms_estimate: str | None = None
    """What it would cost by the rate card, such as ``0.04 GBP``; None where no rate card covers the day."""
    id_taken: bool = False
    """Another message of this organisation already has the intent's id."""

    marked_at: datetime | None = None
    """When the address of this message was marked as unreachable by WhatsApp."""
    marked_until: datetime | None = None
    marketing_limited_until: datetime | None = None
    """Until then Meta delivers no marketing template to the address of this message."""
    refusals: tuple[str, ...] = ()
    """Why this intent's attempts so far were refused, in their order; empty for the first."""
    first_decided_at: datetime | None = None
    """When the first attempt was decided; None while this is the first."""

    @property
    def addresses(self) -> KnownAddresses:
        return KnownAddresses(self.phone, self.phone_at, self.wa_id, self.wa_id_at, self.bsuid, self.bsuid_at)

    @property
    def window(self) -> Window:
        return Window(
            self.last_customer_at,
            self.window_length,
            self.doubt,
            self.identity_changed_at,
            self.first_refused_at,
            self.last_refused_at,
        )

    @property
    def sms(self) -> SmsReach:
        return SmsReach(
            phone=self.phone,
            no_phone_until=self.no_phone_until,
            stopped_until=self.sms_stopped_until,
            allowed=self.sms_consent,
            explicit=self.sms_explicit,
            contacted=self.contacted or self.last_customer_at is not None or self.last_inbound_at is not None,
            number=self.sms_number,
            active=self.sms_active,
            of_organisation=self.phone_of_organisation,
            countries=self.sms_countries,
            spent=self.sms_spent,
            daily=self.sms_daily_segments,
            answers_hour=self.sms_answers_hour,
            answers_day=self.sms_answers_day,
            hourly=self.sms_hourly_answers,
        )

    def consents_to(self, purpose: ConsentPurpose) -> bool:
        """Whether the customer consents to a template for this purpose."""
        match purpose:
            case "transactional":
                return self.transactional_consent
            case "service_reminders":
                return self.service_reminders_consent
            case "marketing":
                return self.marketing_consent

    def open(self, now: datetime) -> bool:
        """Whether a free-form message decided at ``now``, and sent when it may be, arrives in time, margin included."""
        return self.window.is_open(now + self.wait, self.margin)

    def held(self, now: datetime) -> bool:
        """Whether staff hold the conversation, so that AI is silent in it."""
        return self.held_until is not None and now < self.held_until

    def unreachable(self, now: datetime) -> bool:
        """Whether there is no address for WhatsApp, or it is marked: nothing arrives there."""
        return self.nowhere or (self.marked_until is not None and now < self.marked_until)

    def closed_by(self, now: datetime) -> BridgeReason:
        """What closes WhatsApp to a message that is not sent by it."""
        return closed_by(window_open=self.open(now), unreachable=self.unreachable(now))

    @property
    def nowhere(self) -> bool:
        """Whether WhatsApp has no way to the customer.

        They have neither a number nor a BSUID, because they gave the number up and no other is known; or the
        organisation has no number in this conversation.
        """
        if self.without_number:
            return True
        return self.bsuid is None and self.phone is None and self.addresses.number is None

    @property
    def marked_since(self) -> bool:
        """Whether the address was marked since the intent's first attempt, by this message or by another."""
        if "unreachable" in self.refusals:
            return True
        marked, first = self.marked_at, self.first_decided_at
        return marked is not None and first is not None and marked >= first

    def marketing_limited(self, now: datetime) -> bool:
        """Whether the template is one of marketing, of which Meta delivers none to the address for now."""
        until = self.marketing_limited_until
        return until is not None and now < until and self.template is not None and self.template.category == "MARKETING"

    @property
    def template_spent(self) -> bool:
        """Whether Meta refused this message as the template that it carries, or failed at it twice.

        The same would fail again.
        """
        return "template_refused" in self.refusals or self.refusals.count("transient") > 1

    @property
    def unread_in_portal(self) -> bool:
        """Whether this message was in the portal and was not read in time. The portal is not chosen again."""
        return "portal_unread" in self.refusals

    @property
    def wait(self) -> timedelta:
        """How long a further try on WhatsApp waits, by the reason of the last refusal."""
        match self.refusals[-1:]:
            case ("window_closed",) if self.window.is_doubtful:
                return DOUBT_WAIT
            case ("transient",):
                return TRANSIENT_WAIT
            case ("throttled",):
                return THROTTLED_WAITS[min(self.refusals.count("throttled"), len(THROTTLED_WAITS)) - 1]
            case _:
                return NO_WAIT

    def window_state(self, now: datetime) -> dict[str, Any] | None:
        """The fields of a ``WindowState``, as it is published with the decision. None without a conversation.

        ``open`` is the router's own test, margin included.
        """
        if self.conversation_id is None:
            return None
        window = self.window
        return {
            "opened_at": window.last_customer_at,
            "closes_at": window.closes_at,
            "open": window.is_open(now, self.margin),
        }


@dataclass(slots=True)
class Attempt:
    """One attempt of one intent, to be decided on ``facts``, which are completed while the gates are asked.

    ``sequence``: the message's place in its thread. ``refused``: what sent the attempt before back. ``known_holder``:
    the intent that held the conversation's bridge slot when the facts were read. ``decided``: the attempt stood
    recorded then. ``sms_policy``: the organisation's limits, which become facts of an intent that would go by SMS.
    ``counted``: what its SMS takes of the organisation's day. ``not_before``: it follows a file (``media_order``).
    """

    intent: Intent | BadIntent
    number: int
    sequence: int
    facts: Facts
    refused: OutboundRefused | None = None
    known_holder: UUID | None = None
    decided: bool = False
    sms_policy: SmsPolicy | None = None
    counted: Taken | None = None
    not_before: datetime | None = None


_ALWAYS = object()
_DEFAULTS = tuple(Facts._field_defaults.get(name, _ALWAYS) for name in Facts._fields)
_INSTANTS = (
    *("last_customer_at", "identity_changed_at", "first_refused_at", "last_refused_at", "last_inbound_at"),
    *("wa_id_at", "bsuid_at", "phone_at", "no_phone_until", "sms_stopped_until"),
    *("marked_at", "marked_until", "marketing_limited_until", "first_decided_at", "held_until"),
)
_IDS = ("conversation_id", "customer_id", "slot_holder")


def facts_to_json(facts: Facts) -> dict[str, Any]:
    """A JSON object (orjson's types) of what differs from the defaults; durations in seconds."""
    found: dict[str, Any] = {
        name: value
        for name, value, default in zip(Facts._fields, facts, _DEFAULTS, strict=True)
        if value is not default
    }
    for name in _IDS:
        if name in found:
            found[name] = str(found[name])
    found["window_length"] = facts.window_length.total_seconds()
    found["margin"] = facts.margin.total_seconds()
    found["doubt"] = facts.doubt.total_seconds()
    if facts.template is not None:
        template = facts.template
        found["template"] = [template.status, template.category, template.parameter_format, template.body]
        if template.header is not None and template.buttons is not None:
            found["template_parts"] = [template.header, template.buttons]
    return found


def facts_from_json(found: Mapping[str, Any]) -> Facts:
    """The facts that ``facts_to_json`` wrote, after any trip through JSON; fields of a later version are left aside."""
    values = {name: found[name] for name in Facts._fields if name in found}
    for name in ("window_length", "margin", "doubt"):
        if name in values:
            values[name] = timedelta(seconds=values[name])
    for name in _INSTANTS:
        if isinstance(values.get(name), str):
            values[name] = datetime.fromisoformat(values[name]).astimezone(UTC)
    for name in _IDS:
        if isinstance(values.get(name), str):
            values[name] = UUID(values[name])
    for name in ("refusals", "sms_countries"):
        if values.get(name) is not None:
            values[name] = tuple(values[name])
    if "template" in values:
        values["template"] = TemplateFacts(*values["template"], *found.get("template_parts", ()))
    return Facts(**values)
