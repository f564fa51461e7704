"""``transom up`` and the demo as processes: a ready line, addresses to source, and no process that outlives them."""

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import aiohttp
import asyncpg
import psutil
import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.cli.doctor.catalogue import CATALOGUE
from deploy.local.example import NUMBER, PHONE
from deploy.local.portal_visitor import PortalVisitor
from deploy.local.sandbox.client import SandboxClient
from deploy.local.watchdog import TOKEN, bearers
from tests.support.child_guard import ends_with_us
from tests.support.command import COMMAND, complaint, environment, running, transom
from tests.support.doctor import assert_secretless
from tests.support.sandbox import ROOT
from tests.support.waiting import eventually, eventually_true

FILE = "transom.env"
LENT = "transom_demo_"
NOWHERE = "127.0.0.1:1"
_START_SECONDS = 120.0
"""Servers and services all start at once, on a machine that may have other work."""


class Up:
    """A run of ``transom up``."""

    def __init__(self, folder: Path, ignored: Sequence[signal.Signals] = ()) -> None:
        self.folder = folder
        self.out = folder.parent / "out.log"
        with self.out.open("wb") as out:
            self.process = subprocess.Popen(
                [*ignoring(ignored), *COMMAND, "up", "--data", str(folder)],
                cwd=ROOT,
                env=environment(),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        ends_with_us(self.process.pid)
        self._tokens: set[str] = set()

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Return when it holds, having seen what this run has started."""

        def alive_and_so() -> object:
            assert self.process.poll() is None, self.out.read_text()
            self._look()
            return holds()

        # to look costs what the servers need for their start: all processes of the machine are read
        await eventually(alive_and_so, f"{what}: {self.out.read_text()}", seconds=_START_SECONDS, every=0.1)

    async def ready(self) -> None:
        await self.until(lambda: "portal: http" in self.out.read_text(), "the ready line and the portal's")

    def has_started(self, word: str) -> bool:
        """Whether a process with this word in its command line is there."""
        found = False
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                found = found or any(word in part for part in child.cmdline())
            except psutil.Error:
                continue
        return found

    def has_begun(self) -> bool:
        """Whether it has started what must not outlive it."""
        return bool(self._tokens)

    async def ends(self, number: signal.Signals) -> int:
        """Send a signal; the exit code, once nothing that was started runs any more."""
        self._look()
        assert self._tokens
        self.process.send_signal(number)
        code = await asyncio.to_thread(self.process.wait, 60)
        await eventually(lambda: not self.left(), f"nothing runs on: {self.left()}")
        return code

    def left(self) -> list[psutil.Process]:
        """What this run started and still runs, its watchdog among them."""
        watchdogs = [one for one in psutil.process_iter(["cmdline"]) if self._tokens & set(one.info["cmdline"] or ())]
        return [*watchdogs, *(process for token in self._tokens for process in bearers(token))]

    def _look(self) -> None:
        for child in psutil.Process(self.process.pid).children(recursive=True):
            try:
                self._tokens |= {child.environ()[TOKEN]}
            except (psutil.Error, KeyError):
                continue  # gone already, or not ours to know


def ignoring(signals: Sequence[signal.Signals]) -> list[str]:
    """The start of a command line that runs the rest with these signals ignored, as ``nohup`` and a background job."""
    ignore = "".join(f"trap '' {number.name.removeprefix('SIG')}; " for number in signals)
    return ["/bin/sh", "-c", f'{ignore}exec "$@"', "sh"] if signals else []


@contextmanager
def up(folder: Path, ignored: Sequence[signal.Signals] = ()) -> Iterator[Up]:
    run = Up(folder, ignored)
    try:
        yield run
    finally:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait()


def sourced(folder: Path) -> Mapping[str, str]:
    """What a shell knows after it sourced the file."""
    show = "import json, os; print(json.dumps(dict(os.environ)))"
    script = f". {shlex.quote(str(folder / FILE))} && {shlex.join([sys.executable, '-c', show])}"
    told = subprocess.run(
        ["/bin/sh", "-c", script], env={"PATH": os.defpath}, check=True, capture_output=True, text=True
    )
    found: dict[str, str] = json.loads(told.stdout)
    return {name: value for name, value in found.items() if name.startswith("TRANSOM_")}


def printed_link(run: Up) -> str:
    (line,) = [line for line in run.out.read_text().splitlines() if line.startswith("portal: ")]
    return line.split()[1]


def inbox_links(run: Up) -> list[str]:
    """Those of the three people of the garage."""
    links = [line.split()[1] for line in run.out.read_text().splitlines() if line.startswith("inbox: ")]
    assert len(links) == 3
    return links


async def opens_once(link: str) -> bool:
    """Whether the link opens the inbox with the example's conversation. The second time the provider asks who it is."""
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as http:
        async with http.get(link) as answer:
            opened = answer.url.path.startswith("/inbox/") and "Is my car ready?" in await answer.text()
        async with http.get(link) as again:
            return opened and "Who signs in?" in await again.text()


async def answers(url: str) -> int:
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        return answer.status


@pytest.mark.timeout(400)
async def test_up_under_nohup_serves_until_ctrl_c_and_again_on_the_same_folder_until_it_is_killed(
    open_folder: Path,
) -> None:
    folder = open_folder / "data of mine"
    with up(folder, ignored=(signal.SIGINT, signal.SIGHUP)) as first:
        await first.ready()
        first.process.send_signal(signal.SIGHUP)  # the shell is gone
        env = sourced(folder)
        for name in ("INGEST", "ROUTER", "WHATSAPP_SENDER", "SMS_BRIDGE", "PORTAL_SERVICE", "INBOX_SERVICE"):
            assert await answers(env[f"TRANSOM_{name}_URL"] + "/readyz") == 200
        for link in inbox_links(first):
            assert await opens_once(link)
        async with PortalVisitor() as kim:
            await kim.opens(printed_link(first))
            assert "Is my car ready?" in await kim.page()
        migrated = await asyncio.to_thread(transom, "migrate", env=environment() | dict(env))
        assert migrated.stdout == "the schema is up to date\n"
        looked = await asyncio.to_thread(transom, "doctor", "--json", env=environment() | dict(env))
        report = json.loads(looked.stdout)
        assert (looked.returncode, looked.stderr) == (0, "")
        # Everything is as it should be, and each area has looked; other roles' sessions PostgreSQL does not show.
        assert {one["code"] for one in report["findings"] if one["severity"] != "ok"} <= {"transactions_unseen"}
        assert {one["area"] for one in report["findings"] if one["severity"] == "ok"} == set(CATALOGUE)
        assert_secretless(looked.stdout, {env[name] for name in env if name.endswith(("TOKEN", "SECRET", "KEYS"))})
        assert await first.ends(signal.SIGINT) == 0

    with up(folder) as second:
        await second.ready()
        again = sourced(folder)
        assert again["TRANSOM_PORTAL_LINK_KEYS"] == env["TRANSOM_PORTAL_LINK_KEYS"]
        assert await answers(again["TRANSOM_INGEST_URL"] + "/readyz") == 200
        async with SandboxClient(again["TRANSOM_SANDBOX_URL"]) as sandbox:  # Kim wrote in the first run
            assert (await sandbox.window(NUMBER, PHONE))["closes_at"] is not None
        assert await second.ends(signal.SIGKILL) == -signal.SIGKILL


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("word", "named"), [("valkey-server", "Valkey"), ("whatsapp-sender", "whatsapp-sender")])
async def test_up_ends_where_one_of_its_processes_is_killed_and_says_which(
    open_folder: Path, word: str, named: str
) -> None:
    with up(open_folder / "data") as run:
        await run.ready()
        for child in psutil.Process(run.process.pid).children():
            if any(word in part for part in child.cmdline()):
                child.kill()
        assert await asyncio.to_thread(run.process.wait, 60) == 2
        await eventually(lambda: not run.left(), f"nothing runs on: {run.left()}")
        (line,) = [line for line in run.out.read_text().splitlines() if line.startswith("transom: ")]
        assert line.startswith(f"transom: {named} was ended by SIGKILL (")
        assert "so this run ends: start it again" in line
        assert ".log): " in line


