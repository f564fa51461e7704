"""The customer beside the thread: contact, consents with their trail, portal, bridges, and why no SMS would go.

Rule 1: why an SMS would not go is the answer of ``libs.common.sms_reach`` on the facts of this moment, the rule that
        the router and the SMS bridge ask.
Rule 2: a person who may not see numbers gets them masked. That somebody read one is written down (``contact_log``).
Rule 3: consents have their defaults where nothing was said: all are given but marketing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

from libs.common.db.shares import Shares
from libs.common.events.directory import ConsentCategory
from libs.common.events.outbound import Channel
from libs.common.pages.languages import Language, zone_of
from libs.common.sms_reach import SmsObstacle, is_allowed
from services.inbox import composer_queries
from services.inbox import customer_queries as queries
from services.inbox.clocks import Clock
from services.inbox.composer_queries import ReachRow
from services.inbox.composing import AskedBefore
from services.inbox.contact_log import ContactLog
from services.inbox.conversations import CONTACT, PortalActivity, channel_of, portal_activity
from services.inbox.customer_queries import BridgeRow, ConsentRow, CustomerFacts
from services.inbox.masking import masked_number, masked_text
from services.inbox.messages import Cost
from services.inbox.people import Person
from services.inbox.problems import not_found
from services.inbox.reach import Reach, reach_of
from services.inbox.reasons import Failure, explain, obstacle_text
from services.inbox.windows import ShownWindow, WindowFacts, WindowRule, shown

Obstacle = SmsObstacle | Literal["bridge_already_sent", "whatsapp_consent_off"]
"""Why no SMS would go now: that of any SMS, or one of the bridge alone."""

CATEGORIES: tuple[ConsentCategory, ...] = get_args(ConsentCategory)
_TRAIL = 50
_BRIDGES = 10
_LATE_MESSAGES = 1_000


@dataclass(frozen=True, slots=True)
class Consent:
    """``at``, ``by`` and ``how`` are None where nothing was said, and the default counts.

    ``by``: who said so, the customer or the garage's directory. ``source``: on which channel. ``how``: a word (STOP or
    START), a switch in WhatsApp, or a refusal of the provider because of it.
    """

    category: str
    allowed: bool
    at: datetime | None
    by: Literal["customer", "directory"] | None
    source: str | None
    how: str | None


@dataclass(frozen=True, slots=True)
class BridgeSms:
    """A bridge SMS of late. ``stands_for`` is a message of the thread."""

    message_id: UUID
    stands_for: UUID | None
    at: datetime
    delivered_at: datetime | None
    status: str
    reason: str | None
    reason_text: str | None
    provider_code: str | None
    cost: Cost


@dataclass(frozen=True, slots=True)
class SmsOutlook:
    """Whether an SMS would go now. ``obstacle`` is why none would, and ``text`` says so; both None where one would."""

    obstacle: Obstacle | None
    text: str | None
    asked: AskedBefore | None


@dataclass(frozen=True, slots=True)
class Contact:
    """Numbers are masked for a person who may not see them. ``reachable``: WhatsApp has an unmarked address."""

    customer_id: UUID
    name: str | None
    phone: str | None
    wa_id: str | None
    reachable: bool
    unreachable_until: datetime | None


@dataclass(frozen=True, slots=True)
class CustomerPanel:
    """Everything beside the thread. ``trail`` is newest first."""

    conversation_id: UUID
    contact: Contact
    window: ShownWindow
    last_inbound_channel: Channel | None
    last_inbound_at: datetime | None
    consents: Sequence[Consent]
    trail: Sequence[Consent]
    portal: PortalActivity
    bridges: Sequence[BridgeSms]
    sms: SmsOutlook

    @property
    def allowed(self) -> Mapping[str, bool]:
        """Consents by category."""
        return {consent.category: consent.allowed for consent in self.consents}


class Customers:
    """The read model of the panel beside a thread."""

    def __init__(self, reads: Shares, rule: WindowRule) -> None:
        self._reads = reads
        self._rule = rule
        self._log = ContactLog()

    async def panel(self, person: Person, conversation_id: UUID, language: Language) -> CustomerPanel:
        """The panel of a conversation. Raises Problem (404)."""
        now = self._reads.pool.now()
        async with self._reads.of(person.org_id) as db:
            facts = await queries.customer(db, person.org_id, conversation_id)
            if facts is None:
                raise not_found()
            place = await composer_queries.place(db, person.org_id, facts.conversation_id, now)
            row = await composer_queries.reach(db, person.org_id, facts.conversation_id, now)
            if place is None or row is None:
                raise not_found()  # merged away at this moment
            said = await queries.consents(db, person.org_id, facts.customer_id)
            trail = await queries.trail(db, person.org_id, facts.customer_id, _TRAIL)
            bridges = await queries.bridges(db, person.org_id, facts.conversation_id, _LATE_MESSAGES, _BRIDGES)
            if person.may(CONTACT) and (facts.phone or facts.wa_id):
                await self._log.note(db, person, facts.customer_id, now)
        return _Panel(person, facts, row, place.asked, language, self._rule, now).made(said, trail, bridges)


@dataclass(frozen=True, slots=True)
class _Panel:
    """Makes the panel of one customer for one person."""

    person: Person
    facts: CustomerFacts
    row: ReachRow
    asked: AskedBefore | None
    language: Language
    rule: WindowRule
    now: datetime

    def made(
        self, said: Sequence[ConsentRow], trail: Sequence[ConsentRow], bridges: Sequence[BridgeRow]
    ) -> CustomerPanel:
        facts, reach, known = self.facts, reach_of(self.row, self.now), {row.category: row for row in said}
        window = WindowFacts(
            facts.last_customer_at, facts.identity_changed_at, facts.first_refused_at, facts.last_refused_at
        )
        # a STOP holds for the number that it came from, and the customer may have another one now
        sms = is_allowed(self.row.phone, consent=self.row.sms_consent, stopped=self.row.sms_stopped_by)
        consents = [_standing(category, known.get(category)) for category in CATEGORIES]
        return CustomerPanel(
            conversation_id=facts.conversation_id,
            contact=self._contact(reach),
            window=shown(window, self.rule, self.now),
            last_inbound_channel=channel_of(facts.last_inbound_channel),
            last_inbound_at=facts.last_inbound_at,
            consents=[replace(one, allowed=sms) if one.category == "sms" else one for one in consents],
            trail=[_said(row) for row in trail],
            portal=portal_activity(facts.last_seen_at, self.now),
            bridges=[self._bridge(row) for row in bridges],
            sms=self._outlook(reach),
        )

    def _contact(self, reach: Reach) -> Contact:
        facts, sees = self.facts, self.person.may(CONTACT)
        marked = [until for _, until in self.row.marks or ()]
        return Contact(
            customer_id=facts.customer_id,
            name=self._name,
            phone=facts.phone if sees else masked_number(facts.phone),
            wa_id=facts.wa_id if sees else masked_number(facts.wa_id),
            reachable=reach.whatsapp,
            unreachable_until=None if reach.whatsapp else max(marked, default=None),
        )

    @property
    def _name(self) -> str | None:
        facts = self.facts
        if facts.name is None or self.person.may(CONTACT):
            return facts.name
        return masked_text(facts.name, [number for number in (facts.phone, facts.wa_id) if number])

    @property
    def _title(self) -> str | None:
        phone = self.facts.phone
        return self._name or (phone if self.person.may(CONTACT) else masked_number(phone))

    def _outlook(self, reach: Reach) -> SmsOutlook:
        found: Obstacle | None = reach.obstacle
        if not self.row.whatsapp_consent:
            found = "whatsapp_consent_off"
        elif found is None and self.asked is not None:
            found = "bridge_already_sent"
        if found is None:
            return SmsOutlook(None, None, None)
        until = None if self.asked is None else self.asked.until
        clock = Clock(self.now, zone_of(self.facts.display_number or self.facts.sms_number), self.language)
        text = obstacle_text(
            found,
            self.language.words,
            name=self._title,
            org=self.facts.org_name,
            next_at=None if until is None else clock.with_day(until),
        )
        return SmsOutlook(found, text, self.asked)

    def _bridge(self, row: BridgeRow) -> BridgeSms:
        failed = row.status == "failed"
        failure = Failure(row.reason, row.provider_code, channel="sms", name=self._title, org=self.facts.org_name)
        return BridgeSms(
            message_id=row.message_id,
            stands_for=row.parent_id,
            at=row.occurred_at,
            delivered_at=row.delivered_at,
            status=row.status,
            reason=row.reason if failed else None,
            reason_text=explain(failure).text(self.language.words) if failed else None,
            provider_code=row.provider_code if failed else None,
            cost=Cost(row.price, row.currency, row.estimated is not False, 1),
        )


def _standing(category: str, row: ConsentRow | None) -> Consent:
    """What was said, else the default."""
    return Consent(category, category != "marketing", None, None, None, None) if row is None else _said(row)


def _said(row: ConsentRow) -> Consent:
    by: Literal["customer", "directory"] = "directory" if row.source is None else "customer"
    return Consent(row.category, row.allowed, row.at, by, row.source, row.cause)
