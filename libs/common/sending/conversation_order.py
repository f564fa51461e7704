"""Which row of ``sends`` holds another one back: parts of statements.

``s`` is the row that asks, ``$2`` the time, ``$3`` how long a row may hold back others for a reason that is not theirs.
A row of the other channel does so for no longer, nor does a template of an account whose templates rest.

Whoever asks must do so by the order of the index: then nothing the planner believes of the rows (it may know them from
before a flood, or not at all) makes it read the table. Of an ``exists`` the order counts with "offset 0" alone.
"""

_OLDER = """
        o.org_id = s.org_id and o.sequence <= s.sequence and (o.sequence, o.attempt) < (s.sequence, s.attempt)
    and o.state in ('pending', 'claimed', 'unknown')
    and (o.blocks_order_until is null or o.blocks_order_until > $2)
    and (o.channel = s.channel or o.created_at > $2 - $3::interval)
    and not (o.template and not s.template and o.state = 'pending' and exists (
            select from pauses q
             where q.channel = o.channel and q.account in (o.account, '*') and q.scope = 'templates'
               and greatest(q.since, o.created_at) <= $2 - $3::interval))
"""

HOLDS = f"o.conversation_id = s.conversation_id and {_OLDER}"
"""Whether ``o``, an older row of the same conversation, holds back ``s``.

Ask in the order of ``o.sequence``, with a limit.
"""

# While the rows of a thread are being moved into another one, the order goes over both, and over whatever else is being
# moved there.
_JOINED = f"""
select from (select g.winner as conversation_id from conversation_merges g where g.loser = s.conversation_id
             union all
             select g.loser from conversation_merges g where g.winner = s.conversation_id
             union all
             select b.loser from conversation_merges g join conversation_merges b on b.winner = g.winner and b.loser <> g.loser
              where g.loser = s.conversation_id) j
 cross join lateral (select from sends o where o.conversation_id = j.conversation_id and {_OLDER} order by o.sequence limit 1 offset 0) o
"""  # noqa: S608 -- constants of this module

IS_HELD = f"""
(exists (select from sends o where {HOLDS} order by o.sequence limit 1 offset 0)
 or (exists (select from conversation_merges) and exists ({_JOINED}))) -- most of the time no merge is under way
"""  # noqa: S608 -- constants of this module
"""Whether any row holds back ``s``."""
