"""The router's SQL. Every statement takes a whole batch as arrays and names the tenant of each row."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, get_args
from uuid import UUID

import orjson

from libs.common.db.pool import Connection
from libs.common.directory.address_marks import SMS_MARKS
from libs.common.directory.addressing import KnownAddresses, WhatsAppAddress, address_of
from libs.common.errors import Permanent
from libs.common.events.content import OutTemplate
from libs.common.events.intents import BadIntent, Intent
from libs.common.phone import canonical, normalise, same_line
from libs.common.sanitize import sanitize
from libs.common.sms_reach import is_allowed
from libs.common.thread.message_status import Status
from services.router.facts import Facts, TemplateFacts
from services.router.outcome import Outcome
from services.router.present import Standing, Told

Key = tuple[str, UUID]
"""org_id, intent_id"""

# "offset 0": each row is looked up by its key. A hash of a whole table may look cheap while the table is small, and it grows.
_FACTS = f"""
select d.decided is not null, m.known is not null, nextval('message_sequence'),
       o.name, o.credit_exhausted, o.sms_number, o.sms_active, o.portal_host, n.phone_number_id, n.display_number,
       c.conversation_id, c.wa_id, c.bsuid, c.last_customer_at, c.refused_at, c.first_refused_at, c.last_refused_at,
       c.last_inbound_channel, c.last_inbound_at, k.customer_id, k.phone, s.no_phone_until,
       case when p.sms_consented_at >= s.stopped_at then null else s.stopped_until end,
       w.contacted, p.whatsapp, p.sms, p.sms_consented_at is not null, p.marketing,
       t.status, t.category, t.parameter_format, t.body, u.ord, c.wa_id_at, c.bsuid_at, k.phone_at, r.marked, p.stopped,
       (select b.intent_id from bridge_slots b
         where b.org_id = u.org_id and b.conversation_id = c.conversation_id and b.held_until > $9) as slot_holder
  from unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[])
       with ordinality as u (org_id, intent_id, attempt, conversation_id, number, line, template, language, ord)
  left join lateral (
       select true as known from messages m where m.org_id = u.org_id and m.message_id = u.intent_id offset 0
       ) m on true
  left join lateral ( -- no decision is without a message of its id
       select true as decided from decisions d
        where m.known and d.org_id = u.org_id and d.intent_id = u.intent_id and d.attempt = u.attempt offset 0
       ) d on true
  left join lateral (
       select o.name, o.credit_exhausted, o.sms_number, o.sms_active, o.portal_host from orgs o where o.org_id = u.org_id offset 0
       ) o on true
  left join lateral (
       select coalesce(w.replaced_by, w.phone_number_id) as phone_number_id, -- a number that moved to another WABA
              (select i.customer_id from customer_identities i where i.org_id = u.org_id and i.kind = 'phone' and i.value = u.line) as customer_id
         from whatsapp_numbers w
        where w.org_id = u.org_id and w.phone_number_id = u.number offset 0
       ) f on u.number is not null
  left join lateral (
       select c.conversation_id, c.customer_id, c.phone_number_id, c.wa_id, c.wa_id_at, c.bsuid, c.bsuid_at, c.last_customer_at, c.refused_at,
              c.first_refused_at, c.last_refused_at, c.last_inbound_channel, c.last_inbound_at
         from conversations c
        where c.org_id = u.org_id
          and c.conversation_id = case
              when u.number is not null then (select x.conversation_id from conversations x
                                               where x.phone_number_id = f.phone_number_id and x.customer_id = f.customer_id)
              else coalesce((select a.conversation_id from conversation_aliases a where a.alias = u.conversation_id and a.org_id = u.org_id),
                            u.conversation_id)
              end offset 0
       ) c on true
  left join lateral (
       select n.phone_number_id, n.display_number, n.waba_id from whatsapp_numbers n
        where n.org_id = u.org_id and n.phone_number_id = coalesce(c.phone_number_id, f.phone_number_id) offset 0
       ) n on true
  left join lateral (
       select k.customer_id, k.phone, k.phone_at from customers k
        where k.org_id = u.org_id and k.customer_id = coalesce(c.customer_id, f.customer_id) offset 0
       ) k on true
  left join lateral (
       select bool_and(s.allowed) filter (where s.category = 'whatsapp') as whatsapp,
              bool_and(s.allowed) filter (where s.category = 'sms') as sms, max(s.address) filter (where s.category = 'sms') as stopped,
              max(s.at) filter (where s.category = 'sms' and s.allowed) as sms_consented_at,
              bool_and(s.allowed) filter (where s.category = 'marketing') as marketing
         from consents s
        where s.org_id = u.org_id and s.customer_id = k.customer_id
       ) p on true
  left join lateral ({SMS_MARKS.format(org_id="u.org_id", phone="coalesce(u.line, k.phone)")}) s on true
  left join lateral ( -- which of the addresses it might go to are marked for WhatsApp
       select array_agg(row (x.address, x.at, x.until)) as marked from address_marks x
        where x.org_id = u.org_id and x.channel = 'whatsapp' and x.address = any (array[u.line, k.phone, '+' || c.wa_id, c.bsuid]) offset 0
       ) r on true
  left join lateral ( -- written to any number of the organisation
       select true as contacted from conversations x
        where x.customer_id = k.customer_id and x.org_id = u.org_id and (x.last_customer_at is not null or x.last_inbound_at is not null)
        limit 1 offset 0
       ) w on true
  left join lateral (
       select t.status, t.category, t.parameter_format, t.body from templates t
        where t.org_id = u.org_id and t.waba_id = n.waba_id and t.name = u.template and t.language = u.language offset 0
       ) t on u.template is not null
