"""The facts that intents are decided on. One round trip for a batch; every row names its tenant."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.address_marks import SMS_MARKS
from libs.common.directory.addressing import KnownAddresses, WhatsAppAddress, address_of
from libs.common.directory.consents import CONSENTS
from libs.common.events.content import OutTemplate
from libs.common.events.intents import BadIntent, Intent
from libs.common.phone import canonical, normalise, same_line
from libs.common.sanitize import sanitize
from libs.common.sms_policy import SmsPolicy, policy_of
from libs.common.sms_reach import is_allowed
from libs.common.thread.conversations import current_conversation
from services.router.facts import Attempt, Facts, TemplateFacts

# "offset 0": each row is looked up by its key. A hash of a whole table may look cheap while the table is small, and it
# grows. What few intents ask for is asked inside the subquery whether it is: then it is not run for the others.
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
       k.customer_id, k.phone, k.phone_at, coalesce(k.erased, false) as erased, s.no_phone_until,
       case when p.sms_consented_at >= s.stopped_at then null else s.stopped_until end as sms_stopped_until,
       coalesce(w.contacted, c.last_customer_at is not null or c.last_inbound_at is not null) as contacted,
       p.whatsapp_consent, p.sms_consent, p.sms_stopped_by,
       p.sms_consented_at is not null as sms_explicit, p.marketing_consent, p.transactional_consent,
       p.service_reminders_consent,
       t.status as template_status, t.category as template_category, t.parameter_format, t.body as template_body,
       t.header as template_header, t.buttons as template_buttons, r.marks, r.limits,
       q.quoted, u.reply_to is not null and q.known is null as reply_unknown,
       (select h.until_at from conversation_holds h
         where h.org_id = u.org_id and h.conversation_id = c.conversation_id) as held_until,
       (select b.intent_id from bridge_slots b
         where b.org_id = u.org_id and b.conversation_id = c.conversation_id and b.held_until > $10) as known_holder
  from unnest($1::text[], $2::uuid[], $3::int[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[],
              $9::uuid[])
       with ordinality as u (org_id, intent_id, attempt, conversation_id, number, line, template, language, reply_to,
                             ord)
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
        where u.number is not null and w.org_id = u.org_id and w.phone_number_id = u.number offset 0
       ) f on true
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
       select k.customer_id, k.phone, k.phone_at, k.erased from customers k
        where k.org_id = u.org_id and k.customer_id = coalesce(c.customer_id, f.customer_id) offset 0
       ) k on true
  left join lateral ({CONSENTS.format(org_id="u.org_id", customer_id="k.customer_id")}) p on true
  left join lateral ({SMS_MARKS.format(org_id="u.org_id", phone="coalesce(u.line, k.phone)")}) s on true
  left join lateral ( -- which of the addresses it might go to are marked for WhatsApp, or for marketing by it
       select array_agg(row (x.address, x.at, x.until)) filter (where x.channel = 'whatsapp') as marks,
              array_agg(row (x.address, x.at, x.until)) filter (where x.channel = 'marketing') as limits
         from address_marks x
        where x.org_id = u.org_id and x.channel in ('whatsapp', 'marketing') and x.address = any (array[u.line, k.phone,
            '+' || c.wa_id, c.bsuid]) offset 0
       ) r on true
  left join lateral ( -- written to another number of the organisation, if not to this one
       select true as contacted from conversations x
        where c.last_customer_at is null and c.last_inbound_at is null
          and x.customer_id = k.customer_id and x.org_id = u.org_id and (x.last_customer_at is not null
            or x.last_inbound_at is not null)
        limit 1 offset 0
       ) w on true
  left join lateral (
       select t.status, t.category, t.parameter_format, t.body, coalesce(t.header, 'null')::text as header,
              coalesce(t.buttons, 'null')::text as buttons
         from templates t
        where u.template is not null
          and t.org_id = u.org_id and t.waba_id = n.waba_id and t.name = u.template and t.language = u.language offset 0
       ) t on true
  left join lateral ( -- Meta knows only what went through this number
       select true as known,
              case q.direction
              when 'in' then case when q.provider = 'meta' and q.account = n.phone_number_id then q.provider_id end
              else (select i.provider_id from provider_ids i
                     where i.org_id = q.org_id and i.send_id = q.message_id and i.provider = 'meta'
                       and i.account = n.phone_number_id
                     order by i.attempt desc limit 1)
              end as quoted
         from messages q
        where u.reply_to is not null and q.org_id = u.org_id and q.message_id = u.reply_to
          and c.conversation_id = {current_conversation("q")} offset 0
       ) q on true
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
    rows = await db.fetch(_FACTS, *as_columns(map(_asked, wanted)), now)
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
        return intent.org_id, intent.intent_id, number, intent.conversation_id, None, None, None, None, None
    template = intent.content if isinstance(intent.content, OutTemplate) else intent.fallback_template
    name, language = (None, None) if template is None else (sanitize(template.name), sanitize(template.language))
    phone_number_id = None if intent.to is None else sanitize(intent.to.phone_number_id)
    phone = _named(intent)
    line = None if phone is None else canonical(phone)
    to = phone_number_id, line
    return intent.org_id, intent.intent_id, number, intent.conversation_id, *to, name, language, intent.reply_to


def _named(intent: Intent | BadIntent) -> str | None:
    """The number that the intent names, E.164."""
    return normalise(intent.to.phone) if isinstance(intent, Intent) and intent.to is not None else None


def _facts(row: Any, intent: Intent | BadIntent, number: int, rule: WindowRule, policy: SmsPolicy | None) -> Facts:
    named = _named(intent)
    phone, phone_at = row["phone"], row["phone_at"]
    if named is not None and (phone is None or not same_line(named, phone)):
        phone, phone_at = named, None
    marked_at = marked_until = limited_until = None
    if row["marks"] or row["limits"]:
        known = KnownAddresses(phone, phone_at, row["wa_id"], row["wa_id_at"], row["bsuid"], row["bsuid_at"])
        address = address_of(known, named)
        marked_at, marked_until = _mark(row["marks"] or (), address)
        _, limited_until = _mark(row["limits"] or (), address)
    template = None
    if row["template_status"] is not None:
        template = TemplateFacts(
            status=row["template_status"],
            category=row["template_category"],
            parameter_format=row["parameter_format"],
            body=row["template_body"],
            header=row["template_header"],
            buttons=row["template_buttons"],
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
        held_until=row["held_until"],
        quoted=row["quoted"],
        reply_unknown=row["reply_unknown"],
        customer_id=row["customer_id"],
        erased=row["erased"],
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
        transactional_consent=row["transactional_consent"],
        service_reminders_consent=row["service_reminders_consent"],
        template=template,
        id_taken=row["id_taken"] and number == 1,
        marked_at=marked_at,
        marked_until=marked_until,
        marketing_limited_until=limited_until,
    )


def _mark(
    marks: Iterable[tuple[str, datetime, datetime]], address: WhatsAppAddress
) -> tuple[datetime | None, datetime | None]:
    """Since and until when the address that Meta would take is marked, under any spelling of its line."""
    to = address.to or address.recipient
    found = [(at, until) for marked, at, until in marks if to is not None and (marked == to or same_line(marked, to))]
    return max(found, key=lambda mark: mark[1], default=(None, None))
