"""The sandbox as a process: it prints one line when it starts, stops on a signal, and does not outlive its parent."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from deploy.local.sandbox.client import SandboxClient
from deploy.local.sandbox.ledger import RecordLog
from deploy.local.servers.ports import free_port
from tests.support.sandbox import ROOT, launched

COMMAND = [sys.executable, "-m", "deploy.local.sandbox"]


def test_it_says_where_it_listens_and_stops_cleanly_when_told() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        with subprocess.Popen(COMMAND, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("sandbox ready on http://127.0.0.1:")
            process.send_signal(number)
            _, errors = process.communicate(timeout=10)
            assert (process.returncode, errors) == (0, "")


def test_it_ends_with_the_process_that_started_it() -> None:
    script = (
        f"import os, subprocess, time\np = subprocess.Popen({[*COMMAND, '--parent']!r} +"
        f" [str(os.getpid())])\nprint(p.pid, flush=True)\ntime.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert "ready" in parent.stdout.readline()
        parent.kill()
        child.wait(timeout=10)


def test_it_ends_when_the_process_that_started_it_was_gone_before_it_looked() -> None:
    script = f"import os, subprocess\nsubprocess.Popen({[*COMMAND, '--parent']!r} + [str(os.getpid())])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=30, check=True
    )  # returns when the orphan has closed its output
    assert "ready" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--day-seconds", "soon"], "day_seconds"),
        (["--config", '{"shuffle": 3}'], "shuffle"),
        (["--templates", "/no/such/file.yaml"], "/no/such/file.yaml"),
        (["--port", "http"], "http"),
        (["--parent", "mine"], "mine"),
    ],
)
def test_a_wrong_option_is_named_in_one_line(options: list[str], said: str) -> None:
    done = subprocess.run([*COMMAND, *options], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()[-1]


async def test_numbers_and_templates_come_from_a_file_by_org(tmp_path: Path) -> None:
    file = tmp_path / "load.yaml"
    file.write_text(
        """
orgs:
  - org_id: acme
    numbers: [{phone_number_id: "106400000000001", waba_id: "206400000000001", display_number: "+447700900123"}]
    templates:
      - {name: hello, language: en_GB, category: UTILITY, parameter_format: NAMED, status: APPROVED,
         body: "Hi {{name}}."}
""",
        encoding="utf-8",
    )
    with launched("--templates", str(file)) as url:
        async with SandboxClient(url) as client:
            again = await client.template("other", "en_GB", "Hi.")
            assert again["status"] == "APPROVED"
            answer = await client.customer_writes("106400000000001", "+447700900999")
            assert answer["wa_id"] == "447700900999"


async def test_a_file_keeps_the_windows_over_a_kill_until_a_reset(tmp_path: Path) -> None:
    number, customer, file = "106400000000001", "+447700900999", tmp_path / "windows"

    @asynccontextmanager
    async def sandbox() -> AsyncIterator[SandboxClient]:
        with launched("--windows", str(file)) as url:
            async with SandboxClient(url) as client:
                yield client
                for process in psutil.Process().children():
                    if str(file) in process.cmdline():
                        process.kill()

    async with sandbox() as first:
        written = (await first.customer_writes(number, customer))["timestamp"]
    with file.open("a") as half:
        half.write("106400000000001 GB.1 17")  # the kill came while it wrote
    async with sandbox() as second:
        assert (await second.window(number, customer))["closes_at"] == written + 86400
        await second.reset()
        assert (await second.window(number, customer))["closes_at"] is None
        await second.customer_writes(number, "+447700900998")
    assert len(file.read_text().splitlines()) == 1


def test_a_shelf_keeps_the_newest_and_counts_all() -> None:
    log = RecordLog(3)
    for i in range(10):
        log.add({"i": i})
    assert log.total == 10
    assert [record["i"] for record in log.after(0, 100)] == [7, 8, 9]
    assert [record["i"] for record in log.after(8, 100)] == [8, 9]
    assert [record["i"] for record in log.after(8, 1)] == [8]
    assert log.after(10, 100) == []


ASK = """
import asyncio, sys
import aiohttp

async def ask(url):
    async with aiohttp.ClientSession() as http, http.get(url) as answer:
        print(answer.status)

try:
    asyncio.run(ask(sys.argv[1]))
except aiohttp.ClientConnectorCertificateError:
    print("untrusted")
"""


def test_it_speaks_tls_to_those_who_trust_its_authority(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("of-a-file\n")
    port = free_port()
    options = ["--tls-port", str(port), "--tls-names", "sandbox,localhost", "--tls-folder", str(tmp_path)]
    given = os.environ | {"SANDBOX_TOKEN_FILE": str(tmp_path / "token")}
    with subprocess.Popen([*COMMAND, *options], cwd=ROOT, env=given, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("sandbox ready on http://")
        trusting = os.environ | {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
        for environment, host, answered in (
            (trusting, "localhost", "200"),
            (trusting, "127.0.0.1", "untrusted"),  # no name of its certificate
            (dict(os.environ), "localhost", "untrusted"),
        ):
            url = f"https://{host}:{port}/_control/health"
            asked = subprocess.run(
                [sys.executable, "-c", ASK, url], env=environment, capture_output=True, text=True, check=True
            )
            assert asked.stdout == f"{answered}\n"
        process.terminate()


def test_a_file_that_it_cannot_read_is_named(tmp_path: Path) -> None:
    given = os.environ | {"SANDBOX_TOKEN_FILE": str(tmp_path / "missing")}
    done = subprocess.run(COMMAND, cwd=ROOT, env=given, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == f"sandbox: SANDBOX_TOKEN_FILE: {tmp_path / 'missing'} cannot be read (FileNotFoundError)\n"
