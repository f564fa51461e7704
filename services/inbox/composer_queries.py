"""What the composer asks beside the read model. Every statement names the organisation."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from libs.common.db.pool import Connection
from libs.common.directory.address_marks import SMS_MARKS
from libs.common.directory.consents import CONSENTS
from libs.common.ids import bridge_message_id
from libs.common.thread.conversations import current_conversation
from services.inbox.composing import AskedBefore

MOST_TEMPLATES = 500
"""Of one WABA. What Meta has approved comes first."""

_PLACE = f"""
select o.name as org_name, c.phone_number_id, n.waba_id, c.last_inbound_at,
       h.at as held_at, h.user_id as held_by, m.name as held_by_name, h.until_at as held_until,
       nullif(s.held_until, 'infinity') as asked_until, s.intent_id as slot_holder,
       (select max(x.sequence) from messages x
         where x.org_id = c.org_id and x.conversation_id = c.conversation_id) as newest
  from (select $1::text as org_id, $2::uuid as conversation_id) u
  join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
  join orgs o on o.org_id = c.org_id
  left join whatsapp_numbers n on n.org_id = c.org_id and n.phone_number_id = c.phone_number_id
  left join conversation_holds h
    on h.org_id = c.org_id and h.conversation_id = c.conversation_id and h.until_at > $3
  left join members m on m.org_id = h.org_id and m.user_id = h.user_id
  left join bridge_slots s
    on s.org_id = c.org_id and s.conversation_id = c.conversation_id and s.held_until > $3
"""  # noqa: S608 -- a constant

_ASKED = "select occurred_at from messages where org_id = $1 and message_id = $2"

_TEMPLATES = """
select t.name, t.language, t.category, t.status, t.parameter_format, t.components, t.body, t.header, t.buttons
  from templates t
 where t.org_id = $1 and t.waba_id = $2 and t.status not in ('DELETED', 'DRAFT')
 order by t.status = 'APPROVED' desc, t.name, t.language
 limit $3
"""

# Who of the staff has written since, other than this person.
_ANSWERED = """
select coalesce(k.name, m.user_id) as name, m.attempt = 0 as is_echo, m.occurred_at as at
  from messages m
  left join members k on k.org_id = m.org_id and k.user_id = m.user_id
 where m.org_id = $1 and m.conversation_id = $2 and m.sequence > $3 and m.direction = 'out' and m.actor = 'staff'
   and m.user_id is distinct from $4 and m.notification_type is null
 order by m.sequence desc
 limit 1
"""

_FAILED = f"""
select m.content, m.reason,
       (select p.state from parked_messages p where p.org_id = m.org_id and p.message_id = m.message_id) as parked
  from messages m
 where m.org_id = $1 and m.message_id = $3 and {current_conversation("m")} = $2 and m.direction = 'out'
   and m.status = 'failed' and m.notification_type is null
"""  # noqa: S608 -- a constant

_NAMES = """
select m.user_id, m.name from members m where m.org_id = $1 and m.user_id = any ($2::text[]) and m.name is not null
"""


# The facts of libs.common.sms_reach and of the decision table, for a bridge or a text now.
_REACH = f"""
select k.phone, k.phone_at, c.wa_id, c.wa_id_at, c.bsuid, c.bsuid_at, s.no_phone_until,
       case when p.sms_consented_at >= s.stopped_at then null else s.stopped_until end as stopped_until,
       p.whatsapp_consent, p.marketing_consent, p.sms_consent, p.sms_stopped_by,
       p.sms_consented_at is not null as explicit,
       exists (select from conversations x
                where x.org_id = c.org_id and x.customer_id = c.customer_id
                  and (x.last_customer_at is not null or x.last_inbound_at is not null)) as contacted,
       exists (select from orgs x where x.sms_spellings @> array[k.phone]) as of_organisation,
       o.sms_number, coalesce(o.sms_active, false) as sms_active, o.country, nullif(o.policy, '{{}}')::text as policy,
       coalesce((select d.segments from sms_days d where d.org_id = c.org_id and d.day = $4), 0) as spent,
       (select a.decided_at from sms_answers a
         where a.org_id = c.org_id and a.conversation_id = c.conversation_id) as answers,
       (select array_agg(row (x.address, x.until)) from address_marks x
         where x.org_id = c.org_id and x.channel = 'whatsapp' and x.until > $3
           and x.address = any (array[k.phone, '+' || c.wa_id, c.bsuid])) as marks,
       k.erased
  from conversations c
  join customers k on k.org_id = c.org_id and k.customer_id = c.customer_id
  join orgs o on o.org_id = c.org_id
  left join lateral ({CONSENTS.format(org_id="k.org_id", customer_id="k.customer_id")}) p on true
  left join lateral ({SMS_MARKS.format(org_id="c.org_id", phone="k.phone")}) s on true
 where c.org_id = $1 and c.conversation_id = $2
