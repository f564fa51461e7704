"""What the delays rest on: every partition of an input is warm before anything is counted."""

from collections import Counter

import pytest

from libs.common.events.topics import OUTBOUND_INTENTS, WEBHOOKS, Topic
from libs.common.kafka.aiokafka_patches import partition
from tests.bench.delays import FILLED, FILLED_BYTES
from tests.bench.rates import Records, intents, webhook_records


@pytest.mark.parametrize(
    ("topic", "records"),
    [(WEBHOOKS, webhook_records(1_000, FILLED, FILLED)), (OUTBOUND_INTENTS, intents(1_000_000, FILLED, FILLED))],
)
def test_what_fills_an_input_gives_each_of_its_partitions_more_than_two_index_intervals(
    topic: Topic, records: Records
) -> None:
    filled: Counter[int] = Counter()
    for key, value in records:
        filled[partition(key, range(topic.partitions), ())] += len(value)
    assert len(filled) == topic.partitions
    assert min(filled.values()) > FILLED_BYTES
