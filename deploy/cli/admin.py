"""``transom migrate``, ``transom topics`` and ``transom end-access``."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from deploy.cli.partitions import Say, add_partitions
from deploy.cli.queries import current_id
from libs.common.db.migrate import migrate, pending
from libs.common.db.pool import open_pool
from libs.common.db.schema import Phase, require_schema
from libs.common.directory.portal_access import end_access
from libs.common.errors import ConfigurationError
from libs.common.events.access import acls
from libs.common.events.topics import TOPICS
from libs.common.kafka.topics import declare
from libs.common.settings import KafkaSettings, PostgresSettings
from libs.common.settings import load as load_settings


async def apply_migrations(phase: Phase | None, say: Say) -> str:
    """Apply the pending migrations, or only those of ``phase``. Returns what the operator must do next."""
    dsn = load_settings(PostgresSettings).postgres_dsn.get_secret_value()
    await migrate(dsn, phase=phase, report=say)
    left = await pending(dsn)
    if not left:
        return "the schema is up to date"
    return f"roll out the services now, then run transom migrate --phase post: {len(left)} come after the code"


async def end_portal_access(org_id: str, conversation_id: UUID) -> str:
    """End the links and sessions of a conversation. Returns how many there were.

    Raises ConfigurationError when the organisation has no such conversation.
    """
    dsn = load_settings(PostgresSettings).postgres_dsn.get_secret_value()
    async with open_pool(dsn, application_name="transom-end-access", size=1) as pool:
        await require_schema(pool)
        async with pool.acquire() as db, db.transaction():
            if (current := await current_id(db, org_id, conversation_id)) is None:
                raise ConfigurationError("the organisation has no such conversation: look for both ids in the log")
            ended = await end_access(db, [(org_id, current)])
    return f"ended {ended} links and sessions"


def acl_commands(user_prefix: str) -> list[str]:
    """The declared access as shell commands. The brokers are not asked."""
    settings = load_settings(KafkaSettings)
    declared = acls(settings.topic_prefix, user_prefix)
    return [acl.command(settings.kafka_bootstrap) for acl in declared]


async def create_topics(
    partitions: int | None,
    retention_hours: int | None,
    replication_factor: int,
    *,
    wait: float,
    ignored: Collection[str],
    say: Say,
) -> None:
    """Create the topics that are missing and say a line per topic.

    With ``partitions``, topics that have fewer get more once everything is read and stopped (see ``add_partitions``).
    Topics of dead letters keep what they have, and no difference of theirs is named then.
    """
    connection = load_settings(KafkaSettings).kafka_connection("transom-topics")
    declared = await declare(
        connection,
        partitions=partitions,
        retention=None if retention_hours is None else timedelta(hours=retention_hours),
        replication_factor=replication_factor,
    )
    for name in declared.created:
        say(f"created {name}")
    for name in declared.existing:
        say(f"exists  {name}")
    growing = {connection.name(topic.name) for topic in TOPICS}
    for one in declared.differing:
        if partitions is None or (one.name in growing and one.found > one.declared):
            say(f"differs {one.name}: {one.found} partitions, declared are {one.declared}")
    if partitions is not None:
        await add_partitions(connection, partitions, wait=wait, ignored=ignored, say=say)
