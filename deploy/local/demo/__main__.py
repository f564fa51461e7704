"""``python -m deploy.local.demo [--keep]``: start everything, play the story, tell it, stop everything."""

import asyncio
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.text import Text

from deploy.local.demo.garage import TEMPLATE, Garage
from deploy.local.demo.story import Story
from deploy.local.demo.witness import StoryError, Witness
from deploy.local.load import load_into
from deploy.local.sandbox.client import SandboxClient
from deploy.local.up import Running, interrupt_on_signals, system
from libs.common.errors import TransomError
from libs.common.kafka.connection import KafkaConnection
from libs.common.kafka.topics import delete

DAY_SECONDS = 8
WHO_WIDTH = 10


class Timeline:
    """What happened, line by line as it was observed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def tell(self, who: str, what: str) -> None:
        """One line; a template for ``Story.tell``."""
        line = Text(f"{time.monotonic() - self._began:6.1f} s  ", style="dim")
        line.append(f"{who:<{WHO_WIDTH}}", style="bold")
        line.append(what)
        self._console.print(line, soft_wrap=True)


def main() -> int:
    """Exit code 0 only if every step of the story was observed."""
    keep = "--keep" in sys.argv[1:]
    console = Console(highlight=False)
    given = {name: value for name, value in os.environ.items() if name.startswith("TRANSOM_")}
    prefix = f"demo-{secrets.token_hex(3)}." if given.get("TRANSOM_KAFKA_BOOTSTRAP") else ""
    wishes = {
        "TRANSOM_WINDOW_SECONDS": str(DAY_SECONDS),
        "TRANSOM_WINDOW_MARGIN_SECONDS": "1",
        "TRANSOM_TOPIC_PREFIX": prefix,
    }
    folder = Path(tempfile.mkdtemp(prefix="transom-demo-"))
    interrupt_on_signals()
    try:
        with system(folder, given=given | wishes, console=console, durable=False) as running:
            asyncio.run(_play(running, folder, Timeline(console)))
            console.print("[green]every step was observed[/green]")
            if keep:
                _keep(console, running)
            if prefix:
                asyncio.run(
                    delete(KafkaConnection(bootstrap=running.env["TRANSOM_KAFKA_BOOTSTRAP"], topic_prefix=prefix))
                )
    except (StoryError, TransomError) as trouble:
        console.print(f"[red]the demo failed:[/red] {trouble}", soft_wrap=True)
        _show_logs(console, folder)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; nothing runs on")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


async def _play(running: Running, folder: Path, timeline: Timeline) -> None:
    env, garage = running.env, Garage()
    timeline.tell("servers", _what_runs(env))
    await load_into(env["TRANSOM_POSTGRES_DSN"], garage.write(folder / "garage.yaml"))
    async with (
        SandboxClient(env["TRANSOM_SANDBOX_URL"]) as sandbox,
        Witness(env["TRANSOM_KAFKA_BOOTSTRAP"], env["TRANSOM_TOPIC_PREFIX"], garage.org_id) as witness,
    ):
        await sandbox.template(
            TEMPLATE["name"],
            TEMPLATE["language"],
            TEMPLATE["body"],
            category="UTILITY",
            parameter_format="NAMED",
            waba_id=garage.waba_id,
        )  # fmt: skip -- one call
        await sandbox.number(garage.phone_number_id, waba_id=garage.waba_id)
        shaken = await sandbox.verify_webhook()
        if not shaken["verified"]:
            raise StoryError(f"ingest did not answer Meta's handshake: {shaken}")
        await Story(garage, witness, sandbox, timeline.tell).play()


def _what_runs(env: Mapping[str, str]) -> str:
    where = {name: env[f"TRANSOM_{name}"] for name in ("KAFKA_BOOTSTRAP", "REDIS_URL")}
    return (
        f"Kafka at {where['KAFKA_BOOTSTRAP']}, PostgreSQL, Valkey; four services; Meta and Twilio played by the sandbox"
    )


def _keep(console: Console, running: Running) -> None:
    console.print(f"kept running until Ctrl-C; addresses are in {running.env_file} (source it):")
    for name, value in sorted(running.env.items()):
        if name.endswith(("_URL", "_BOOTSTRAP", "_DSN")):
            console.print(f"  {name}={value}", soft_wrap=True)
    while running.ended() is None:
        time.sleep(0.2)
    console.print(f"[red]{running.ended()} ended by itself[/red]")


def _show_logs(console: Console, folder: Path) -> None:
    for log in sorted((folder / "logs").glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()
        for line in [line for line in lines if '"error"' in line or "Traceback" in line][-3:]:
            console.print(f"{log.name}: {line}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(main())
