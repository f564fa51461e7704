"""The composer of a conversation for a person, made of what is stored now."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from libs.common.directory.template_parts import components_of
from libs.common.pages.entries import entry_of
from libs.common.pages.writing import form_id
from services.inbox import composer_queries as queries
from services.inbox.composer_queries import AnsweredRow, PlaceRow, ReachRow, TemplateRow
from services.inbox.composer_views import Answered, Composer, ParkedText, Quote, Refusal
from services.inbox.composing import Hold, Situation, offer_of
from services.inbox.conversations import Conversation
from services.inbox.drafts import Draft
from services.inbox.estimates import prices_for
from services.inbox.failed_actions import Failed, Help, help_for
from services.inbox.masking import shown_content
from services.inbox.messages import PHONE_APP, STAFF
from services.inbox.picker import PickTemplate, picker_of
from services.inbox.problems import not_found
from services.inbox.reach import reach_of
from services.inbox.views import Message
from services.inbox.visits import Visit, language_of

_SHOWN = 200
"""Characters of a quoted message."""


@dataclass(frozen=True, slots=True)
class Helping:
    """What helps with a message that failed. ``path``: of its conversation."""

    kind: Help
    path: str


async def helps_of(
    visit: Visit, conversation: Conversation, messages: Sequence[Message], composer: Composer | None = None
) -> Mapping[str, Helping]:
    """For those of these messages that failed, by their ids. ``composer``: of the page, where it has one."""
    failed = [one for one in messages if one.is_failed and one.is_out and one.released_by is None]
    if not failed:
        return {}
    shown = composer or await composer_of(visit, conversation)
    found: dict[str, Helping] = {}
    for one in failed:
        failure = Failed(one.reason, one.provider_code, str(one.content.get("kind")), one.kind == "ai")
        if (kind := help_for(failure, shown.situation, shown.offer)) is not None:
            found[one.message_id] = Helping(kind, shown.path)
    return found


async def composer_of(
    visit: Visit, conversation: Conversation, draft: Draft | None = None, *, refusal: Refusal | None = None
) -> Composer:
    """The composer with this draft. Raises Problem (404) where the conversation has gone meanwhile."""
    deps, person, draft = visit.deps, visit.person, draft or Draft()
    now, place_id = deps.pool.now(), conversation.conversation_id
    async with deps.reads.of(person.org_id) as db:
        place = await queries.place(db, person.org_id, place_id, now)
        reach = await queries.reach(db, person.org_id, place_id, now)
        if place is None or reach is None:
            raise not_found()
        situation = _situation(visit, conversation, place, reach, now)
        offer = offer_of(situation)
        found: Sequence[TemplateRow] = ()
        if place.waba_id is not None and (offer.mode == "pick" or draft.is_picking):
            found = await queries.templates(db, person.org_id, place.waba_id)
        prices = await prices_for(db, person.org_id, place_id, now)
        answered = None
        if draft.text and draft.seen is not None:
            answered = await queries.answered(db, person.org_id, place_id, draft.seen, person.user_id)
    quote = None if draft.reply_to is None else await _quote(visit, place_id, draft.reply_to)
    parked = await _parked(visit, place_id, situation, draft, reach)
    return Composer(
        conversation_id=place_id,
        name=conversation.customer.title or "",
        org_name=place.org_name,
        user_id=person.user_id,
        user_name=person.name or person.user_id,
        token=visit.token,
        form_id=form_id(visit.form.get("form")) or uuid4().hex,
        situation=situation,
        offer=offer,
        picker=picker_of(
            [_template(one) for one in found],
            draft.choice,
            _known(visit, conversation, place),
            consent=reach.whatsapp_consent,
            marketing=reach.marketing_consent,
        ),
        prices=prices,
        may_manage_templates=person.may("messages.tier.manage"),
        draft=draft,
        quote=quote,
        parked=parked,
        refusal=refusal,
        answered_by=None if answered is None else _answered(visit, answered),
        seen=draft.seen if draft.text and draft.seen is not None else place.newest or 0,
    )


def _answered(visit: Visit, answered: AnsweredRow) -> Answered:
    words = language_of(visit.request).words
    return Answered(answered.name or words.gettext(PHONE_APP if answered.is_echo else STAFF), answered.at)


def _situation(visit: Visit, conversation: Conversation, place: PlaceRow, reach: ReachRow, now: datetime) -> Situation:
    window, reached = conversation.window, reach_of(reach, now)
    hold = None
    if place.held_at is not None and place.held_until is not None:
        hold = Hold(place.held_by_name or place.held_by, place.held_at, place.held_until)
    return Situation(
        now=now,
        may_send=visit.person.may("messages.send"),
        window=window.state,
        window_open=window.open,
        closes_at=window.closes_at,
        length=visit.deps.rule.length,
        last_channel=conversation.last_inbound_channel,
        last_at=place.last_inbound_at,
        portal=conversation.portal.state,
        portal_at=conversation.portal.last_seen_at,
        obstacle=reached.obstacle,
        consent=reach.whatsapp_consent,
        reachable=reached.whatsapp and place.phone_number_id is not None,
        asked=place.asked,
        hold=hold,
        erased=reach.erased,
    )


def _known(visit: Visit, conversation: Conversation, place: PlaceRow) -> Mapping[str, str]:
    """Values by the usual names of places."""
    name = conversation.customer.name
    known = {"org_name": place.org_name, "business_name": place.org_name, "garage": place.org_name}
    if name:
        known |= dict.fromkeys(("customer_name", "name", "customer", "first_name"), name.split()[0])
    if visit.person.name:
        known |= dict.fromkeys(("advisor_name", "your_name", "staff_name"), visit.person.name)
    return known


def _template(row: TemplateRow) -> PickTemplate:
    components: list[Any] = list(row.components) or components_of(row.body, row.header, row.buttons)
    return PickTemplate(row.name, row.language, row.category, row.status, row.parameter_format, components)


async def _quote(visit: Visit, conversation_id: UUID, message_id: UUID) -> Quote | None:
    """The message that is answered, as the person may see it."""
    found = await visit.deps.messages.these(visit.person, conversation_id, [message_id], language_of(visit.request))
    return Quote(_line(found[0].content)[:_SHOWN]) if found else None


async def _parked(
    visit: Visit, conversation_id: UUID, situation: Situation, draft: Draft, reach: ReachRow
) -> Sequence[ParkedText]:
    """What waits. While WhatsApp is closed, texts that failed stand in the thread alone."""
    own = [number for number in (reach.phone, reach.wa_id) if number]
    contact = visit.person.may("customers.contact.view")
    org_id = visit.person.org_id
    waiting = await visit.deps.parked.waiting([(org_id, conversation_id)])
    found = [
        one
        for one in waiting.get((org_id, conversation_id), ())
        if one.message_id != draft.edits and (one.kind == "kept" or situation.by_whatsapp)
    ]
    authors = sorted({one.user_id for one in found if one.user_id is not None})
    names: Mapping[str, str] = {}
    if authors:
        async with visit.deps.reads.of(org_id) as db:
            names = await queries.names(db, org_id, authors)
    return [
        ParkedText(
            message_id=one.message_id,
            author=None if one.actor == "ai" or one.user_id is None else names.get(one.user_id, one.user_id),
            at=one.written_at,
            text=_line(shown_content(one.content, contact=contact, own=own, target=None)),
            is_kept=one.kind == "kept",
        )
        for one in found
    ]


def _line(content: Mapping[str, Any]) -> str:
    entry = entry_of(content)
    return " ".join((entry.text or entry.name or entry.label or "").split())
