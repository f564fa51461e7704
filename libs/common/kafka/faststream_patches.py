"""The one attribute of FastStream that is replaced.

The reason and the test that notices a change: docs/decisions/0008.
"""

from collections.abc import Callable

from aiokafka import AIOKafkaConsumer
from faststream.kafka import KafkaBroker


def use_consumer(broker: KafkaBroker, build: Callable[..., AIOKafkaConsumer]) -> None:
    """Let the subscribers of a connected broker read with consumers that ``build`` makes.

    FastStream has no option for that.
    """
    broker.config.broker_config.builder = build
