"""Staff hold a conversation: AI agents are silent in it until the hold ends. What is told of it, and who took over.

Rule 1: one row for a conversation says what stands: held ``until`` then, or released. A hold ends by its time without
        any word.
Rule 2: the word with the newer ``at`` counts; the same again changes nothing. What a person does here counts at once,
        also where another system's clock is ahead.
Rule 3: what is stored here is published from what stands, and only then marked. A crash in between publishes it again.
Rule 4: every word adds a line to ``audit_log``, once.
Rule 5: who wrote in the WhatsApp Business app has no user id here. What is told of such a hold has ``PHONE_APP``
        instead.

Locks: conversations (against a merge), then holds. Call with nothing else locked.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.directory.organisations import AuditLine, add_lines
from libs.common.events.directory import ConversationHeld, ConversationReleased
from libs.common.sanitize import sanitize
from libs.common.thread.conversations import current_conversation, lock_known_against_merge

HoldChange = ConversationHeld | ConversationReleased

PHONE_APP = "phone_app"
_IS_PUBLISHED = True


class Hold(NamedTuple):
    """What stands of a conversation. ``until`` is None once it is released, ``user_id`` where that is not known."""

    org_id: str
    conversation_id: UUID
    user_id: str | None
    at: datetime
    until: datetime | None

    @property
    def key(self) -> bytes:
        """The record's key on ``directory.changes.v1``."""
        return self.org_id.encode()

    def event(self) -> HoldChange:
        """The event that publishes it."""
        said = {"org_id": self.org_id, "at": self.at, "conversation_id": self.conversation_id}
        if self.until is None:
            return ConversationReleased(**said, user_id=self.user_id)
        return ConversationHeld(**said, user_id=self.user_id or PHONE_APP, until=self.until)


_COLUMNS = "h.org_id, h.conversation_id, h.user_id, h.at, h.until_at as until"

_GIVEN = f"""
with given as (
    select distinct on (c.conversation_id) c.conversation_id, c.org_id, u.user_id, u.at, u.until_at
      from unnest($1::text[], $2::uuid[], $3::text[], $4::timestamptz[], $5::timestamptz[]) with ordinality
        as u (org_id, conversation_id, user_id, at, until_at, n)
     cross join lateral ( -- by its key
           select * from conversations k
            where k.org_id = u.org_id and k.conversation_id = {current_conversation("u")} offset 0) c
     order by c.conversation_id, u.at desc, u.n desc
)"""  # noqa: S608 -- a constant

_SET = f"""{_GIVEN}
insert into conversation_holds as h (conversation_id, org_id, user_id, at, until_at, published)
select conversation_id, org_id, user_id, at, until_at, false from given
on conflict (conversation_id) do update
   set user_id = excluded.user_id, at = greatest(excluded.at, h.at + interval '1 microsecond'),
       until_at = excluded.until_at, published = false
 where h.org_id = excluded.org_id
returning {_COLUMNS}
"""  # noqa: S608 -- constants

# Our own events come back on the topic: the row that they were made of is published then, whatever became of its mark.
_HEAR = f"""{_GIVEN}
insert into conversation_holds as h (conversation_id, org_id, user_id, at, until_at, published)
select conversation_id, org_id, user_id, at, until_at, $6 from given
on conflict (conversation_id) do update
   set user_id = excluded.user_id, at = excluded.at, until_at = excluded.until_at, published = excluded.published
 where h.org_id = excluded.org_id and h.at <= excluded.at
returning {_COLUMNS}
"""  # noqa: S608 -- constants

_TAKE_BACK = f"""
update conversation_holds h
   set at = h.at + interval '1 microsecond', until_at = null, published = false
 where h.org_id = $1 and h.conversation_id = $2 and h.at = $3
returning {_COLUMNS}
"""  # noqa: S608 -- constants

_STANDING = f"""
select {_COLUMNS}
  from (select $1::text as org_id, $2::uuid as conversation_id) u
  join conversation_holds h on h.org_id = u.org_id and h.conversation_id = {current_conversation("u")}
"""  # noqa: S608 -- constants

_UNPUBLISHED = f"""
select {_COLUMNS} from conversation_holds h where not h.published order by h.at limit $1
"""  # noqa: S608 -- constants