"""  # noqa: S608 -- constants


class WindowRule(NamedTuple):
    """The settings by which a window is judged."""

    length: timedelta
    margin: timedelta
    doubt: timedelta


class Question(NamedTuple):
    """One intent whose facts are wanted, for its attempt ``attempt``."""

    intent: Intent | BadIntent
    attempt: int


class Answer(NamedTuple):
    """``decided``: this attempt is decided already, and what stands recorded counts. ``sequence`` is a fresh one.

    ``slot_holder``: the intent whose bridge held the conversation's slot at that moment.
    """

    decided: bool
    sequence: int
    facts: Facts
    slot_holder: UUID | None


async def facts_for(db: Connection, questions: Sequence[Question], rule: WindowRule, now: datetime) -> list[Answer]:
    """The facts of each question, in order, from one snapshot. Sequences grow in the order of the questions."""
    rows = await db.fetch(_FACTS, *zip(*map(_asked, questions), strict=True), now)
    rows.sort(key=lambda row: row["ord"])
    sequences = sorted(row[2] for row in rows)
    return [
        Answer(row[0], sequence, _facts(row, question, rule), row["slot_holder"])
        for row, question, sequence in zip(rows, questions, sequences, strict=True)
    ]


def _asked(question: Question) -> tuple[Any, ...]:
    intent, attempt = question
    if isinstance(intent, BadIntent):
        return intent.org_id, intent.intent_id, attempt, intent.conversation_id, None, None, None, None
    template = intent.content if isinstance(intent.content, OutTemplate) else intent.fallback_template
    name, language = (None, None) if template is None else (sanitize(template.name), sanitize(template.language))
    number = None if intent.to is None else sanitize(intent.to.phone_number_id)
    phone = _named(intent)
    line = None if phone is None else canonical(phone)
    return intent.org_id, intent.intent_id, attempt, intent.conversation_id, number, line, name, language


def _named(intent: Intent | BadIntent) -> str | None:
    """The number that the intent names, E.164."""
    return normalise(intent.to.phone) if isinstance(intent, Intent) and intent.to is not None else None


def _facts(row: Any, question: Question, rule: WindowRule) -> Facts:
    intent, attempt = question
    (_, taken, _, org_name, credit, sms_number, sms_active, portal_host, number, display, conversation_id, wa_id, bsuid,
     last_customer_at, refused_at, first_refused_at, last_refused_at, last_channel, last_at, customer_id, phone, no_phone_until, stopped_until,
     contacted, whatsapp, sms, sms_explicit, marketing,
     status, category, parameter_format, body, _, wa_id_at, bsuid_at, phone_at, marked, stopped, _) = row  # fmt: skip
    named = _named(intent)
    if named is not None and (phone is None or not same_line(named, phone)):
        phone, phone_at = named, None
    known = KnownAddresses(phone, phone_at, wa_id, wa_id_at, bsuid, bsuid_at)
    marked_at, marked_until = _mark(marked or (), address_of(known, named))
    return Facts(
        window_length=rule.length,
        margin=rule.margin,
        doubt=rule.doubt,
        org_name=org_name,
        credit_exhausted=credit,
        sms_number=sms_number,
        sms_active=bool(sms_active),
        portal_host=portal_host,
        phone_number_id=number,
        display_number=display,
        conversation_id=conversation_id,
        wa_id=wa_id,
        bsuid=bsuid,
        wa_id_at=wa_id_at,
        bsuid_at=bsuid_at,
        last_customer_at=last_customer_at,
        refused_at=refused_at,
        first_refused_at=first_refused_at,
        last_refused_at=last_refused_at,
        last_inbound_channel=last_channel,
        last_inbound_at=last_at,
        customer_id=customer_id,
        phone=phone,
        phone_at=phone_at,
        no_phone_until=no_phone_until,
        sms_stopped_until=stopped_until,
        contacted=bool(contacted),
        whatsapp_consent=whatsapp is not False,
        sms_consent=is_allowed(phone, consent=sms, stopped=stopped),
        sms_explicit=sms_explicit,
        marketing_consent=marketing is True,
        template=None if status is None else TemplateFacts(status, category, parameter_format, body),
        id_taken=taken and attempt == 1,
        marked_at=marked_at,
        marked_until=marked_until,
    )


def _mark(
    marked: Iterable[tuple[str, datetime, datetime]], goes_to: WhatsAppAddress
) -> tuple[datetime | None, datetime | None]:
    """Since and until when the address that Meta would take is marked; of a line any spelling."""
    to = goes_to.to or goes_to.recipient
    found = [
        (at, until) for address, at, until in marked if to is not None and (address == to or same_line(address, to))
    ]
    return max(found, key=lambda mark: mark[1], default=(None, None))


_RECORD = """
with given as materialized (
    select *
      from unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[], $9::uuid[], $10::text[],
                  $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::bigint[], $17::text[], $18::text[], $19::timestamptz[], $20::text[])
           as u (org_id, intent_id, attempt, conversation_id, route, channel, reason, window_state, slot_holder, record,
                 command, message_channel, kind, actor, user_id, sequence, status, failure, occurred_at, content)
), holding as materialized ( -- who gives this slot back waits for this decision, and then finds it among those that the slot silenced
    select s.conversation_id, s.intent_id
      from bridge_slots s
     where s.conversation_id in (select conversation_id from given where slot_holder is not null)
     order by s.conversation_id
       for key share of s
), decided as (
    insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, window_state, slot_holder, record, command, decided_at)
    select org_id, intent_id, attempt, conversation_id, route, channel, reason, window_state::json, slot_holder, record::json, command::json, $21
      from given
     where slot_holder is null or (conversation_id, slot_holder) in (select conversation_id, intent_id from holding)
     order by org_id, intent_id -- two routers that record the same intents wait in the same order
    on conflict do nothing
    returning org_id, intent_id
), """

_FIRST = f"""{_RECORD}told as (
    insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor, user_id, ai_generated, sequence,
                          status, reason, seq, sent_at, failed_at, occurred_at, received_at)
    select org_id, intent_id, conversation_id, 'out', message_channel, kind, coalesce(content, '{{}}')::jsonb, actor, user_id, actor is not distinct from 'ai',
           sequence, status, failure, case status when 'pending' then 0 else 1 end, case status when 'sent' then $21 end,
           case status when 'failed' then $21 end, occurred_at, $21
      from given join decided using (org_id, intent_id)
    on conflict do nothing
    returning org_id, message_id, seq
)
select d.org_id, d.intent_id, t.seq from decided d left join told t on t.org_id = d.org_id and t.message_id = d.intent_id
"""  # noqa: S608 -- two constants

_AGAIN = f"""{_RECORD}told as (
    update messages m
       set attempt = g.attempt, channel = g.message_channel, status = g.status, reason = g.failure, provider_code = null,
           conversation_id = coalesce( -- a number that it names may be somebody else's since, and a thread part of another
               (select a.conversation_id from conversation_aliases a where a.alias = g.conversation_id and a.org_id = g.org_id),
               g.conversation_id, m.conversation_id),
           seq = m.seq + case g.status when 'pending' then 0 else 1 end,
           sent_at = case g.status when 'sent' then $21 end, failed_at = case g.status when 'failed' then $21 end
      from given g join decided d using (org_id, intent_id)
     where m.org_id = g.org_id and m.message_id = g.intent_id and m.direction = 'out' and m.attempt = g.attempt - 1
    returning m.org_id, m.message_id, m.seq
)
select org_id, message_id, seq from told
"""  # noqa: S608 -- two constants


async def record_first(db: Connection, rows: Sequence[Outcome], now: datetime) -> dict[Key, int | None]:
    """Record first attempts and their messages, each once. Returns those that were not recorded before, with the message's ``seq``.

    ``seq`` is None where the message's id belongs to another message, which stays as it is.
    """
    found = await db.fetch(_FIRST, *zip(*rows, strict=True), now)
    return {(row[0], row[1]): row[2] for row in found}


async def record_again(db: Connection, rows: Sequence[Outcome], now: datetime) -> dict[Key, int | None]:
    """Record later attempts and move their messages on; the caller holds those messages' rows, at the attempt before."""
    found = await db.fetch(_AGAIN, *zip(*rows, strict=True), now)
    return {(row[0], row[1]): row[2] for row in found}