"""  # noqa: S608 -- constants


class ReachRow(NamedTuple):
    """What decides whether the customer is reached. ``answers``: when SMS answers of the last day were decided.

    ``marks``: (address, until) of addresses that WhatsApp does not reach at present.
    """

    phone: str | None
    phone_at: datetime | None
    wa_id: str | None
    wa_id_at: datetime | None
    bsuid: str | None
    bsuid_at: datetime | None
    no_phone_until: datetime | None
    stopped_until: datetime | None
    whatsapp_consent: bool
    marketing_consent: bool
    sms_consent: bool
    sms_stopped_by: str | None
    explicit: bool
    contacted: bool
    of_organisation: bool
    sms_number: str | None
    sms_active: bool
    country: str | None
    policy: str | None
    spent: int
    answers: Sequence[datetime] | None
    marks: Sequence[tuple[str, datetime]] | None
    erased: bool


class PlaceRow(NamedTuple):
    """A conversation's row and what stands beside it. ``newest`` is the newest sequence of its thread.

    ``asked_message_id`` is None where no bridge holds the slot. ``asked_until`` is None, too, until the provider has
    accepted the SMS.
    """

    org_name: str
    phone_number_id: str | None
    waba_id: str | None
    last_inbound_at: datetime | None
    held_at: datetime | None
    held_by: str | None
    held_by_name: str | None
    held_until: datetime | None
    asked_until: datetime | None
    asked_message_id: UUID | None
    asked_at: datetime
    newest: int | None

    @property
    def asked(self) -> AskedBefore | None:
        """The bridge SMS that holds the slot."""
        if self.asked_message_id is None:
            return None
        return AskedBefore(self.asked_message_id, self.asked_at, self.asked_until)


class TemplateRow(NamedTuple):
    """A template as it is stored. ``components`` are empty where it was loaded from a file: the next three say it."""

    name: str
    language: str
    category: str
    status: str
    parameter_format: str
    components: Sequence[Mapping[str, Any]]
    body: str
    header: Mapping[str, Any] | None
    buttons: Sequence[Mapping[str, Any]] | None


class FailedRow(NamedTuple):
    """What a failed message said. ``parked``: the state of the text that waits for the window; None: it does not."""

    content: dict[str, Any]
    reason: str | None
    parked: str | None


class AnsweredRow(NamedTuple):
    """The newest message of a colleague. ``is_echo``: they wrote in the WhatsApp Business app, and have no name.

    ``name`` is None too where another system sent it for somebody whom it did not name.
    """

    name: str | None
    is_echo: bool
    at: datetime


async def place(db: Connection, org_id: str, conversation_id: UUID, now: datetime) -> PlaceRow | None:
    """The standing conversation; None: the organisation has no such one."""
    row = await db.fetchrow(_PLACE, org_id, conversation_id, now)
    if row is None:
        return None
    found = dict(row)
    holder: UUID | None = found.pop("slot_holder")
    asked = None if holder is None else bridge_message_id(holder)
    at = None if asked is None else await db.fetchval(_ASKED, org_id, asked)
    return PlaceRow(**found, asked_message_id=asked, asked_at=at or now)


async def reach(db: Connection, org_id: str, conversation_id: UUID, now: datetime) -> ReachRow | None:
    """What decides whether the customer of a standing conversation is reached, by WhatsApp and by SMS."""
    row = await db.fetchrow(_REACH, org_id, conversation_id, now, now.date())
    return None if row is None else ReachRow(**row)


async def templates(db: Connection, org_id: str, waba_id: str) -> list[TemplateRow]:
    """The templates of a WABA that Meta has, approved ones first."""
    return [TemplateRow(**row) for row in await db.fetch(_TEMPLATES, org_id, waba_id, MOST_TEMPLATES)]


async def answered(db: Connection, org_id: str, conversation_id: UUID, since: int, user_id: str) -> AnsweredRow | None:
    """The newest message of a colleague behind this sequence."""
    row = await db.fetchrow(_ANSWERED, org_id, conversation_id, since, user_id)
    return None if row is None else AnsweredRow(**row)


async def names(db: Connection, org_id: str, user_ids: Sequence[str]) -> Mapping[str, str]:
    """Names of these members, where they have one."""
    return {row["user_id"]: row["name"] for row in await db.fetch(_NAMES, org_id, list(user_ids))}


async def failed(db: Connection, org_id: str, conversation_id: UUID, message_id: UUID) -> FailedRow | None:
    """A message of the standing conversation that failed; None: there is no such one."""
    row = await db.fetchrow(_FAILED, org_id, conversation_id, message_id)
    return None if row is None else FailedRow(**row)