STARTING = ("kafka.Kafka", "bin/postgres", "deploy.local.sandbox", "sms-bridge")


@pytest.mark.timeout(400)
@pytest.mark.parametrize("moment", [STARTING[0], *(pytest.param(one, marks=pytest.mark.proof) for one in STARTING[1:])])
async def test_up_that_is_ended_while_it_starts_leaves_nothing_and_starts_again_at_last(
    open_folder: Path, moment: str
) -> None:
    folder = open_folder / "data"
    for number in (signal.SIGINT, signal.SIGKILL):
        with up(folder) as interrupted:
            await interrupted.until(partial(interrupted.has_started, moment), moment)
            await interrupted.ends(number)
        assert not (folder / FILE).exists()
    with up(folder) as again:
        await again.ready()
        await again.ends(signal.SIGTERM)


async def test_one_run_at_a_time_has_a_folder(open_folder: Path) -> None:
    folder = open_folder / "data"
    with up(folder) as first:
        await first.until((folder / "lock").exists, "the folder is taken")
        await first.until((folder / "lock").read_text, "by a process that says so")
        await first.until(first.has_begun, "something runs that must not outlive it")
        told = await asyncio.to_thread(complaint, "up", "--data", str(folder), env=environment())
        assert f"in use by another run (process {first.process.pid})" in told
        await first.ends(signal.SIGKILL)


