"""The statements of the WhatsApp sender.

They work on many rows of many tenants at once, and each names the tenant of every row.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, get_args
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.addressing import KnownAddresses
from libs.common.directory.consents import CONSENTS
from libs.common.events.fields import ConsentPurpose
from libs.common.ids import SendKey, callback_data
from libs.common.sending.outcomes import Accepted
from libs.common.sending.rows import SendRow
from libs.common.thread.conversations import current_conversation
from libs.common.window import Window
from services.whatsapp_sender.evidence import Seen
from services.whatsapp_sender.gate import WhatsappFacts

# A merged conversation is read under its old id. The router decides no session for a marked address, so any mark is
# newer than the decision. A requested template may have been decided for a marked address.
_FACTS = f"""
select u.n, w.phone_number_id is not null as number_is_ours, w.token, c.last_customer_at, c.identity_changed_at,
       (w.phone_number_id is null or w.replaced_by is not null) and coalesce(c.phone_number_id <> u.account, false)
           as number_moved,
       c.first_refused_at, c.last_refused_at,
       k.whatsapp_consent, k.marketing_consent, k.transactional_consent, k.service_reminders_consent,
       t.status as template_status, t.category as template_category,
       c.wa_id, c.wa_id_at, c.bsuid, c.bsuid_at, p.phone, p.phone_at,
       case when u.named is not null
            then exists (select from customer_identities i
                          where i.org_id = u.org_id and i.kind = 'phone' and i.value = u.named
                             and i.customer_id = c.customer_id)
       end as to_is_theirs,
       exists (select from address_marks x
                where x.org_id = u.org_id and x.channel = 'whatsapp' and x.address = u.goes_to and x.until > $10
                  and (u.template is null or x.at >= u.decided_at)) as unreachable,
       u.retried is not null and exists (select from messages m
               where m.org_id = u.org_id and m.message_id = u.retried and m.status in ('delivered', 'read')) as arrived,
       exists (select from early_statuses e where e.callback = u.callback offset 0) as told
  from unnest($1::text[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[], $8::text[],
              $9::timestamptz[], $11::text[]) with ordinality
    as u (org_id, conversation_id, account, template, language, named, retried, goes_to, decided_at, callback, n)
  left join whatsapp_numbers w on w.org_id = u.org_id and w.phone_number_id = u.account
  left join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
  left join customers p on p.org_id = u.org_id and p.customer_id = c.customer_id
  left join lateral ({CONSENTS.format(org_id="u.org_id", customer_id="c.customer_id")}) k on true
  left join templates t on t.org_id = u.org_id and t.waba_id = w.waba_id
                         and t.name = u.template and t.language = u.language
"""  # noqa: S608 -- a constant

# A status carries our callback data. Its number belongs to one tenant, which shows whose send it names. "offset 0":
# each send is looked up by its keys, whatever statistics the planner has.
_EVIDENCE = """
select u.org_id, u.message_id, u.attempt, p.account, p.provider_id, p.recorded_at as at
  from unnest($1::text[], $2::uuid[], $3::int[]) as u (org_id, message_id, attempt)
 cross join lateral (
       select p.account, p.provider_id, p.recorded_at from provider_ids p
        where p.org_id = u.org_id and p.send_id = u.message_id and p.attempt = u.attempt
            and p.provider = 'meta' offset 0) p
union
select u.org_id, u.message_id, u.attempt, e.account, e.provider_id, min(e.received_at)
  from unnest($1::text[], $2::uuid[], $3::int[], $4::text[], $5::text[])
    as u (org_id, message_id, attempt, account, callback)
 cross join lateral (
       select e.* from early_statuses e where e.callback = u.callback offset 0) e
 where e.provider = 'meta' and e.account = u.account
 group by u.org_id, u.message_id, u.attempt, e.account, e.provider_id
 order by provider_id
"""


async def facts(
    db: Connection, rows: Sequence[SendRow], window: tuple[timedelta, timedelta], now: datetime
) -> dict[SendKey, WhatsappFacts]:
    """The gate's facts for every row. Only rows that may have been sent before cost a second round trip.

    ``window``: its length, and how long after a message a refusal is doubtful.
    """
    asked = [
        (
            *(row.org_id, row.conversation_id, row.account, *template_of(row), row.named_line),
            row.message_id if row.attempt > 1 else None,  # only a later attempt can follow an arrival
            row.command.get("to") or row.command.get("recipient"),
            row.created_at,
        )
        for row in rows
    ]
    callbacks = [callback_data(*row.key) for row in rows]
    found = await db.fetch(_FACTS, *as_columns(asked), now, callbacks)
    before = [rows[r["n"] - 1] for r in found if r["told"] or rows[r["n"] - 1].resends]
    seen = await evidence(db, [(row.key, row.account) for row in before])
    return {
        rows[r["n"] - 1].key: WhatsappFacts(
            callback=callbacks[r["n"] - 1],
            number_is_ours=r["number_is_ours"],
            number_moved=r["number_moved"],
            known=KnownAddresses(r["phone"], r["phone_at"], r["wa_id"], r["wa_id_at"], r["bsuid"], r["bsuid_at"]),
            to_is_theirs=r["to_is_theirs"],
            token=r["token"],
            window=Window(
                *(r["last_customer_at"], *window, r["identity_changed_at"]), r["first_refused_at"], r["last_refused_at"]
            ),
            whatsapp_allowed=r["whatsapp_consent"],
            marketing_allowed=r["marketing_consent"],
            purpose_allowed=_purpose_allowed(rows[r["n"] - 1], r),
            template_status=r["template_status"],
            template_category=r["template_category"],
            seen=s.ids if (s := seen.get(rows[r["n"] - 1].key)) else (),
            arrived=r["arrived"],
            unreachable=r["unreachable"],
        )
        for r in found
    }


def _purpose_allowed(row: SendRow, found: Any) -> bool:
    """Whether the customer consents to what a template is sent for. A row with a later purpose is set aside anyway."""
    purpose = row.command.get("purpose")
    return purpose not in get_args(ConsentPurpose) or bool(found[f"{purpose}_consent"])


_CUSTOMERS = f"""
select c.customer_id
  from unnest($1::text[], $2::uuid[]) with ordinality as u (org_id, conversation_id, n)
  left join conversations c on c.org_id = u.org_id and c.conversation_id = {current_conversation("u")}
 order by u.n
"""  # noqa: S608 -- a constant


async def customers_of(db: Connection, conversations: Sequence[tuple[str, UUID]]) -> list[UUID | None]:
    """The customers of these (org_id, conversation_id), in order."""
    return [row["customer_id"] for row in await db.fetch(_CUSTOMERS, *as_columns(conversations))]


async def evidence(db: Connection, sends: Sequence[tuple[SendKey, str]]) -> dict[SendKey, Seen]:
    """The wamids that these sends (with their accounts) got, as known by late answers and Meta's statuses."""
    if not sends:
        return {}
    asked = [(*key, account, callback_data(*key)) for key, account in sends]
    found: dict[SendKey, Seen] = {}
    for r in await db.fetch(_EVIDENCE, *as_columns(asked)):
        key, id_ = (r["org_id"], r["message_id"], r["attempt"]), Accepted(r["account"], r["provider_id"])
        before = found.get(key)
        if before is None:
            found[key] = Seen((id_,), r["at"])
        else:  # an id may be known by an answer and by a status
            found[key] = Seen(tuple(dict.fromkeys((*before.ids, id_))), min(before.at, r["at"]))
    return found


def template_of(row: SendRow) -> tuple[str | None, str | None]:
    """Name and language of the template that a row sends; None and None of a free-form message."""
    content: Mapping[str, Any] = row.command.get("content") or {}
    return (content.get("name"), content.get("language")) if content.get("kind") == "template" else (None, None)
