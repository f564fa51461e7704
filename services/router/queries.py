"""Decisions as they are recorded, with the messages that they move. Every statement takes a whole batch."""

from collections.abc import Collection, Sequence
from typing import Any, get_args

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.errors import Permanent
from libs.common.ids import AttemptKey, MessageKey
from libs.common.thread.conversations import current_conversation
from libs.common.thread.message_status import Status
from services.router.recorded_decision import RecordedDecision
from services.router.refusal_actions import RefusedMessage

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
    insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content, reply_to, actor,
        user_id, ai_generated,
                          sequence, status, reason, seq, sent_at, failed_at, occurred_at, received_at)
    select org_id, intent_id, conversation_id, 'out', message_channel, kind, coalesce(content, '{{}}')::jsonb, reply_to,
        actor, user_id,
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
    seqs = {(r["org_id"], r["intent_id"]): r["seq"] for r in await db.fetch(statement, *as_columns(decisions))}
    return {d.key: d if d.seq == seqs[d.key] else d._replace(seq=seqs[d.key]) for d in decisions if d.key in seqs}


_RECORDED = f"""
select d.org_id, d.intent_id, d.attempt,
       {current_conversation("d")} as conversation_id,
       d.route, d.channel, d.reason, d.window_state::text as window_state, d.slot_holder, d.record::text,
           d.command::text, d.decided_at,
       case m.status when 'read' then coalesce(m.read_channel, m.channel) else m.channel end as message_channel,
       m.kind, m.actor, m.user_id, m.sequence, m.content::text, m.reply_to, m.occurred_at, m.status,
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
    return found


_REFUSED = """
select m.org_id, m.message_id, m.attempt, m.status, m.reason, m.sequence, d.route, d.record, h.refusals,
       h.first_decided_at, m.delivered_at is not null or (m.status = 'read' and m.read_channel is null) as arrived
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
