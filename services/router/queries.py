"""The router's SQL. Every statement takes a whole batch as arrays and names the tenant of each row."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, get_args

from libs.common.db.pool import Connection
from libs.common.directory.address_marks import SMS_MARKS
from libs.common.directory.addressing import KnownAddresses, WhatsAppAddress, address_of
from libs.common.directory.consents import CONSENTS
from libs.common.errors import Permanent
from libs.common.events.content import OutTemplate
from libs.common.events.intents import BadIntent, Intent
from libs.common.events.outbound import WindowState
from libs.common.ids import AttemptKey, MessageKey
from libs.common.phone import canonical, normalise, same_line
from libs.common.sanitize import sanitize
from libs.common.sms_policy import SmsPolicy, policy_of
from libs.common.sms_reach import is_allowed
from libs.common.thread.conversations import current_conversation
from libs.common.thread.message_status import Status
from services.router.facts import Attempt, Facts, TemplateFacts
from services.router.recorded_decision import RecordedDecision
from services.router.refusal_actions import RefusedMessage

# "offset 0": each row is looked up by its key. A hash of a whole table may look cheap while the table is small, and it
# grows.
_FACTS = f"""
select u.ord, d.decided is not null as decided, nextval('message_sequence') as sequence,
    m.known is not null as id_taken,
       o.name as org_name, o.credit_exhausted, o.sms_number, coalesce(o.sms_active, false) as sms_active,
       o.country, o.policy, o.portal_host,
       n.phone_number_id, n.display_number,
       c.conversation_id is not null and c.phone_number_id is null as without_number,
       exists (select from orgs x where x.sms_spellings @> array[coalesce(u.line, k.phone)]) as phone_of_organisation,
       c.conversation_id, c.wa_id, c.bsuid, c.wa_id_at, c.bsuid_at, c.last_customer_at, c.identity_changed_at,
           c.first_refused_at,
       c.last_refused_at, c.last_inbound_channel, c.last_inbound_at,
       k.customer_id, k.phone, k.phone_at, s.no_phone_until,
       case when p.sms_consented_at >= s.stopped_at then null else s.stopped_until end as sms_stopped_until,
       coalesce(w.contacted, false) as contacted, p.whatsapp_consent, p.sms_consent, p.sms_stopped_by,
       p.sms_consented_at is not null as sms_explicit, p.marketing_consent,
       t.status as template_status, t.category as template_category, t.parameter_format, t.body as template_body,
           r.marks,
       (select b.intent_id from bridge_slots b
         where b.org_id = u.org_id and b.conversation_id = c.conversation_id and b.held_until > $9) as known_holder
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
       select o.name, o.credit_exhausted, o.sms_number, o.sms_active, o.portal_host, o.country,
              nullif(o.policy, '{{}}')::text as policy
         from orgs o where o.org_id = u.org_id offset 0
       ) o on true
  left join lateral (
       select coalesce(w.replaced_by, w.phone_number_id) as phone_number_id, -- a number that moved to another WABA
              (select i.customer_id from customer_identities i where i.org_id = u.org_id and i.kind = 'phone'
                  and i.value = u.line) as customer_id
         from whatsapp_numbers w
        where w.org_id = u.org_id and w.phone_number_id = u.number offset 0
       ) f on u.number is not null
  left join lateral (
       select c.conversation_id, c.customer_id, c.phone_number_id, c.wa_id, c.wa_id_at, c.bsuid, c.bsuid_at,
           c.last_customer_at, c.identity_changed_at,
              c.first_refused_at, c.last_refused_at, c.last_inbound_channel, c.last_inbound_at
         from conversations c
        where c.org_id = u.org_id
          and c.conversation_id = case
              when u.number is not null then (select x.conversation_id from conversations x
                                               where x.phone_number_id = f.phone_number_id
                                                   and x.customer_id = f.customer_id)
              else {current_conversation("u")}
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
  left join lateral ({CONSENTS.format(org_id="u.org_id", customer_id="k.customer_id")}) p on true
  left join lateral ({SMS_MARKS.format(org_id="u.org_id", phone="coalesce(u.line, k.phone)")}) s on true
  left join lateral ( -- which of the addresses it might go to are marked for WhatsApp
       select array_agg(row (x.address, x.at, x.until)) as marks from address_marks x
        where x.org_id = u.org_id and x.channel = 'whatsapp' and x.address = any (array[u.line, k.phone,
            '+' || c.wa_id, c.bsuid]) offset 0
       ) r on true
  left join lateral ( -- written to any number of the organisation
       select true as contacted from conversations x
        where x.customer_id = k.customer_id and x.org_id = u.org_id and (x.last_customer_at is not null
            or x.last_inbound_at is not null)
        limit 1 offset 0
       ) w on true
  left join lateral (
       select t.status, t.category, t.parameter_format, t.body from templates t
        where t.org_id = u.org_id and t.waba_id = n.waba_id and t.name = u.template and t.language = u.language offset 0
       ) t on u.template is not null
"""  # noqa: S608 -- constants


class WindowRule(NamedTuple):
    length: timedelta
    margin: timedelta
    doubt: timedelta


async def attempts_of(
    db: Connection, wanted: Sequence[tuple[Intent | BadIntent, int]], rule: WindowRule, now: datetime
) -> list[Attempt]:
    """These attempts (an intent and the attempt's number) with their facts, in order, from one snapshot.

    Sequences grow in that order.
    """
    rows = await db.fetch(_FACTS, *zip(*map(_asked, wanted), strict=True), now)
    rows.sort(key=lambda row: row["ord"])
    sequences = sorted(row["sequence"] for row in rows)
    attempts = []
    for row, (intent, number), sequence in zip(rows, wanted, sequences, strict=True):
        policy = None
        if row["org_name"] is not None:
            policy = policy_of(row["policy"], row["country"], row["sms_number"])
        attempts.append(
            Attempt(
                intent=intent,
                number=number,
                sequence=sequence,
                facts=_facts(row, intent, number, rule, policy),
                known_holder=row["known_holder"],
                decided=row["decided"],
                sms_policy=policy,
            )
        )
    return attempts


def _asked(wanted: tuple[Intent | BadIntent, int]) -> tuple[Any, ...]:
    """The parameters of ``_FACTS`` for one attempt."""
    intent, number = wanted
    if isinstance(intent, BadIntent):
        return intent.org_id, intent.intent_id, number, intent.conversation_id, None, None, None, None
    template = intent.content if isinstance(intent.content, OutTemplate) else intent.fallback_template
    name, language = (None, None) if template is None else (sanitize(template.name), sanitize(template.language))
    phone_number_id = None if intent.to is None else sanitize(intent.to.phone_number_id)
    phone = _named(intent)
    line = None if phone is None else canonical(phone)
    return intent.org_id, intent.intent_id, number, intent.conversation_id, phone_number_id, line, name, language


def _named(intent: Intent | BadIntent) -> str | None:
    """The number that the intent names, E.164."""
    return normalise(intent.to.phone) if isinstance(intent, Intent) and intent.to is not None else None


def _facts(row: Any, intent: Intent | BadIntent, number: int, rule: WindowRule, policy: SmsPolicy | None) -> Facts:
    named = _named(intent)
    phone, phone_at = row["phone"], row["phone_at"]
    if named is not None and (phone is None or not same_line(named, phone)):
        phone, phone_at = named, None
    marked_at = marked_until = None
    if row["marks"]:
        known = KnownAddresses(phone, phone_at, row["wa_id"], row["wa_id_at"], row["bsuid"], row["bsuid_at"])
        marked_at, marked_until = _mark(row["marks"], address_of(known, named))
    template = None
    if row["template_status"] is not None:
        template = TemplateFacts(
            status=row["template_status"],
            category=row["template_category"],
            parameter_format=row["parameter_format"],
            body=row["template_body"],
        )
    return Facts(
        window_length=rule.length,
        margin=rule.margin,
        doubt=rule.doubt,
        org_name=row["org_name"],
        credit_exhausted=row["credit_exhausted"],
        sms_number=row["sms_number"],
        sms_active=row["sms_active"],
        sms_countries=None if policy is None else policy.countries,
        portal_host=row["portal_host"],
        phone_number_id=row["phone_number_id"],
        display_number=row["display_number"],
        without_number=row["without_number"],
        conversation_id=row["conversation_id"],
        wa_id=row["wa_id"],
        bsuid=row["bsuid"],
        wa_id_at=row["wa_id_at"],
        bsuid_at=row["bsuid_at"],
        last_customer_at=row["last_customer_at"],
        identity_changed_at=row["identity_changed_at"],
        first_refused_at=row["first_refused_at"],
        last_refused_at=row["last_refused_at"],
        last_inbound_channel=row["last_inbound_channel"],
        last_inbound_at=row["last_inbound_at"],
        customer_id=row["customer_id"],
        phone=phone,
        phone_at=phone_at,
        no_phone_until=row["no_phone_until"],
        sms_stopped_until=row["sms_stopped_until"],
        phone_of_organisation=row["phone_of_organisation"],
        contacted=row["contacted"],
        whatsapp_consent=row["whatsapp_consent"],
        sms_consent=is_allowed(phone, consent=row["sms_consent"], stopped=row["sms_stopped_by"]),
        sms_explicit=row["sms_explicit"],
        marketing_consent=row["marketing_consent"],
        template=template,
        id_taken=row["id_taken"] and number == 1,
        marked_at=marked_at,
        marked_until=marked_until,
    )


def _mark(
    marks: Iterable[tuple[str, datetime, datetime]], address: WhatsAppAddress
) -> tuple[datetime | None, datetime | None]:
    """Since and until when the address that Meta would take is marked, under any spelling of its line."""
    to = address.to or address.recipient
    found = [(at, until) for marked, at, until in marks if to is not None and (marked == to or same_line(marked, to))]
    return max(found, key=lambda mark: mark[1], default=(None, None))


_TYPES = {
    **dict.fromkeys(("intent_id", "conversation_id", "slot_holder"), "uuid"),
    **dict.fromkeys(("decided_at", "occurred_at", "status_at"), "timestamptz"),
    "attempt": "int",
    "sequence": "bigint",
    "seq": "int",
}
_GIVEN = ", ".join(f"${n}::{_TYPES.get(name, 'text')}[]" for n, name in enumerate(RecordedDecision._fields, 1))

# The slot of a silencing bridge is locked. A transaction that releases it waits for this decision, and then finds it
# among the decisions that the slot silenced.
_RECORD = f"""
with given as materialized (
    select * from unnest({_GIVEN}) as u ({", ".join(RecordedDecision._fields)})
), holding as materialized (
    select s.conversation_id, s.intent_id
      from bridge_slots s
     where s.conversation_id in (select conversation_id from given where slot_holder is not null)
     order by s.conversation_id
       for key share of s
), decided as (
    insert into decisions (org_id, intent_id, attempt, conversation_id, route, channel, reason, window_state,
        slot_holder,
                           record, command, decided_at)
    select org_id, intent_id, attempt, conversation_id, route, channel, reason, window_state::json, slot_holder,
           record::json, command::json, decided_at
      from given
     where slot_holder is null or (conversation_id, slot_holder) in (select conversation_id, intent_id from holding)
     order by org_id, intent_id -- two routers that record the same intents wait in the same order
    on conflict do nothing
    returning org_id, intent_id
), in_portal as ( -- nothing is sent, so no send says whether it arrives
    insert into portal_answers (org_id, message_id, attempt, due_at)
    select g.org_id, g.intent_id, g.attempt, g.decided_at
      from given g join decided d using (org_id, intent_id)
     where g.channel = 'portal'
    on conflict do nothing
), """  # noqa: S608 -- constants of this module

_FIRST = f"""{_RECORD}stored as (
    insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, actor, user_id,
        ai_generated,
                          sequence, status, reason, seq, sent_at, failed_at, occurred_at, received_at)
    select org_id, intent_id, conversation_id, 'out', message_channel, kind, coalesce(content, '{{}}')::jsonb, actor,
        user_id,
           actor is not distinct from 'ai', sequence, status, failure, seq,
           case status when 'sent' then status_at end, case status when 'failed' then status_at end, occurred_at,
               decided_at
      from given join decided using (org_id, intent_id)
    on conflict do nothing
    returning org_id, message_id, seq
)
select d.org_id, d.intent_id, s.seq from decided d left join stored s on s.org_id = d.org_id
    and s.message_id = d.intent_id
"""  # noqa: S608 -- constants of this module

# Since the last attempt the number may have passed to another customer, and the thread may have been merged.
_AGAIN = f"""{_RECORD}moved as (
    update messages m
       set attempt = g.attempt, channel = g.message_channel, status = g.status, reason = g.failure,
           provider_code = null,
           conversation_id = coalesce({current_conversation("g")}, m.conversation_id),
           seq = m.seq + g.seq,
           sent_at = case g.status when 'sent' then g.status_at end,
           failed_at = case g.status when 'failed' then g.status_at end
      from given g join decided d using (org_id, intent_id)
     where m.org_id = g.org_id and m.message_id = g.intent_id and m.direction = 'out' and m.attempt = g.attempt - 1
    returning m.org_id, m.message_id as intent_id, m.seq
)
select org_id, intent_id, seq from moved
"""  # noqa: S608 -- constants of this module


async def record_first(db: Connection, decisions: Sequence[RecordedDecision]) -> dict[MessageKey, RecordedDecision]:
    """Record first attempts and their messages, each once.

    Returns those that were not recorded before, as they stand now.
    """
    return await _record(db, _FIRST, decisions)


async def record_again(db: Connection, decisions: Sequence[RecordedDecision]) -> dict[MessageKey, RecordedDecision]:
    """Record later attempts and move their messages on. The caller has locked those messages, at the attempt before."""
    return await _record(db, _AGAIN, decisions)


async def _record(
    db: Connection, statement: str, decisions: Sequence[RecordedDecision]
) -> dict[MessageKey, RecordedDecision]:
    columns = dict(zip(RecordedDecision._fields, zip(*decisions, strict=True), strict=True))
    columns["window_state"] = tuple(d.window_state and d.window_state.encode().decode() for d in decisions)
    seqs = {(r["org_id"], r["intent_id"]): r["seq"] for r in await db.fetch(statement, *columns.values())}
    return {d.key: d if d.seq == seqs[d.key] else d._replace(seq=seqs[d.key]) for d in decisions if d.key in seqs}


_RECORDED = f"""
select d.org_id, d.intent_id, d.attempt,
       {current_conversation("d")} as conversation_id,
       d.route, d.channel, d.reason, d.window_state::text as window_state, d.slot_holder, d.record::text,
           d.command::text, d.decided_at,
       case m.status when 'read' then coalesce(m.read_channel, m.channel) else m.channel end as message_channel,
       m.kind, m.actor, m.user_id, m.sequence, m.content::text, m.occurred_at, m.status,
           m.seq,
       case m.status when 'failed' then m.reason end as failure,
       case m.status when 'failed' then m.provider_code end as provider_code,
       case m.status when 'sent' then m.sent_at when 'delivered' then m.delivered_at
                     when 'read' then m.read_at when 'failed' then m.failed_at end as status_at
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, intent_id, attempt)
  join decisions d using (org_id, intent_id, attempt)
  left join messages m on m.org_id = d.org_id and m.message_id = d.intent_id and m.direction = 'out'
