"""``transom migrate``, ``transom topics``, ``transom end-access`` and ``transom erase``."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from deploy.cli.partitions import Say, add_partitions
from deploy.cli.queries import current_id
from libs.common.db.migrate import migrate, pending
from libs.common.db.pool import open_pool
from libs.common.db.schema import Phase, require_schema
from libs.common.directory import erasure
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


async def erase_customer(org_id: str, id_: UUID, *, confirmed: bool) -> str:
    """Erase a customer (their id, or that of a conversation of theirs), or only say what that would erase.

    Raises ConfigurationError when the organisation has no such customer, and when something is under way.
    """
    dsn = load_settings(PostgresSettings).postgres_dsn.get_secret_value()
    async with open_pool(dsn, application_name="transom-erase", size=1) as pool:
        await require_schema(pool)
        async with pool.acquire() as db:
            if (whom := await erasure.find(db, org_id, id_)) is None:
                raise ConfigurationError(
                    "the organisation has no such conversation and no such customer: look for both ids in the log"
                )
            found = await erasure.look(db, whom)
            if not (found.person or found.messages or found.access or found.under_way):
                return "nothing of this customer is left to erase"
            what = (
                f"the customer {whom.customer_id}: {len(whom.conversations)} conversations, {found.messages} messages,"
            )
            what += f" {found.access} links and sessions"
            if not confirmed:
                return f"would erase {what}\n{_against(found) or 'nothing is erased yet: --yes erases it for good'}"
            if (against := _against(found)) is not None:
                raise ConfigurationError(f"nothing was erased: {against}")
            done = await erasure.erase(db, whom, pool.now())
    left = f"\n{done.under_way} messages came meanwhile: run it again" if done.under_way else ""
    return f"erased {what}{left}"


def _against(found: erasure.Findings) -> str | None:
    """What an erasure must wait for."""
    if found.merging:
        return "rows of a merged conversation are still being moved: run it again in a quarter of an hour"
    if found.under_way:
        return (
            f"{found.under_way} messages to this customer are under way: run it again when they were sent or have"
            " failed; transom explain says of each what it waits for"
        )
    return None


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
