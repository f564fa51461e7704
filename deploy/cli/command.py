"""The ``transom`` command. Each subcommand has a module of its own, which is imported when the subcommand runs."""

import asyncio
import gc
import importlib
import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from uuid import UUID

import click
import structlog
from click.core import ParameterSource

from deploy.cli import one_machine
from deploy.cli.interrupts import hear_interrupts
from deploy.cli.saying import say
from libs.common.clock import utc_now
from libs.common.errors import TransomError
from libs.common.events.topics import DLQ_SUFFIX

if TYPE_CHECKING:
    from deploy.cli.replay.run import Run

SERVICES = {
    "ingest": "services.ingest.app",
    "router": "services.router.app",
    "whatsapp-sender": "services.whatsapp_sender.app",
    "sms-bridge": "services.sms_bridge.app",
    "inbox": "services.inbox.app",
    "portal": "services.portal.app",
}
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
T = TypeVar("T")


class _Commands(click.Group):
    """Ends with ``EXIT_INTERRUPTED`` after Ctrl-C; click itself would end with the code of a fault."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Keep WhatsApp conversations alive when the 24-hour customer service window closes."""
    hear_interrupts()
    # A library's warnings would repeat what the command prints as an error. A service configures its own logging.
    logging.getLogger().addHandler(logging.NullHandler())
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))  # not into a command's answer


class _Folder(click.Path):
    """A folder. An empty name is that of a variable which is not set, not the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value):
            self.fail("it is empty: name a folder, or '.' for this one", param, ctx)
        return super().convert(value, param, ctx)


@main.command()
@click.option("--data", type=_Folder(path_type=Path, file_okay=False), default=".transom", help="Folder of all data.")
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
    gc.disable()  # until the service tunes it: what imports make stays, and looking through it costs a tenth of a start
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

    say(_or_exit(lambda: asyncio.run(apply_migrations(phase, say))))


@main.command()
@click.option(
    "--partitions",
    type=click.IntRange(1, 100_000),
    default=None,
    help="For every topic, instead of the declared number. An existing topic with fewer gets more, once all is read"
    " and stopped.",
)
@click.option(
    "--wait",
    type=click.IntRange(0, 1_000_000),
    default=600,
    show_default=True,
    help="How many seconds to wait for that moment.",
)
@click.option("--ignore-group", multiple=True, help="A consumer group that is not used any more and does not count.")
@click.option(
    "--retention-hours",
    type=click.IntRange(1, 1_000_000),
    default=None,
    help="Of the topics that are created, instead of the declared time.",
)
@click.option(
    "--replication-factor",
    type=click.IntRange(1, 1_000),
    default=1,
    show_default=True,
    help="Of the topics that are created; `transom doctor` looks at those that exist.",
)
@click.option("--acls", is_flag=True, help="Print who may write and read what as Kafka ACLs, and create nothing.")
@click.option("--user-prefix", default="transom-", show_default=True, help="Before every user's name, with --acls.")
def topics(
    *,
    partitions: int | None,
    wait: int,
    ignore_group: tuple[str, ...],
    retention_hours: int | None,
    replication_factor: int,
    acls: bool,
    user_prefix: str,
) -> None:
    """Create the topics as declared, or add partitions. Idempotent. Topics with more partitions are named and stay."""
    context = click.get_current_context()
    given = {name for name in context.params if context.get_parameter_source(name) is not ParameterSource.DEFAULT}
    for name, other in (("wait", "partitions"), ("ignore_group", "partitions"), ("user_prefix", "acls")):
        if name in given and other not in given:
            raise click.UsageError(f"--{name.replace('_', '-')} goes with --{other}")
    from deploy.cli.admin import acl_commands, create_topics  # noqa: PLC0415 -- see migrate

    if acls:
        for line in _or_exit(lambda: acl_commands(user_prefix)):
            say(line)
        return
    work = partial(create_topics, partitions, retention_hours, replication_factor)
    _or_exit(lambda: asyncio.run(work(wait=wait, ignored=ignore_group, say=say)))


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
def load(file: Path) -> None:
    """Upsert orgs, numbers, customers, templates and the rate card from a YAML FILE, all or nothing."""
    from deploy.cli.load import load_file  # noqa: PLC0415 -- see migrate

    say(_or_exit(lambda: asyncio.run(load_file(file))))


@main.command()
@click.argument("logs", nargs=-1, metavar="[FILES or -]")
@click.option("--org", default=None, help="Begin with the figures of this organisation alone.")
def watch(logs: tuple[str, ...], org: str | None) -> None:
    """Show what the services' logs say: live in a terminal, else once at the end of the input."""
    from deploy.cli.watch import watch as watch_logs  # noqa: PLC0415 -- see migrate

    _or_exit(lambda: watch_logs(logs, org))


