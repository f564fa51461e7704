"""The composer of a conversation as its template writes it. Pure.

Rule 1: what a person typed or chose is part of every answer to a form, so nothing is lost without scripts either.
Rule 2: what is said of a price, a length or a field is said here; the template says the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

from libs.common.events.content import MAX_TEXT
from libs.common.events.outbound import Channel
from libs.common.pages.languages import Language
from libs.common.sms_reach import MOST_SEGMENTS, parts_of
from services.inbox.composing import Offer, Situation
from services.inbox.drafts import Draft
from services.inbox.picker import Field, Picker
from services.inbox.reasons import obstacle_text

Refusal = Literal[
    "away",  # Kafka did not take it
    "empty",
    "too_long",
    "characters",
    "form_expired",
    "too_many",  # a person's sends of a minute
    "faults",  # of a template's fields, which say what it is
    "unsendable",  # the template may not be sent
    "gone",  # the parked text was sent or dropped before, or its time is over
    "too_many_kept",  # as many texts wait as may
    "hidden",  # the text has a number that the person may not see
    "invalid",  # the message, as the API would say
]
"""Why nothing was sent."""


@dataclass(frozen=True, slots=True)
class Price:
    """An estimate, by the rate card."""

    amount: Decimal
    currency: str


@dataclass(frozen=True, slots=True)
class Prices:
    """What a message to this customer costs today, None where the rate card does not say. ``sms``: of a segment."""

    service: Price | None = None
    sms: Price | None = None
    templates: Mapping[str, Price] = field(default_factory=dict)
    """By category in upper case."""

    def of(self, category: str) -> Price | None:
        return self.templates.get(category)


@dataclass(frozen=True, slots=True)
class Quote:
    """The message that is answered, in one line."""

    text: str


@dataclass(frozen=True, slots=True)
class ParkedText:
    """A text that waits for the customer's next message. ``is_kept``: staff kept it, and nothing was attempted."""

    message_id: UUID
    author: str | None
    at: datetime
    text: str
    is_kept: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """A colleague wrote while this person did."""

    name: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Composer:
    """Everything that ``composing.html`` shows."""

    conversation_id: UUID
    name: str
    org_name: str
    user_id: str
    user_name: str
    token: str
    form_id: str
    situation: Situation
    offer: Offer
    picker: Picker
    prices: Prices
    may_manage_templates: bool
    draft: Draft = field(default_factory=Draft)
    quote: Quote | None = None
    parked: Sequence[ParkedText] = ()
    refusal: Refusal | None = None
    answered_by: Answered | None = None
    seen: int | None = None
    """The newest sequence of the thread when the person began to write."""

    @property
    def path(self) -> str:
        return f"/inbox/{self.conversation_id}"

    @property
    def draft_key(self) -> str:
        """What the browser keeps a half-written text under."""
        return f"draft:{self.user_id}:{self.conversation_id}"

    @property
    def first_name(self) -> str:
        """What sentences call the customer. A number is not cut."""
        first = self.name.split()[0] if self.name.strip() else self.name
        return first if any(letter.isalpha() for letter in first) else self.name

    @property
    def picks(self) -> bool:
        """Whether the picker is shown."""
        return self.offer.mode == "pick" or self.draft.is_picking

    @property
    def is_picking(self) -> bool:
        """Whether the picker is shown although a text may be written."""
        return self.offer.mode == "write" and self.draft.is_picking

    @property
    def offers_templates(self) -> bool:
        return self.situation.consent

    @property
    def channel(self) -> Channel:
        """The channel that is chosen."""
        via = self.draft.via
        return via if via in self.offer.channels else self.offer.channels[0]

    def length(self, language: Language) -> str:
        return language.number(len(self.draft.text))

    def most(self, language: Language) -> str:
        return language.number(MAX_TEXT)

    def segments_line(self, language: Language) -> str:
        """``2 segments, about £0.0800``, or that the text is too long for an SMS."""
        _ = language.words.gettext
        parts = parts_of(self.draft.text)
        if parts > MOST_SEGMENTS:
            return _("An SMS has at most 3 segments: shorten the text.")
        counted = language.words.ngettext("%(num)d segment", "%(num)d segments", parts) % {"num": parts}
        if self.prices.sms is None:
            return counted
        price = language.money(self.prices.sms.amount * parts, self.prices.sms.currency)
        return f"{counted}, {_('about %(price)s') % {'price': price}}"

    def label(self, one: Field, language: Language) -> str:  # noqa: PLR0911 -- one return per kind
        """What a field of the chosen template asks for."""
        _ = language.words.gettext
        match one.place.kind:
            case "image":
                return _("Address of the picture")
            case "video":
                return _("Address of the video")
            case "document":
                return _("Address of the document")
            case "location":
                return _("Place: latitude, longitude")
            case "copy_code":
                return _("Code to copy")
            case "url":
                return _("Button “%(text)s”: what its address ends in") % {"text": one.button}
            case _:
                return one.label or _("Value %(number)s") % {"number": one.place.name}

    def fault(self, one: Field, language: Language) -> str:
        """What is wrong with a field of the chosen template."""
        _ = language.words.gettext
        match one.fault:
            case "missing" | "empty":
                return _("Fill this in: Meta refuses empty values.")
            case "layout":
                return _("No line breaks, tabs or more than four spaces in a row.")
            case "too_long":
                return _("This is too long.")
            case _ if one.place.kind == "location":
                return _("Two numbers are needed here, such as 51.5, -0.12.")
            case _:
                return _("An address that begins with https:// is needed here.")

    def field_name(self, key: str, language: Language) -> str:
        """What stands in the preview for a value that is missing."""
        found = next((one for one in self.picker.fields if one.key == key), None)
        return "…" if found is None else self.label(found, language)

    def why_no_sms(self, language: Language) -> str:
        """Why the customer cannot be asked by SMS."""
        why = self.offer.ask.why_not if self.offer.ask is not None else None
        return "" if why is None else obstacle_text(why, language.words, name=self.first_name, org=self.org_name)

    def refused(self, language: Language) -> str:
        """The sentence behind "Not sent."."""
        _ = language.words.gettext
        sentences: dict[Refusal, str] = {
            "away": _("Sending is down for the moment; reading works. Your text is still here."),
            "empty": _("There is no text in it."),
            "too_long": _("The text is too long for this channel. Please send it in two parts."),
            "characters": _("The text has characters that cannot be sent, such as control characters."),
            "form_expired": _("This page was open for long. Please press Send once more."),
            "too_many": _("These were many messages in a short time. Please wait a minute."),
            "faults": _("Something in the template is missing."),
            "unsendable": _("This template may not be sent now. Choose another one."),
            "gone": _("This text waits no more: it was sent or dropped, or its time is over."),
            "too_many_kept": _("Too many texts wait here. Send or drop some of them first."),
            "hidden": _("Your role may not see a number in this text. It can be sent as it is."),
            "invalid": _("Something in this message is not valid."),
        }
        return sentences[self.refusal] if self.refusal is not None else ""
