"""The inbox's lists: pages of an organisation that has all of a million conversations, and a search among them.

Every view is asked for from its beginning, from far behind it, and by members who have read much or little. The words
of the newest message of each conversation can be searched; those of the older ones are not loaded.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from urllib.parse import urlsplit

from libs.common.events.topics import TOPICS
from tests.bench import seed
from tests.bench.figures import percentile
from tests.bench.rounds import Bench
from tests.bench.stage import Stage, ask

EACH = 10
"""Messages of a conversation."""
_ASKED = 60
"""Requests for each list and round."""
KINDS = ("all", "deep", "unread", "closing", "expired", "failed", "channel", "number", "search", "one", "thread")
_NAMES = {
    "all": "list, all",
    "deep": "list, all, a page far behind",
    "unread": "list, unread",
    "closing": "list, closing soon",
    "expired": "list, expired",
    "failed": "list, failed",
    "channel": "list, by channel",
    "number": "list, by number",
    "search": "search",
    "one": "one conversation",
    "thread": "messages of a conversation",
}
FIGURES = tuple(f"{_NAMES[kind]}, {share}" for kind in KINDS for share in ("p50", "p95"))

_ORG = """
insert into orgs (org_id, name, currency, upserted_at) values ('large', 'Large', 'GBP', now());
insert into whatsapp_numbers (phone_number_id, org_id, waba_id, display_number, upserted_at)
select '10640000000000' || i, 'large', '206400000000001', '+44770090010' || i, now() from generate_series(0, 2) i;
insert into members (org_id, user_id, read_below, first_seen_at, seen_at)
values ('large', 'reads-much', 0, now(), now()), ('large', 'reads-little', 0, now(), now());
"""
_CUSTOMER = "('01930000-0000-7000-9000-' || lpad(to_hex(i), 12, '0'))::uuid"
_CONVERSATION = "('01930000-0000-7000-8000-' || lpad(to_hex(i), 12, '0'))::uuid"
_MESSAGE = "('01930000-0000-7000-a000-' || lpad(to_hex(s), 12, '0'))::uuid"
# the newest conversation has the highest number; they are a minute apart, so a day of them is open
_AT = "now() - make_interval(secs => ($1::bigint - i) * 20)"
_CHANNEL = "case when i % 50 = 0 then 'sms' else 'whatsapp' end"
_NUMBER = "'10640000000000' || i % 3"
_SAID = "'word' || (s * 7919) % 5000"

_TABLES = {
    "customers": f"""
insert into customers (customer_id, org_id, name, phone, origin)
select {_CUSTOMER}, 'large', 'Kim ' || i, '+4477' || lpad(i::text, 8, '0'), 'inbound'
  from generate_series(0, $1::bigint - 1) i""",
    "conversations": f"""
insert into conversations (conversation_id, org_id, customer_id, phone_number_id, last_customer_at, last_inbound_at,
    last_inbound_channel)
select {_CONVERSATION}, 'large', {_CUSTOMER}, {_NUMBER}, {_AT}, {_AT}, {_CHANNEL}
  from generate_series(0, $1::bigint - 1) i""",
    "messages": f"""
insert into messages (org_id, message_id, conversation_id, direction, channel, provider, account, provider_id, kind,
    content, sequence, status, actor, occurred_at, received_at)
select 'large', {_MESSAGE}, {_CONVERSATION}, case s % 2 when 0 then 'out' else 'in' end, {_CHANNEL}, 'meta', {_NUMBER},
       'wamid.' || s, 'text', jsonb_build_object('kind', 'text', 'text', 'The ' || {_SAID} || ' is ready by six.'), s,
       case s % 2 when 0 then 'read' else 'received' end, case s % 2 when 0 then 'ai' end, {_AT}, {_AT}
  from generate_series(1, $1::bigint * {EACH}) s cross join lateral (select (s - 1) / {EACH} as i) c""",
    "conversation_heads": f"""
insert into conversation_heads (conversation_id, org_id, phone_number_id, last_sequence, last_message_id,
    last_at, channel, inbound_sequence, inbound_at, unanswered_since, failed_sequence, last_customer_at, escalated_at)
select {_CONVERSATION}, 'large', {_NUMBER}, s, {_MESSAGE}, {_AT}, {_CHANNEL}, s - 1, {_AT},
       case when i % 3 = 0 then {_AT} end, case when i % 200 = 0 then s end, {_AT},
       case when i % 20000 = 0 then now() end
  from generate_series(0, $1::bigint - 1) i cross join lateral (select (i + 1) * {EACH} as s) c""",
    "message_words": f"""
insert into message_words (org_id, message_id, words)
select 'large', {_MESSAGE}, array_to_tsvector(array['large/the', 'large/' || {_SAID}, 'large/is', 'large/ready'])
  from generate_series(0, $1::bigint - 1) i cross join lateral (select (i + 1) * {EACH} as s) c""",
    "customer_words": f"""
insert into customer_words (org_id, customer_id, words)
select 'large', {_CUSTOMER}, array_to_tsvector(array['large/kim', 'large/' || i, 'large/+' || lpad(i::text, 8, '0')])
  from generate_series(0, $1::bigint - 1) i""",
    "member_reads": f"""
insert into member_reads (org_id, user_id, conversation_id, read_sequence)
select 'large', 'reads-much', {_CONVERSATION}, (i + 1) * {EACH}
  from generate_series(greatest(0, $1::bigint - 5000), $1::bigint - 1) i where i % 10 > 0""",
}


async def part(bench: Bench) -> None:
    """Lists of one large organisation. They have no floor."""
    listed = bench.size.listed
    of = f", {listed:,} conversations, {listed * EACH:,} messages"
    try:
        bench.say(f"lists: storing {listed:,} conversations with {EACH} messages each")
        async with stored(bench.stage, listed) as large:
            for number in range(1, bench.size.rounds + 1):
                bench.say(f"lists, round {number}: {listed:,} conversations of one organisation")
                for name, value in (await lists(large, listed)).items():
                    bench.values(name + of).append(value)
    finally:
        for name in FIGURES:
            bench.figure(name, "ms", "less", of=of)


@asynccontextmanager
async def stored(stage: Stage, conversations: int) -> AsyncIterator[Stage]:
    """The stage on a database with so many conversations of one organisation."""
    async with seed.empty_database(stage.servers.addresses.postgres_dsn) as dsn:
        await seed.execute(dsn, _ORG)
        for table, statement in _TABLES.items():
            await seed.fill_table(dsn, table, statement, conversations)
        await seed.execute(dsn, "checkpoint")
        yield replace(stage, databases={conversations: dsn})


async def lists(stage: Stage, conversations: int) -> dict[str, float]:
    """All figures, of one process."""
    async with stage.ground(conversations, TOPICS) as ground, ground.service("inbox", load=None) as running:
        env = ground.env
        given = {
            "port": running.port,
            "host": urlsplit(env["TRANSOM_INBOX_URL"]).netloc,
            "jwt": {
                "key": env["TRANSOM_JWT_KEYS"].split(",")[0],
                "aud": env.get("TRANSOM_JWT_AUDIENCE"),
                "iss": env.get("TRANSOM_JWT_ISSUER"),
            },
            "conversations": conversations,
            "asked": _ASKED,
        }
        found = await ask("inbox_lists", given, [running])
    return {
        f"{_NAMES[kind]}, {name}": percentile(found[kind], share)
        for kind in KINDS
        for name, share in (("p50", 0.5), ("p95", 0.95))
    }
