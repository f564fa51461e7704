"""The ``transom`` command. Each subcommand has a module of its own, which is imported when the subcommand runs."""

import asyncio
import importlib
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar
from uuid import UUID

import click

from deploy.cli import one_machine
from deploy.cli.interrupts import hear_interrupts
from libs.common.errors import TransomError

SERVICES = {
    "ingest": "services.ingest.app",
    "router": "services.router.app",
    "whatsapp-sender": "services.whatsapp_sender.app",
    "sms-bridge": "services.sms_bridge.app",
    "portal": "services.portal.app",
}
EXIT_USAGE = 2
T = TypeVar("T")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep WhatsApp conversations alive when the 24-hour customer service window closes."""
    hear_interrupts()
    # A library's warnings would repeat what the command prints as an error. A service configures its own logging.
    logging.getLogger().addHandler(logging.NullHandler())


@main.command()
@click.option(
    "--data", type=click.Path(path_type=Path, file_okay=False), default=Path(".transom"), help="Folder of all data."
)
@click.option(
    "--port-base", type=click.IntRange(1024, 65000), default=None, help="First of the ports; free ones otherwise."
)
def up(data: Path, port_base: int | None) -> None:
    """Run servers, services and sandbox providers in the foreground until Ctrl-C."""
    _or_exit(lambda: one_machine.run_up(data, port_base))


@main.command(context_settings={"ignore_unknown_options": False})
@click.argument("service", type=click.Choice(sorted(SERVICES)))
@click.option(
    "--port", type=click.IntRange(0, 65535), default=None, help="Port of /livez, /readyz, /metrics and webhooks."
)
@click.option(
    "--role",
    type=click.Choice(["edge", "worker", "all"]),
    default=None,
    help="Of ingest: take webhooks (needs Kafka alone), handle them, or both, which is the default.",
)
def run(service: str, port: int | None, role: str | None) -> None:
    """Run one service in the foreground, configured by the environment alone."""
    main_of = importlib.import_module(SERVICES[service]).main
    if role is None:
        sys.exit(main_of(port))
    if service != "ingest":
        raise click.UsageError("--role is ingest's alone")
    sys.exit(main_of(port, role))


@main.command()
@click.option(
    "--phase",
    type=click.Choice(["pre", "post"]),
    default=None,
    help="Only what comes before this release's code (pre) or after it (post). Without it both, for a stopped system.",
)
def migrate(phase: Literal["pre", "post"] | None) -> None:
    """Apply the database migrations that are pending, while services run. Idempotent."""
    from deploy.cli.admin import apply_migrations  # noqa: PLC0415 -- keeps `transom run` free of what it does not use

    click.echo(_or_exit(lambda: asyncio.run(apply_migrations(phase, click.echo))))


@main.command()
@click.option(
    "--partitions",
    type=click.IntRange(1),
    default=None,
    help="For every topic, instead of the declared number. An existing topic with fewer gets more, once all is read"
    " and stopped.",
)
@click.option(
    "--wait", type=click.FloatRange(0), default=600, show_default=True, help="How many seconds to wait for that moment."
)
@click.option("--ignore-group", multiple=True, help="A consumer group that is not used any more and does not count.")
@click.option(
    "--retention-hours", type=click.IntRange(1), default=None, help="For every topic, instead of the declared time."
)
@click.option("--replication-factor", type=click.IntRange(1), default=1, show_default=True)
@click.option("--acls", is_flag=True, help="Print who may write and read what as Kafka ACLs, and create nothing.")
@click.option("--user-prefix", default="transom-", show_default=True, help="Before every user's name, with --acls.")
def topics(
    *,
    partitions: int | None,
    wait: float,
    ignore_group: tuple[str, ...],
    retention_hours: int | None,
    replication_factor: int,
    acls: bool,
    user_prefix: str,
) -> None:
    """Create the topics as declared, or add partitions. Idempotent. Other differences are named and stay."""
    from deploy.cli.admin import acl_commands, create_topics  # noqa: PLC0415 -- see migrate

    if acls:
        for line in _or_exit(lambda: acl_commands(user_prefix)):
            click.echo(line)
        return
    work = partial(create_topics, partitions, retention_hours, replication_factor)
    _or_exit(lambda: asyncio.run(work(wait=wait, ignored=ignore_group, say=click.echo)))


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def load(file: Path) -> None:
    """Upsert orgs, numbers, customers, templates and the rate card from a YAML FILE, all or nothing."""
    from deploy.cli.load import load_file  # noqa: PLC0415 -- see migrate

    click.echo(_or_exit(lambda: asyncio.run(load_file(file))))


@main.command()
@click.option("--dlq", is_flag=True, required=True, help="Replay dead letters; nothing else can be replayed.")
@click.argument("topic", required=False)
@click.option("--topic", "named", default=None, help="Whose dead letters, as the argument.  [default: webhooks.v1]")
@click.option("--reason", default=None, help="Only letters of this reason: unknown_number, waba_mismatch, …")
@click.option("--number", default=None, help="Only letters of this phone_number_id, or of this SMS number (E.164).")
@click.option(
    "--limit", type=click.IntRange(1), default=None, help="Replay at most this many. The next run continues after them."
)
@click.option("--dry-run", is_flag=True, help="Print what would be done.")
def replay(
    *,
    dlq: bool,
    topic: str | None,
    named: str | None,
    reason: str | None,
    number: str | None,
    limit: int | None,
    dry_run: bool,
) -> None:
    """Publish dead letters again, once their cause is fixed. Repeating it is safe: effects happen once."""
    from deploy.cli.replay import Selection, replay_letters, topic_named  # noqa: PLC0415 -- see migrate

    _ = dlq  # required, so that the command line says what is replayed

    def work() -> list[str]:
        selection = Selection(topic_named(topic or named or "webhooks.v1"), reason, number)
        return asyncio.run(replay_letters(selection, dry=dry_run, limit=limit))

    for line in _or_exit(work):
        click.echo(line)


@main.command(name="end-access")
@click.option("--org", required=True, help="The organisation of the conversation.")
@click.argument("conversation_id", type=click.UUID)
def end_access(org: str, conversation_id: UUID) -> None:
    """End every magic link and session of the portal that leads to a conversation."""
    from deploy.cli.admin import end_portal_access  # noqa: PLC0415 -- see migrate

    click.echo(_or_exit(lambda: asyncio.run(end_portal_access(org, conversation_id))))


@main.command()
@click.argument("intent_id", type=click.UUID)
def explain(intent_id: UUID) -> None:
    """Print everything that happened to an intent: facts, decisions, attempts, provider answers, statuses."""
    from deploy.cli.explain import explain_intent  # noqa: PLC0415 -- see migrate

    _or_exit(lambda: asyncio.run(explain_intent(intent_id)))


def _or_exit(work: Callable[[], T]) -> T:
    """Do the work. An expected error is one line on stderr and exit code 2."""
    try:
        return work()
    except TransomError as trouble:
        click.echo(f"transom: {trouble}", err=True)
        sys.exit(EXIT_USAGE)
