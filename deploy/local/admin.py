"""``transom migrate`` and ``transom topics``."""

from datetime import timedelta

from libs.common.db.migrate import Tell, migrate, pending
from libs.common.db.schema import Phase
from libs.common.events.access import acls
from libs.common.kafka.topics import declare
from libs.common.settings import KafkaSettings, PostgresSettings
from libs.common.settings import load as load_settings


async def apply_migrations(phase: Phase | None, tell: Tell) -> str:
    """Apply what is pending, of ``phase`` alone if one is named; returns what is to be done next, for a person."""
    dsn = load_settings(PostgresSettings).postgres_dsn.get_secret_value()
    await migrate(dsn, phase=phase, tell=tell)
    left = await pending(dsn)
    if not left:
        return "the schema is up to date"
    return f"roll out the services now, then run transom migrate --phase post: {len(left)} come after the code"


def acl_commands(user_prefix: str) -> list[str]:
    """The declared access as commands for a shell; the brokers are not asked."""
    settings = load_settings(KafkaSettings)
    declared = acls(settings.topic_prefix, user_prefix)
    return [acl.command(settings.kafka_bootstrap) for acl in declared]


async def create_topics(partitions: int | None, retention_hours: int | None, replication_factor: int) -> list[str]:
    """Create what is missing; returns a line per topic for a person."""
    settings = load_settings(KafkaSettings)
    declared = await declare(
        settings.kafka_connection("transom-topics"),
        partitions=partitions,
        retention=None if retention_hours is None else timedelta(hours=retention_hours),
        replication_factor=replication_factor,
    )
    return [
        *(f"created {name}" for name in declared.created),
        *(f"exists  {name}" for name in declared.existing),
        *(f"differs {d.name}: {d.found} partitions, declared are {d.declared}" for d in declared.differing),
    ]