"""  # noqa: S608 -- a constant


async def recorded(db: Connection, attempts: Sequence[AttemptKey]) -> list[RecordedDecision]:
    """The recorded decisions of these attempts, in no particular order. Undecided attempts are left out.

    Raises Permanent (``unknown_value``) where a message has a status of a later release.
    """
    if not attempts:
        return []
    return [_recorded(row) for row in await db.fetch(_RECORDED, *zip(*attempts, strict=True))]


def _recorded(row: Any) -> RecordedDecision:
    found = RecordedDecision(**row)
    if found.command is None and found.status is not None:
        _must_be_known(found.status)
    window = row["window_state"]
    return found._replace(window_state=None if window is None else WindowState.model_validate_json(window))


_REFUSED = """
select m.org_id, m.message_id, m.attempt, m.status, m.reason, m.sequence, d.record, h.refusals, h.first_decided_at
  from unnest($1::text[], $2::uuid[]) as u (org_id, message_id)
  join messages m using (org_id, message_id)
  join decisions d on d.org_id = m.org_id and d.intent_id = m.message_id and d.attempt = m.attempt
 cross join lateral (
       select coalesce(array_agg(x.record -> 'refused' ->> 'reason' order by x.attempt) filter (where x.attempt > 1),
           '{}') as refusals,
              min(x.decided_at) as first_decided_at
         from decisions x
        where x.org_id = m.org_id and x.intent_id = m.message_id offset 0
       ) h
 where m.direction = 'out'
 order by m.org_id, m.message_id
   for update of m
"""


async def lock_refused(db: Connection, keys: Collection[MessageKey]) -> dict[MessageKey, RefusedMessage]:
    """Lock these messages, in key order. Ids that are no intent's are left out.

    Raises Permanent (``unknown_value``) where a message has a status of a later release.
    """
    rows = await db.fetch(_REFUSED, *zip(*sorted(keys), strict=True))
    if missing := set(keys) - {(row["org_id"], row["message_id"]) for row in rows}:
        # a message that was decided again while this statement waited for its lock no longer joins the decision of its
        # attempt: read it anew
        rows += await db.fetch(_REFUSED, *zip(*sorted(missing), strict=True))
    for row in rows:
        _must_be_known(row["status"])
    return {(row["org_id"], row["message_id"]): RefusedMessage(**row) for row in rows}


def _must_be_known(status: str) -> None:
    if status not in get_args(Status):
        raise Permanent("unknown_value", "a message has a status that is not known here")