_MARK_PUBLISHED = """
update conversation_holds h
   set published = true
  from unnest($1::text[], $2::uuid[], $3::timestamptz[]) as u (org_id, conversation_id, at)
 where h.org_id = u.org_id and h.conversation_id = u.conversation_id and h.at = u.at
"""


class Said(NamedTuple):
    """What stands after a person's word, and whether the conversation was free before."""

    stands: Hold
    was_free: bool


async def say(db: Connection, word: Hold) -> Said | None:
    """A person takes a conversation over, or lets the AI answer again (``until`` None).

    None: the organisation has no such conversation. ``word`` may name it by an earlier id. Call inside a transaction.
    """
    if not await lock_known_against_merge(db, [(word.org_id, word.conversation_id)]):
        return None
    before = await standing(db, word.org_id, word.conversation_id)
    [row] = await db.fetch(_SET, *as_columns([word]))
    stands = Hold(**row)
    await add_lines(db, [_line(stands)])
    return Said(stands, before is None or before.until is None or before.until <= word.at)


async def take_back(db: Connection, held: Hold) -> None:
    """Nothing came of what this hold was for: it is released, unless something newer stands."""
    if (row := await db.fetchrow(_TAKE_BACK, held.org_id, held.conversation_id, held.at)) is not None:
        await add_lines(db, [_line(Hold(**row))])


async def standing(db: Connection, org_id: str, conversation_id: UUID) -> Hold | None:
    """What stands of a conversation; None where staff never held it."""
    row = await db.fetchrow(_STANDING, org_id, conversation_id)
    return None if row is None else Hold(**row)


async def apply(db: Connection, changes: Sequence[HoldChange]) -> list[int]:
    """Store what was told on the topic, by us or by another system. Call inside a transaction.

    Returns the indexes of those whose conversation the organisation does not have.
    """
    if not changes:
        return []
    known = await lock_known_against_merge(db, [(change.org_id, change.conversation_id) for change in changes])
    ours = [change for change in changes if (change.org_id, change.conversation_id) in known]
    told = [Hold(c.org_id, c.conversation_id, _user(c), c.at, _until(c)) for c in ours]
    if told:
        await db.fetch(_HEAR, *as_columns(told), _IS_PUBLISHED)
        await add_lines(db, [_line(one) for one in told])
    return [i for i, change in enumerate(changes) if (change.org_id, change.conversation_id) not in known]


async def echoed(db: Connection, holds: Sequence[Hold]) -> list[Hold]:
    """Staff took these conversations over in the WhatsApp Business app. Returns what stands by that, to be published.

    Call in a transaction that keeps the conversations from being merged.
    """
    rows = await db.fetch(_HEAR, *as_columns(holds), not _IS_PUBLISHED) if holds else []
    stand = [Hold(**row) for row in rows]
    await add_lines(db, [_line(one) for one in stand])
    return stand


def _user(change: HoldChange) -> str | None:
    return None if change.user_id == PHONE_APP else sanitize(change.user_id)


def _until(change: HoldChange) -> datetime | None:
    return change.until if isinstance(change, ConversationHeld) else None


async def unpublished(db: Connection, limit: int) -> list[Hold]:
    """What stands and was not published yet, the oldest first."""
    return [Hold(**row) for row in await db.fetch(_UNPUBLISHED, limit)]


async def mark_published(db: Connection, published: Iterable[Hold]) -> None:
    """These were published. What was stored since then stays unpublished."""
    if rows := [(one.org_id, one.conversation_id, one.at) for one in published]:
        await db.execute(_MARK_PUBLISHED, *as_columns(rows))


def _line(stands: Hold) -> AuditLine:
    """Its key names what was said, so our own word that comes back on the topic adds no second line."""
    action = "release" if stands.until is None else "hold"
    detail = {"conversation_id": str(stands.conversation_id), "user_id": stands.user_id}
    if stands.until is not None:
        detail["until"] = stands.until.isoformat()
    key = f"{action}:{stands.org_id}:{stands.conversation_id}:{stands.at.isoformat()}"
    return AuditLine(stands.org_id, None, action, detail, stands.at, key)
