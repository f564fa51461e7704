"""``transom replay`` on the topics of a system, in this process."""

from typing import Any

from pydantic import SecretStr

from deploy.cli.replay.run import Run
from deploy.cli.replay.selection import Selection
from libs.common.events.topics import Topic
from libs.common.kafka.connection import KafkaConnection
from libs.common.settings import PostgresSettings
from tests.support.system import System


def connection(system: System) -> KafkaConnection:
    return KafkaConnection(system.servers.kafka_bootstrap, system.servers.topic_prefix)


def live(topic: Topic, **which: Any) -> Selection:
    return Selection(topic, dlq=False, **which)


async def replayed(system: System, selection: Selection, *, dry: bool = False) -> str:
    """What a run says."""
    postgres = PostgresSettings(postgres_dsn=SecretStr(system.servers.postgres_dsn))
    return "\n".join(await Run(connection(system), selection, dry, postgres=postgres).go())
