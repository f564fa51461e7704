"""Where a record goes."""

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from libs.common.kafka.aiokafka_patches import partition


@given(st.binary(), st.integers(1, 48))
def test_a_key_goes_where_every_kafka_client_would_put_it(key: bytes, partitions: int) -> None:
    every = list(range(partitions))
    assert partition(key, every, every) == DefaultPartitioner()(key, every, every)


@given(st.integers(1, 48))
def test_a_record_without_key_goes_where_a_leader_is(partitions: int) -> None:
    every = list(range(partitions))
    assert partition(None, every, [partitions - 1]) == partitions - 1
    assert partition(None, every, []) in every
