"""``python -m deploy.local.demo [--keep]``: start everything, play the story, print each step, stop everything."""

import argparse
import asyncio
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import aiohttp
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.text import Text

from deploy.cli.interrupts import interrupt_on_signals
from deploy.cli.load import load_into
from deploy.cli.one_machine import SANDBOX_URL
from deploy.local import queries
from deploy.local.demo import watch_picture
from deploy.local.demo.agent import agent
from deploy.local.demo.garage import Garages
from deploy.local.demo.isolated_env import isolated_env
from deploy.local.demo.pictures import FOLDER, Camera, camera
from deploy.local.demo.scene import Scene
from deploy.local.demo.story import Moment, Story
from deploy.local.demo.topic_watcher import StoryError, TopicWatcher
from deploy.local.environment import kafka_connection, without_password
from deploy.local.example import fresh_link, inbox_links
from deploy.local.portal_visitor import PortalError
from deploy.local.register import register
from deploy.local.sandbox.client import SandboxClient, SandboxError
from deploy.local.up import Running, system
from libs.common.db.pool import open_pool
from libs.common.errors import ConfigurationError, TransomError
from libs.common.kafka.producer import Producer

SHORT_DAY = {
    # Long enough for the decision on the reply, also on a slow machine right after the start. Meta's whole seconds
    # may take one second of it.
    "TRANSOM_WINDOW_SECONDS": "15",
    "TRANSOM_CLOSING_SOON_SECONDS": "3",
    # Longer than the time limits of all steps from the bridge to the last silent reply, and yet short: a Redis that was
    # given soon deletes the demo's slots.
    "TRANSOM_BRIDGE_HOLD_SECONDS": "120",
}
WHO_WIDTH = 10


