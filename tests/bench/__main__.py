"""``make bench``: every figure beside the floor that was measured in the same run, on the machine that the run
describes.

``python -m tests.bench [--quick] [--only NAME]… [--runs N] [--json FILE] [--markdown FILE] [--no-growth]``. Servers
given as TRANSOM_KAFKA_BOOTSTRAP, TRANSOM_POSTGRES_DSN and TRANSOM_REDIS_URL are used instead of those of
``deploy/local``; a database and topics of the bench's own are made on them.
"""

import argparse
import asyncio
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from deploy.cli.interrupts import hear_interrupts
from deploy.local.servers import ServerError
from deploy.local.servers.local_servers import Given, LocalServers
from libs.common.errors import TransomError
from tests.bench import seed, table
from tests.bench.machine import Machine
from tests.bench.plan import PARTS, run
from tests.bench.rounds import Bench, Findings
from tests.bench.size import FULL, QUICK, Size
from tests.bench.stage import Stage, sandbox
from tests.support.servers import Kind, _version


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.bench", description="Measure Transom beside its floors.")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of everything but processes, fewer records, no growth",
    )
    parser.add_argument("--only", choices=tuple(PARTS), action="append", help="this part alone; may be repeated")
    parser.add_argument("--runs", type=int, help="rounds of each figure (3, with --quick 1)")
    parser.add_argument("--no-growth", action="store_true", help="leave the large population out")
    parser.add_argument("--json", type=Path, help="write everything found to this file too")
    parser.add_argument("--markdown", type=Path, help="write the table of docs/architecture/speed.md to this file too")
    parser.add_argument("--keep", action="store_true", help="keep the folder with the processes' logs")
    return parser.parse_args()


async def _bench(
    servers: LocalServers, folder: Path, console: Console, size: Size, options: argparse.Namespace
) -> Findings:
    dsn = servers.addresses.postgres_dsn
    populations = [size.few, size.large]
    async with AsyncExitStack() as seeded:
        databases = {}
        for population in populations:
            console.print(f"[dim]storing {population:,} conversations[/]", highlight=False)
            databases[population] = await seeded.enter_async_context(seed.database(dsn, population))
        stage = Stage(servers, folder, databases)
        await seeded.enter_async_context(sandbox(stage))
        bench = Bench(stage, size, lambda what: console.print(f"[dim]{what}[/]", highlight=False))
        await run(bench, options.only or [part for part in PARTS if not (options.quick and part == "processes")])
        return bench.found


def _where(servers: LocalServers) -> str:
    """The servers, and how they keep what they are given."""
    given, addresses = servers.given, servers.addresses
    asked = (
        (Kind.KAFKA, addresses.kafka_bootstrap, given.kafka_bootstrap),
        (Kind.POSTGRES, addresses.postgres_dsn, given.postgres_dsn),
        (Kind.REDIS, addresses.redis_url, given.redis_url),
    )
    versions = ", ".join(_version(kind, address) + (" (given)" if own else "") for kind, address, own in asked)
    return (
        f"{versions}; one broker, acks=all, everything on this machine's cores; what we started: PostgreSQL fsync"
        f" on, Valkey append-only file on"
    )


def main() -> int:
    """0 when every figure was taken (reached or missed), 1 when one could not be, 2 when the servers do not start."""
    options = _options()
    hear_interrupts()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # a topic made a moment ago has leaders a moment later
    console = Console(width=None if sys.stdout.isatty() else 150)
    size = QUICK if options.quick else FULL
    if options.no_growth:
        size = replace(size, many=None)
    if options.runs:
        size = replace(size, rounds=options.runs, pace_rounds=options.runs)
    folder = Path(tempfile.mkdtemp(prefix="transom-bench-"))
    began = time.monotonic()
    try:
        with LocalServers(
            folder / "servers",
            given=Given.from_environment(os.environ),
            console=Console(stderr=True),
            scratch=None if options.keep else folder,
            rights=seed.RIGHTS,
        ) as servers:
            machine, where = Machine.here(), _where(servers)
            console.print(f"{machine}\n{where}", highlight=False)
            found = asyncio.run(_bench(servers, folder, console, size, options))
    except (ServerError, TransomError) as error:
        print(f"bench: {error}", file=sys.stderr)  # noqa: T201 -- the one line for the user
        return 2
    finally:
        if options.keep:
            console.print(f"[dim]logs: {folder}[/]", highlight=False)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if options.json:
        report = {"machine": asdict(machine), "servers": where, **asdict(found)}
        options.json.write_text(json.dumps(report, indent=1))
    console.print(f"\n{machine}\n{where}", highlight=False)
    table.show(console, found.figures, found.growth)
    for part, shares in found.shares.items():
        took = f", {found.seconds[part]:,.0f} s" if part in found.seconds else ""
        console.print(f"processor, {part}: {table.shares(shares)}{took}", highlight=False)
    console.print(f"took {time.monotonic() - began:.0f} s", highlight=False)
    table.failures(console, found.failures)
    if options.markdown:
        options.markdown.write_text(table.markdown(found.figures, found.growth))
    return 1 if found.failures else 0


if __name__ == "__main__":
    sys.exit(main())
