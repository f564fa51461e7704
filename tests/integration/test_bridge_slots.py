"""The gate in Redis and the rows of the bridge slot, on real servers."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
import pytest_asyncio
import redis.asyncio

from libs.common.bridge import queries as slot_queries
from libs.common.bridge.redis_gate import RedisGate, redis_key
from libs.common.bridge.slot import Silenced, Slot
from libs.common.db.pool import Pool, open_pool
from libs.common.redis import open_redis
from tests.support.databases import somebody_waits

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HOLD = timedelta(hours=24)


def a_slot(conversation_id: UUID | None = None) -> Slot:
    return Slot("acme", conversation_id or uuid4(), uuid4())


@pytest_asyncio.fixture
async def pool(database: str) -> AsyncIterator[Pool]:
    async with open_pool(database, application_name="test", command_seconds=10) as opened:
        yield opened


@pytest_asyncio.fixture
async def gate(patient_redis_url: str) -> AsyncIterator[RedisGate]:
    async with open_redis(patient_redis_url) as opened:
        yield RedisGate(opened, HOLD)


@pytest_asyncio.fixture
async def plain_redis(redis_url: str) -> "AsyncIterator[redis.asyncio.Redis]":
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


async def test_a_free_slot_is_ours_in_redis_and_for_the_whole_hold(
    gate: RedisGate, plain_redis: "redis.asyncio.Redis"
) -> None:
    slot = a_slot()
    assert await gate.acquire([slot]) == {slot.conversation_id: slot.intent_id}
    left = await plain_redis.pttl(redis_key(slot.conversation_id))
    assert HOLD - timedelta(minutes=1) < timedelta(milliseconds=left) <= HOLD


async def test_asking_again_after_a_lost_reply_is_still_ours(gate: RedisGate) -> None:
    slot = a_slot()
    await gate.acquire([slot])
    assert await gate.acquire([slot]) == {slot.conversation_id: slot.intent_id}


async def test_a_slot_that_another_intent_holds_in_redis_names_its_holder(gate: RedisGate) -> None:
    first = a_slot()
    second = a_slot(first.conversation_id)
    other = a_slot()
    await gate.acquire([first])
    assert await gate.acquire([second, other]) == {
        first.conversation_id: first.intent_id,
        other.conversation_id: other.intent_id,
    }


@pytest.mark.parametrize("value", [b"not an id", b"\xffnot text"], ids=["text", "bytes"])
async def test_a_foreign_value_under_the_key_says_nothing(
    gate: RedisGate, plain_redis: "redis.asyncio.Redis", value: bytes
) -> None:
    slot = a_slot()
    await plain_redis.set(redis_key(slot.conversation_id), value)
    assert await gate.acquire([slot]) == {slot.conversation_id: None}


async def test_only_our_own_id_is_deleted_from_redis(gate: RedisGate, plain_redis: "redis.asyncio.Redis") -> None:
    mine, theirs = a_slot(), a_slot()
    await gate.acquire([mine, theirs])
    await gate.sync(released=[mine, a_slot(theirs.conversation_id)])
    assert await plain_redis.get(redis_key(mine.conversation_id)) is None
    assert await plain_redis.get(redis_key(theirs.conversation_id)) == str(theirs.intent_id)


async def test_sync_writes_the_holder_over_any_other(gate: RedisGate, plain_redis: "redis.asyncio.Redis") -> None:
    stale = a_slot()
    holder = a_slot(stale.conversation_id)
    await gate.acquire([stale])
    await gate.sync(held=[holder])
    assert await plain_redis.get(redis_key(holder.conversation_id)) == str(holder.intent_id)


async def test_postgres_gives_a_slot_to_one_intent_until_it_is_given_back(pool: Pool) -> None:
    first = a_slot()
    second = a_slot(first.conversation_id)
    async with pool.acquire() as db:
        assert await slot_queries.take(db, [first], NOW) == {first.conversation_id: first.intent_id}
        assert await slot_queries.take(db, [first], NOW) == {first.conversation_id: first.intent_id}
        assert await slot_queries.take(db, [second], NOW + timedelta(days=400)) == {
            first.conversation_id: first.intent_id
        }
        assert await slot_queries.release(db, [second]) == []
        assert await slot_queries.release(db, [first]) == [first]
        assert await slot_queries.take(db, [second], NOW) == {first.conversation_id: second.intent_id}


async def test_the_hold_runs_from_the_providers_acceptance(pool: Pool) -> None:
    first = a_slot()
    second = a_slot(first.conversation_id)
    accepted_at = NOW + timedelta(hours=5)
    async with pool.acquire() as db:
        await slot_queries.take(db, [first], NOW)
        await slot_queries.accept(db, [(second, NOW)], HOLD)  # not theirs: nothing happens
        await slot_queries.accept(db, [(first, accepted_at)], HOLD)
        await slot_queries.accept(
            db, [(first, accepted_at + timedelta(hours=1))], HOLD
        )  # a repeat: the first time counts
        just_before = accepted_at + HOLD - timedelta(microseconds=1)
        assert await slot_queries.take(db, [second], just_before) == {first.conversation_id: first.intent_id}
        assert await slot_queries.take(db, [second], accepted_at + HOLD) == {first.conversation_id: second.intent_id}


async def test_a_slot_row_never_passes_to_another_tenant(pool: Pool) -> None:
    first = a_slot()
    foreign = Slot("other", first.conversation_id, uuid4())
    async with pool.acquire() as db:
        await slot_queries.take(db, [first], NOW)
        await slot_queries.release(db, [foreign._replace(intent_id=first.intent_id)])
        await slot_queries.accept(db, [(first, NOW - 2 * HOLD)], HOLD)
        assert await slot_queries.take(db, [foreign], NOW) == {first.conversation_id: first.intent_id}


@pytest.mark.parametrize("racers", [8])
async def test_of_racing_transactions_exactly_one_gets_the_slot(pool: Pool, racers: int) -> None:
    conversation = uuid4()

    async def race() -> tuple[UUID, UUID]:
        slot = a_slot(conversation)
        async with pool.acquire() as db, db.transaction():
            holder = (await slot_queries.take(db, [slot], NOW))[conversation]
        return slot.intent_id, holder

    outcomes = await asyncio.gather(*(race() for _ in range(racers)))
    assert len({holder for _, holder in outcomes}) == 1
    assert sum(mine == holder for mine, holder in outcomes) == 1


async def test_a_release_waits_for_the_intent_that_is_being_silenced_and_then_names_it(pool: Pool) -> None:
    holder = a_slot()
    silenced = a_slot(holder.conversation_id)
    async with pool.acquire() as db:
        await slot_queries.take(db, [holder], NOW)

    async with pool.acquire() as db, pool.acquire() as other:
        async with db.transaction():
            await slot_queries.take(db, [silenced], NOW)

            async def give_back() -> list[Silenced]:
                async with other.transaction():
                    await slot_queries.release(other, [holder])
                    return await slot_queries.newest_silenced(other, [holder])

            giving_back = asyncio.create_task(give_back())
            await somebody_waits(db)
            assert not giving_back.done()
            await db.execute(
                "insert into decisions (org_id, intent_id, attempt, conversation_id, route, reason, slot_holder,"
                " record, decided_at)"
                " values ($1, $2, 1, $3, 'silent', 'bridge_already_sent', $4, '{}', $5)",
                *("acme", silenced.intent_id, silenced.conversation_id, holder.intent_id, NOW),
            )
            await db.execute(
                "insert into messages (org_id, message_id, conversation_id, direction, channel, kind, content,"
                " status, reason, occurred_at,"
                " received_at) values ($1, $2, $3, 'out', 'whatsapp', 'text', '{}', 'failed',"
                " 'window_expired_bridge_already_sent', $4, $4)",
                *("acme", silenced.intent_id, silenced.conversation_id, NOW),
            )
        found = await giving_back
    assert found == [Silenced("acme", holder.conversation_id, silenced.intent_id, attempt=1, holder=holder.intent_id)]