class Timeline:
    """Prints each step when it was observed."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()

    def report(self, who: str, what: str) -> None:
        """Print one line; see ``Story.report``."""
        line = Text(f"{time.monotonic() - self._began:6.1f} s  ", style="dim")
        line.append(f"{who:<{WHO_WIDTH}}", style="bold")
        line.append(what)
        self._console.print(line, soft_wrap=True)


def main() -> int:
    """0 if every step was observed, 1 if one was not, 2 if the system could not be started, 130 if interrupted."""
    parser = argparse.ArgumentParser("python -m deploy.local.demo", description="Play the whole story on real servers.")
    parser.add_argument("--keep", action="store_true", help="leave the system running until Ctrl-C")
    keep = parser.parse_args().keep
    console = Console(highlight=False)
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())  # its errors are raised too
    interrupt_on_signals()
    folder = Path(tempfile.mkdtemp(prefix="transom-demo-"))
    try:
        with isolated_env(os.environ, console) as given:
            console.print("[dim]starting servers, six services, the sandbox and the AI agent[/dim]")
            garages = Garages()
            with (
                system(folder, given=given | SHORT_DAY, console=console, lasting=False) as running,
                agent(running.servers.watchdog, running.env, folder, running.logs, garages.all),
            ):
                asyncio.run(_play(running, folder, Timeline(console), garages))
                console.print("[green]every step was observed[/green]")
                if keep:
                    _keep(console, running)
    except (StoryError, PortalError, SandboxError, TransomError, KafkaError, aiohttp.ClientError) as trouble:
        console.print("[red]the demo failed:[/red]", Text(_one_line(trouble)), soft_wrap=True)
        _show_logs(console, folder)
        return 2 if isinstance(trouble, ConfigurationError) else 1
    except KeyboardInterrupt:
        console.print("interrupted; nothing runs on")
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


def _one_line(trouble: Exception) -> str:
    ours = isinstance(trouble, StoryError | PortalError | SandboxError | TransomError)
    return str(trouble) if ours else f"{type(trouble).__name__}: {' '.join(str(trouble).split())}"


async def _play(running: Running, folder: Path, timeline: Timeline, garages: Garages) -> None:
    env = running.env
    timeline.report("servers", _what_runs(env))
    await load_into(env["TRANSOM_POSTGRES_DSN"], garages.write(folder / "garages.yaml", env.get("TRANSOM_OIDC_ISSUER")))
    await register(env[SANDBOX_URL], env["TRANSOM_POSTGRES_DSN"])
    for who, link in (await inbox_links(env)).items():
        timeline.report("look", f"the inbox as {who}: {link}")
    async with camera(lambda line: timeline.report("look", line)) as taking:
        if own := next(iter((await inbox_links(env)).values()), None):
            await taking.signs_in(own)
        await _told(env, garages, timeline, taking, running.logs)


async def _told(env: Mapping[str, str], garages: Garages, timeline: Timeline, taking: Camera, logs: Path) -> None:
    kafka = kafka_connection(env, "transom-demo")
    async with (
        SandboxClient(env[SANDBOX_URL]) as sandbox,
        TopicWatcher(kafka, [garage.org_id for garage in garages.all]) as watcher,
        Producer(kafka) as producer,
    ):
        shaken = await sandbox.verify_webhook()
        if not shaken["verified"]:
            raise StoryError(f"ingest did not answer Meta's handshake: {shaken}")
        acme, bolt, crown, dusty = (
            Scene(garage, watcher, producer, sandbox, timeline.report) for garage in garages.all
        )

        async def spend() -> Sequence[queries.Spent]:
            return await _spend(env["TRANSOM_POSTGRES_DSN"], garages)

        async def look(moment: Moment) -> None:
            inbox = env["TRANSOM_INBOX_URL"]
            match moment:
                case "open":
                    link, mine = await _portal_links(env, dusty)
                    timeline.report("look", f"the portal as {dusty.garage.customer}, a customer: {link}")
                    await taking.takes_inbox("inbox-open", f"{inbox}/inbox/{acme.conversation_id}")
                    await taking.takes_portal(mine)
                case "expired":
                    await taking.takes_inbox("inbox-expired", f"{inbox}/inbox/{acme.conversation_id}")
                case "end":
                    await taking.takes_inbox("spend", f"{inbox}/spend")
                    await asyncio.to_thread(watch_picture.take, logs, FOLDER / "watch.svg")
                    timeline.report("look", f"a picture of transom watch: {FOLDER / 'watch.svg'}")

        scheme = urlsplit(env["TRANSOM_PORTAL_URL"]).scheme
        await Story(acme, bolt, crown, dusty, scheme, spend, look).play()


async def _portal_links(env: Mapping[str, str], scene: Scene) -> tuple[str, str]:
    """Two fresh links to the conversation of a customer whose portal is at the platform's address."""
    garage, conversation_id = scene.garage, UUID(scene.conversation_id)
    async with open_pool(env["TRANSOM_POSTGRES_DSN"], application_name="transom-demo", size=1) as pool:
        one = await fresh_link(pool, env, garage.org_id, conversation_id, garage.customer_phone)
        return one, await fresh_link(pool, env, garage.org_id, conversation_id, garage.customer_phone)


async def _spend(dsn: str, garages: Garages) -> Sequence[queries.Spent]:
    async with open_pool(dsn, application_name="transom-demo", size=1) as pool, pool.acquire() as db:
        return await queries.spend(db, [garage.org_id for garage in garages.all])


def _what_runs(env: Mapping[str, str]) -> str:
    return (
        f"Kafka at {env['TRANSOM_KAFKA_BOOTSTRAP']}, PostgreSQL, Valkey; six services;"
        " Meta and Twilio played by the sandbox"
    )


def _keep(console: Console, running: Running) -> None:
    """Return after Ctrl-C, which is the end of it in order."""
    try:
        console.print(f"kept running until Ctrl-C; addresses are in {running.env_file} (source it):", soft_wrap=True)
        for name, value in sorted(running.env.items()):
            if name.endswith(("_URL", "_BOOTSTRAP", "_DSN")):
                console.print(f"  {name}={without_password(value)}", soft_wrap=True, markup=False)
        running.hold()
    except KeyboardInterrupt:
        console.print("stopping; nothing is left behind")


def _show_logs(console: Console, folder: Path) -> None:
    for log in sorted((folder / "logs").glob("*.log")):
        lines = log.read_text(errors="replace").splitlines()
        for line in [line for line in lines if '"error"' in line or "Traceback" in line][-3:]:
            console.print(f"{log.name}: {line}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    sys.exit(main())
