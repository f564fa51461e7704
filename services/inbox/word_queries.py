"""The SQL of the words that the search finds. Written by the inbox worker, read by ``conversation_queries``.

Rule 1: a message's words are written once, under its own id: a thread that is merged or split takes them along.
Rule 2: a customer's words are written anew when their name or numbers have changed.
"""

from collections.abc import Collection, Iterable, Sequence
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection
from libs.common.events.directory import CustomerUpserted
from libs.common.thread.conversations import current_conversation
from services.inbox.words import lexemes, words_of_content, words_of_customer

_UNWRITTEN = """
select m.org_id, m.message_id, m.content
  from unnest($1::text[], $2::uuid[]) as u (org_id, message_id)
  join messages m on m.org_id = u.org_id and m.message_id = u.message_id
 where not exists (select from message_words w where w.org_id = m.org_id and w.message_id = m.message_id)
 order by 1, 2
"""

# Arrays of arrays must be of one length, so the words of a row come as one text. No word has a line break.
_WRITE_MESSAGES = r"""
insert into message_words (org_id, message_id, words)
select u.org_id, u.message_id, array_to_tsvector(string_to_array(u.words, E'\n'))
  from unnest($1::text[], $2::uuid[], $3::text[]) as u (org_id, message_id, words)
on conflict (org_id, message_id) do nothing
"""

# A change of the directory may be read here before ingest has stored it: then its own words count. "offset 0" and
# "|| ''": each row is looked up by its own key, and not among those of the whole organisation.
_CUSTOMERS = f"""
with asked as (
    select c.org_id, c.customer_id, null::text as name, null::text as phone, null::timestamptz as at
      from unnest($1::text[], $2::uuid[]) as u (org_id, conversation_id)
     cross join lateral (
           select * from conversations x
            where x.org_id = u.org_id and x.conversation_id = {current_conversation("u")} offset 0) c
    union all
    select u.org_id, coalesce((select a.customer_id from customer_aliases a
                                where a.org_id = u.org_id and a.alias = u.customer_id), u.customer_id),
           u.name, u.phone, u.at
      from unnest($3::text[], $4::uuid[], $5::text[], $6::text[], $7::timestamptz[])
        as u (org_id, customer_id, name, phone, at)
), newest as (
    select distinct on (org_id, customer_id) * from asked order by org_id, customer_id, at desc nulls last
)
select k.org_id, k.customer_id, case when n.at > coalesce(k.upserted_at, '-infinity') then coalesce(n.name, k.name)
                                     else k.name end as name,
       array(select k.phone where k.phone is not null
              union
             select n.phone where n.phone is not null and n.at > coalesce(k.upserted_at, '-infinity')
              union
             select i.value from customer_identities i
              where i.org_id || '' = k.org_id and i.customer_id = k.customer_id and i.kind in ('phone', 'wa_id')
              order by 1) as phones
  from newest n
 cross join lateral (
       select * from customers x where x.org_id = n.org_id and x.customer_id = n.customer_id offset 0) k
 order by k.customer_id
"""  # noqa: S608 -- a constant

_WRITE_CUSTOMERS = r"""
insert into customer_words as w (org_id, customer_id, words)
select u.org_id, u.customer_id, array_to_tsvector(string_to_array(u.words, E'\n'))
  from unnest($1::text[], $2::uuid[], $3::text[]) as u (org_id, customer_id, words)
 order by u.customer_id
on conflict (customer_id) do update set words = excluded.words
 where w.org_id = excluded.org_id and w.words is distinct from excluded.words
"""


async def write_words(db: Connection, messages: Iterable[tuple[str, UUID]]) -> None:
    """Write the words of these (organisation, message), where they are not written yet. Unknown ids are left out."""
    asked = sorted(set(messages))
    rows = await db.fetch(_UNWRITTEN, *as_columns(asked)) if asked else []
    written = [
        (row["org_id"], row["message_id"], _joined(row["org_id"], words_of_content(row["content"]))) for row in rows
    ]
    if written:
        await db.execute(_WRITE_MESSAGES, *as_columns(written))


async def write_customers(
    db: Connection, conversations: Collection[tuple[str, UUID]], changes: Sequence[CustomerUpserted] = ()
) -> None:
    """Write the words of the customers of these (organisation, conversation), and of those whom the changes name."""
    if not conversations and not changes:
        return
    threads = as_columns(sorted(set(conversations))) or [[], []]
    people = as_columns([(c.org_id, c.customer_id, c.name, c.phone, c.at) for c in changes]) or [[] for _ in range(5)]
    written = [
        (row["org_id"], row["customer_id"], _joined(row["org_id"], words_of_customer(row["name"], row["phones"])))
        for row in await db.fetch(_CUSTOMERS, *threads, *people)
    ]
    if written:
        await db.execute(_WRITE_CUSTOMERS, *as_columns(written))


def _joined(org_id: str, words: Iterable[str]) -> str:
    return "\n".join(lexemes(org_id, words))
