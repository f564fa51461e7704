"""Two long threads that turn out to be one person's, while everything goes on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from tests.support.accounts import endings
from tests.support.garages import Garage, a_garage
from tests.support.system import System

# A customer known by the number alone, with a thread of years: most of it heard, some of it sent.
_LONG = """
with known as (
    insert into customers (org_id, phone, origin) values ($1, $3, 'inbound') returning customer_id
), line as (
    insert into customer_identities (org_id, kind, value, customer_id, since, source, line, seen)
    select $1, 'phone', $3, customer_id, now() - interval '400 days', 'message', null, now() - interval '400 days'
        from known
), spelled as (
    insert into customer_identities (org_id, kind, value, customer_id, since, source, line)
    select $1, 'wa_id', ltrim($3, '+'), customer_id, now() - interval '400 days', 'message', $3 from known
)
insert into conversations (org_id, customer_id, phone_number_id, wa_id, wa_id_at, last_customer_at, last_inbound_at,
    last_inbound_channel)
select $1, customer_id, $2, ltrim($3, '+'), now() - interval '1 hour', now() - interval '1 hour',
       now() - interval '1 hour', 'whatsapp'
  from known
returning conversation_id
"""
_MESSAGES = """
insert into messages (org_id, message_id, conversation_id, direction, channel, account, provider_id, kind, content,
    status, occurred_at, received_at, from_wa_id)
select $1, uuidv7(interval '-400 days' + n * interval '1 second'), $2::uuid, d, 'whatsapp',
       case d when 'in' then $4 end, case d when 'in' then 'wamid.old.' || n end, 'text',
       '{"kind": "text", "text": "old"}',
       case d when 'in' then 'received' else 'read' end, now() - interval '400 days' + n * interval '1 second',
       now() - interval '400 days' + n * interval '1 second', case d when 'in' then ltrim($5, '+') end
  from generate_series(1, $3::int) as n, lateral (select case n % 4 when 0 then 'out' else 'in' end as d) k
"""
_DECISIONS = """
insert into decisions (org_id, intent_id, attempt, conversation_id, route, reason, record, decided_at)
select org_id, message_id, 1, conversation_id, 'session', 'window_open', '{}', received_at
  from messages where conversation_id = $1::uuid and direction = 'out'
"""
_SENDS = """
insert into sends (org_id, message_id, attempt, channel, provider, conversation_id, sequence, account, command, state,
    due_at, expires_at, created_at, settled_at, published)
select org_id, message_id, 1, 'whatsapp', 'meta', conversation_id, sequence, $2, '{}', 'accepted',
       received_at, received_at, received_at, received_at, true
  from messages where conversation_id = $1::uuid and direction = 'out'
"""
_STANDS = """
select (select count(*) from messages where conversation_id = $1::uuid) as messages,
       (select count(*) from decisions where conversation_id = $1::uuid) as decisions,
       (select count(*) from sends where conversation_id = $1::uuid) as sends
"""
_BEGUN = "select from conversation_merges where org_id = $1 and moved > 0"
_UNDER_WAY = "select moved, looks from conversation_merges where org_id = $1"


async def long_ago(garage: Garage, phone: str, messages: int) -> str:
    """Somebody of whom only the number is known has written and been written to so often; the conversation."""
    system = garage.system
    conversation_id = str(await system.value(_LONG, garage.org_id, garage.phone_number_id, phone))
    values = garage.org_id, conversation_id, messages, garage.phone_number_id, phone
    await system.rows(_MESSAGES, *values)
    await system.rows(_DECISIONS, conversation_id)
    await system.rows(_SENDS, conversation_id, garage.phone_number_id)
    await system.rows("analyze messages, decisions, sends")
    return conversation_id


@pytest.mark.parametrize(
    ("messages", "rounds"),
    [(2_000, 2), pytest.param(300_000, 6, marks=[pytest.mark.proof, pytest.mark.timeout(600)])],
)
async def test_a_long_thread_is_merged_while_everything_goes_on(system: System, messages: int, rounds: int) -> None:
    garage = await a_garage(system)
    kim, lee = garage.customer(), await garage.customer_who_wrote()
    await kim.writes("Hello, it is me.", hide_phone=True)
    by_number = replace(kim, conversation_id=await long_ago(garage, kim.phone, messages))
    people = (kim, by_number, lee)
    intents: list[Mapping[str, Any]] = []
    wrote: list[str] = []

    async def one_round(number: int) -> None:
        """Somebody is written to and writes, on both sides and next to them; nobody of them waits for the merge."""
        said = [who.intent(f"Round {number} of {place}") for place, who in enumerate(people)]
        intents.extend(said)
        await system.intend(*said)
        for who in (kim, lee):
            message = await system.sandbox.customer_writes(garage.phone_number_id, who.phone, text=f"Yes {number}")
            wrote.append(message["wamid"])
        for intent in said:
            await system.reaches(intent["intent_id"], "read")

    await one_round(0)  # a status names both ids: they are one
    await system.until(lambda: system.rows(_BEGUN, garage.org_id), "the merge begins")
    for number in range(1, rounds // 2):
        await one_round(number)
    await system.services["ingest"].kill()
    moved, looks = (await system.rows(_UNDER_WAY, garage.org_id))[0]
    assert messages < 100_000 or (0 < moved < messages and not looks)  # several rounds went and came meanwhile
    await system.start("ingest")
    for number in range(rounds // 2, rounds):
        await one_round(number)

    async def moved_all() -> bool:
        return all(row["looks"] for row in await system.rows(_UNDER_WAY, garage.org_id))

    while not await moved_all():
        await system.rows("select pg_sleep(0.2)")
    await system.quiet()
    assert await endings(system, intents) == {("read", None): 3 * rounds}
    number_id = garage.phone_number_id
    sent = [one for one in await system.sandbox.messages() if one["phone_number_id"] == number_id]
    for place in range(len(people)):
        mine = [text for one in sent if (text := one["body"]["text"]["body"]).endswith(f" of {place}")]
        assert mine == [f"Round {number} of {place}" for number in range(rounds)]
    kims = {(await system.decided(intent["intent_id"]))["conversation_id"] for intent in intents[-3:-1]}
    assert len(kims) == 1
    (thread,) = kims
    (gone,) = {kim.conversation_id, by_number.conversation_id} - kims
    outbound = messages // 4 + 2 * rounds
    assert tuple((await system.rows(_STANDS, thread))[0]) == (messages + 1 + 3 * rounds, outbound, outbound)
    assert tuple((await system.rows(_STANDS, gone))[0]) == (0, 0, 0)
    heard = await system.rows("select conversation_id::text from messages where provider_id = any($1::text[])", wrote)
    assert sorted(row[0] for row in heard) == sorted([thread, lee.conversation_id] * rounds)
    assert [line for line in system.lines() if "QueryCanceled" in str(line.get("exception"))] == []