@main.command()
@click.option("--dlq", is_flag=True, help="The topic's dead letters, instead of its live records.")
@click.argument("topic", required=False)
@click.option("--topic", "named", default=None, help="Which topic, as the argument.  [with --dlq: webhooks.v1]")
@click.option("--from", "began", default=None, help="From this time on: 2026-11-26T10:00:00Z, or an age: 90m, 6h, 3d.")
@click.option("--until", default=None, help="Up to before this time, in the same words.")
@click.option("--key", default=None, help="Only records with this key: a conversation id, of the directory an org_id.")
@click.option("--partition", type=click.IntRange(0), default=None, help="Only this partition.")
@click.option("--reason", default=None, help="Only of this reason: unknown_number, waba_mismatch, window_expired, …")
@click.option("--number", default=None, help="Only of this phone_number_id, or of this SMS number (E.164).")
@click.option("--limit", type=click.IntRange(1), default=None, help="Replay at most this many.")
@click.option("--dry-run", is_flag=True, help="Print what would be done.")
def replay(
    *,
    dlq: bool,
    topic: str | None,
    named: str | None,
    began: str | None,
    until: str | None,
    key: str | None,
    partition: int | None,
    reason: str | None,
    number: str | None,
    limit: int | None,
    dry_run: bool,
) -> None:
    """Publish a topic's records, or its dead letters, again. Repeating it is safe: effects happen once."""
    from deploy.cli.replay.run import run_of_environment  # noqa: PLC0415 -- see migrate
    from deploy.cli.replay.selection import Selection, moment, topic_named  # noqa: PLC0415

    name = topic or named or ("webhooks.v1" if dlq else None)
    if name is None:
        raise click.UsageError("say which topic with --topic, or --dlq for the dead letters of webhooks.v1")
    if topic and named and topic != named:
        raise click.UsageError(f"two topics are named: {topic} and {named}")

    def prepared() -> "Run":
        now = utc_now()
        selection = Selection(
            topic_named(name),
            reason=reason,
            number=number,
            dlq=dlq or name.endswith(DLQ_SUFFIX),
            began=None if began is None else moment("--from", began, now),
            until=None if until is None else moment("--until", until, now),
            key=key,
            partition=partition,
        )
        return run_of_environment(selection, dry=dry_run, limit=limit)

    run = _or_exit(prepared)
    try:
        _or_exit(lambda: asyncio.run(run.go()))
    finally:
        for line in run.lines() if run.began else ():  # what an interrupted run has done, too
            say(line)


@main.command()
@click.option("--org", required=True, help="The organisation.")
@click.option("--user", required=True, help="The id of the person.")
@click.option(
    "--capabilities",
    required=True,
    help="Joined by commas: messages.view, messages.send, messages.tier.manage, customers.contact.view, or * for all.",
)
@click.option("--name", default=None, help="The name of the person.")
@click.option("--ttl", default="1h", show_default=True, help="How long it counts, an hour at most: 30s, 15m, 1h.")
def token(org: str, user: str, capabilities: str, name: str | None, ttl: str) -> None:
    """Make a token for development, with the first key of TRANSOM_JWT_KEYS. Refused beside a real identity provider."""
    from deploy.cli.token import development_token  # noqa: PLC0415 -- see migrate

    say(_or_exit(lambda: development_token(org, user, capabilities, name, ttl)))


@main.command(name="end-access")
@click.option("--org", required=True, help="The organisation of the conversation.")
@click.argument("conversation_id", type=click.UUID)
def end_access(org: str, conversation_id: UUID) -> None:
    """End every magic link and session of the portal that leads to a conversation."""
    from deploy.cli.admin import end_portal_access  # noqa: PLC0415 -- see migrate

    say(_or_exit(lambda: asyncio.run(end_portal_access(org, conversation_id))))


@main.command()
@click.option("--org", required=True, help="The organisation of the customer.")
@click.option("--yes", "confirmed", is_flag=True, help="Erase. Without it, only say what would be erased.")
@click.argument("id_", metavar="CONVERSATION_OR_CUSTOMER_ID", type=click.UUID)
def erase(*, org: str, confirmed: bool, id_: UUID) -> None:
    """Erase a customer for good: name, numbers, ids and every word, in all their conversations.

    A run that was interrupted is made whole by the next one.
    """
    from deploy.cli.admin import erase_customer  # noqa: PLC0415 -- see migrate

    say(_or_exit(lambda: asyncio.run(erase_customer(org, id_, confirmed=confirmed))))


@main.command()
@click.argument("intent_id", type=click.UUID)
def explain(intent_id: UUID) -> None:
    """Print everything that happened to an intent: facts, decisions, attempts, provider answers, statuses."""
    from deploy.cli.explain import explain_intent  # noqa: PLC0415 -- see migrate

    _or_exit(lambda: asyncio.run(explain_intent(intent_id)))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Write the report as JSON.")
@click.option(
    "--service",
    "services",
    multiple=True,
    type=click.Choice(sorted([*SERVICES, "ingest-edge", "ingest-worker"])),
    help="Look at what this service, or role of ingest, needs alone; may be repeated.  [default: all]",
)
def doctor(*, as_json: bool, services: tuple[str, ...]) -> None:
    """Look for what is wrong with settings, servers and providers. Reads only; ends within 30 seconds.

    Exit code 0: nothing, 3: warnings, 4: errors.
    """
    from deploy.cli.doctor.doctor import doctor as look  # noqa: PLC0415 -- see migrate

    look(services or tuple(SERVICES), as_json=as_json)


def _or_exit(work: Callable[[], T]) -> T:
    """Do the work. An expected error is one line on stderr and exit code 2."""
    try:
        return work()
    except TransomError as trouble:
        click.echo(f"transom: {trouble}", err=True)
        sys.exit(EXIT_USAGE)
