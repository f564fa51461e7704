from functools import partial

from faststream.kafka import KafkaBroker

from libs.common.kafka.faststream_patches import use_consumer
from libs.common.kafka.rewinding_consumer import RewindingConsumer


async def test_subscribers_of_a_connected_broker_read_with_the_consumer_that_is_given() -> None:
    broker = KafkaBroker("127.0.0.1:1", consumer_only=True, logger=None)
    subscriber = broker.subscriber("a topic", batch=True)
    await broker.connect()
    ours = partial(RewindingConsumer)
    use_consumer(broker, ours)
    assert subscriber.builder is ours
