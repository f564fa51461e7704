"""Redis refuses a request for a slot only together with the facts; everything else PostgreSQL decides, and Redis
follows it.
"""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.bridge.slot import Slot, refused_by_redis, stale_in_redis

MINE, OTHER, THIRD = UUID(int=1), UUID(int=2), UUID(int=3)
CONVERSATION = UUID(int=9)
REQUEST = Slot("acme", CONVERSATION, MINE)
ANYBODY = (None, MINE, OTHER, THIRD)

HOLDER = st.sampled_from(ANYBODY)
CONVERSATIONS = st.dictionaries(
    st.uuids(), st.tuples(st.sampled_from([MINE, OTHER, THIRD]), HOLDER, HOLDER), max_size=6
)


@pytest.mark.parametrize("known", ANYBODY)
@pytest.mark.parametrize("in_redis", ANYBODY)
def test_only_another_holder_that_both_name_refuses(in_redis: UUID | None, known: UUID | None) -> None:
    refused = refused_by_redis([REQUEST], {CONVERSATION: in_redis}, {CONVERSATION: known})
    both_name_another = in_redis == known and known in (OTHER, THIRD)
    assert refused == ({CONVERSATION: known} if both_name_another else {})


@pytest.mark.parametrize("holder", [MINE, OTHER])
@pytest.mark.parametrize("in_redis", ANYBODY)
def test_redis_follows_postgres_wherever_it_can_be_reached(in_redis: UUID | None, holder: UUID) -> None:
    stale = stale_in_redis([REQUEST], {CONVERSATION: in_redis}, {CONVERSATION: holder})
    agrees_or_away = in_redis in (None, holder)
    assert stale == ([] if agrees_or_away else [Slot("acme", CONVERSATION, holder)])


def test_redis_is_set_for_a_conversation_that_was_opened_after_it_was_asked() -> None:
    assert stale_in_redis([REQUEST], {}, {CONVERSATION: MINE}) == [REQUEST]


@given(CONVERSATIONS)
def test_each_conversation_of_a_batch_is_judged_for_itself(
    batch: dict[UUID, tuple[UUID, UUID | None, UUID | None]],
) -> None:
    requests = [Slot("acme", conversation, asker) for conversation, (asker, _, _) in batch.items()]
    in_redis = {conversation: holder for conversation, (_, holder, _) in batch.items()}
    known = {conversation: holder for conversation, (_, _, holder) in batch.items()}
    alone = [refused_by_redis([request], in_redis, known) for request in requests]
    assert refused_by_redis(requests, in_redis, known) == {c: h for refused in alone for c, h in refused.items()}