_STANDING = """
select d.org_id, d.intent_id, d.attempt, coalesce(a.conversation_id, d.conversation_id), d.route, d.channel, d.reason, d.window_state::text,
       d.command::text, d.decided_at,
       m.channel, m.seq, m.status, case m.status when 'failed' then m.reason end, case m.status when 'failed' then m.provider_code end,
       case m.status when 'sent' then m.sent_at when 'delivered' then m.delivered_at when 'read' then m.read_at when 'failed' then m.failed_at end
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, intent_id, attempt)
  join decisions d using (org_id, intent_id, attempt)
  left join messages m on m.org_id = d.org_id and m.message_id = d.intent_id and m.direction = 'out'
  left join conversation_aliases a on a.alias = d.conversation_id and a.org_id = d.org_id
"""


async def standing(db: Connection, attempts: Sequence[tuple[str, UUID, int]]) -> list[Standing]:
    """What stands recorded of these attempts, in no particular order; those that are not decided are left out."""
    if not attempts:
        return []
    return [_standing(row) for row in await db.fetch(_STANDING, *zip(*attempts, strict=True))]


def _standing(row: Any) -> Standing:
    org_id, intent_id, attempt, conversation_id, route, channel, reason, window, command, decided_at, *told = row
    status = told[2]
    if command is None and status is not None and status not in get_args(Status):
        raise Permanent("unknown_value", "a message has a status that is not known here")
    return Standing(
        org_id=org_id,
        intent_id=intent_id,
        attempt=attempt,
        conversation_id=conversation_id,
        route=route,
        channel=channel,
        reason=reason,
        window=None if window is None else orjson.Fragment(window),
        command=None if command is None else command.encode(),
        decided_at=decided_at,
        told=None if told[-1] is None else Told(*told),
    )