async def test_a_folder_that_cannot_be_made_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "data"
    told = await asyncio.to_thread(complaint, "up", "--data", str(folder), env=environment())
    assert f"{folder} cannot be the data folder ({folder}: Not a directory): choose another one" in told


async def test_a_folder_without_a_name_is_not_the_current_one() -> None:
    ended = await asyncio.to_thread(transom, "up", "--data", "", env=environment())
    assert ended.returncode == 2
    assert "it is empty: name a folder, or '.' for this one" in ended.stderr


async def demo(env: Mapping[str, str], *options: str) -> tuple[int | None, str]:
    """Its exit code and what it told; it does not outlive the test. Where it is kept running, Ctrl-C ends it."""
    outputs = {"stdout": asyncio.subprocess.PIPE, "stderr": asyncio.subprocess.STDOUT}
    command = (sys.executable, "-m", "deploy.local.demo", *options)
    told = b""
    async with running(*command, env={**env, "COLUMNS": "200"}, **outputs) as process, asyncio.timeout(110):
        assert process.stdout is not None
        async for line in process.stdout:
            if line.startswith(b"kept running until Ctrl-C") and line not in told:  # a print may be cut, and come twice
                process.send_signal(signal.SIGINT)
            told += line
        await process.wait()
    return process.returncode, told.decode()


@pytest.mark.parametrize("away", ["POSTGRES_DSN", "KAFKA_BOOTSTRAP"])
async def test_a_demo_whose_server_is_away_says_which_and_ends_with_2(away: str, database: str, redis_url: str) -> None:
    given = {"KAFKA_BOOTSTRAP": NOWHERE, "POSTGRES_DSN": database, "REDIS_URL": redis_url}
    if away == "POSTGRES_DSN":
        given[away] = f"postgresql://postgres@{NOWHERE}/transom"
    code, told = await demo(environment(**given))
    assert code == 2, told
    (line,) = [line for line in told.splitlines() if "the demo failed" in line]
    assert "left behind" not in told
    assert f"TRANSOM_{away}" in line


async def test_the_demo_tells_the_whole_story_on_given_servers_and_leaves_nothing_behind(
    database: str, redis_url: str, kafka_bootstrap: str, kafka_admin: AIOKafkaAdminClient
) -> None:
    before = set(await kafka_admin.list_topics())
    given = {"KAFKA_BOOTSTRAP": kafka_bootstrap, "POSTGRES_DSN": database, "REDIS_URL": redis_url}
    env = environment(**given, SEND_LEASE_SECONDS="5")  # with which no sender would start: not meant for the demo
    no_browser = {"PATH": str(Path(sys.executable).parent)}  # pictures take their time
    code, story = await demo(env | no_browser, "--keep")
    assert code == 0, story
    assert "every step was observed" in story
    assert "stopping; nothing is left behind" in story
    for step in (
        "session message, read",
        "one bridge SMS instead",
        "silent, in the inbox",
        "delivered",
        "still closed",
        "again",
        "the inbox as ",
        "the portal as ",
        "AI credit exhausted, window open: the canned reply goes out",
        "“Thank you! It is ready at five. While you were away we wrote: “Your Polo needs new tyres. Shall we?””",
        "no further SMS: the next reply is silent",
        "in the portal, read there; no further SMS",
        "AI credit exhausted: the reply is silent",
        "“No problem. The Golf waits for you. While you were away we wrote: “Shall we keep it overnight?”",
        "DustyCars   no SMS",
    ):
        assert step in story

    async def no_topic_is_left() -> bool:  # the broker's own view follows its controller's
        return not {topic for topic in set(await kafka_admin.list_topics()) - before if topic.startswith(LENT)}

    await eventually_true(no_topic_is_left, "its topics are gone")
    db = await asyncpg.connect(database)
    left = await db.fetch("select datname from pg_database where starts_with(datname, $1)", LENT)
    await db.close()
    assert not left