_REFUSED = """
select m.org_id, m.message_id, m.attempt, m.status, m.reason, m.sequence, d.record, h.refusals, h.first_decided_at
  from unnest($1::text[], $2::uuid[]) as u (org_id, message_id)
  join messages m using (org_id, message_id)
  join decisions d on d.org_id = m.org_id and d.intent_id = m.message_id and d.attempt = m.attempt
 cross join lateral (
       select coalesce(array_agg(x.record -> 'refused' ->> 'reason' order by x.attempt) filter (where x.attempt > 1), '{}') as refusals,
              min(x.decided_at) as first_decided_at
         from decisions x
        where x.org_id = m.org_id and x.intent_id = m.message_id offset 0
       ) h
 where m.direction = 'out'
 order by m.org_id, m.message_id
   for update of m
"""


class Refused(NamedTuple):
    """A message that was refused, its row locked: where it stands, the record of its latest decision, and why earlier attempts were refused."""

    org_id: str
    message_id: UUID
    attempt: int
    status: str
    reason: str | None
    sequence: int
    record: dict[str, Any]
    refusals: Sequence[str]
    first_decided_at: datetime


async def lock_refused(db: Connection, keys: Collection[Key]) -> dict[Key, Refused]:
    """Lock these messages in the order that everybody uses. Ids that are no intent's are left out.

    Raises Permanent (``unknown_value``) where one stands as only a later release understands.
    """
    rows = await db.fetch(_REFUSED, *zip(*sorted(keys), strict=True))
    if missing := set(keys) - {(row[0], row[1]) for row in rows}:
        # one that was decided again while we waited for it joins the decision of an attempt that it has left: ours now, and asked for anew
        rows += await db.fetch(_REFUSED, *zip(*sorted(missing), strict=True))
    if any(row[3] not in get_args(Status) for row in rows):
        raise Permanent("unknown_value", "a message has a status that is not known here")
    return {(row[0], row[1]): Refused(*row) for row in rows}
