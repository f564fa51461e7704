"""``transom doctor`` as a process: exit code, output, and its end."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from urllib.parse import quote

import jsonschema
import pytest

from deploy.cli.doctor.checks import CHECKS
from deploy.local.servers.ports import LOOPBACK
from tests.support.command import COMMAND, environment
from tests.support.doctor import GOOD, PLANTED, SCHEMA, Doctor, a_silent_server, assert_secretless, codes
from tests.support.sandbox import ROOT

_SECRETS = {PLANTED, *(GOOD[name] for name in ("META_APP_SECRETS", "WHATSAPP_TOKEN", "PORTAL_LINK_KEYS", "JWT_KEYS"))}
SLOW = 60
"""Seconds that pass at most between a question for the time and its answer."""


def doctor(*words: str, host: tuple[str, ...], env: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Run it on a host with a fault of its own."""
    command = [sys.executable, "-m", *host, "doctor", *words]
    ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ended.stderr == ""
    assert_secretless(ended.stdout, _SECRETS)
    return ended


def test_clocks_that_are_apart_are_warnings_and_exit_code_3_or_4(database: str, redis_url: str) -> None:
    env = environment(**GOOD, POSTGRES_DSN=database, REDIS_URL=redis_url, KAFKA_BOOTSTRAP="127.0.0.1:1")
    ended = doctor("--json", "--service", "router", host=("tests.support.skewed", "3600"), env=env)
    report = json.loads(ended.stdout)
    jsonschema.validate(report, SCHEMA)
    found = {one["code"]: one for one in report["findings"]}
    for code in ("postgres_clock", "redis_clock"):
        assert found[code]["severity"] == "warning"
        (apart,) = re.findall(r"(\d+) seconds apart", found[code]["problem"])
        assert 3600 - SLOW < int(apart) <= 3600
    assert (ended.returncode, report["exit_code"], report["severity"]) == (4, 4, "error")  # Kafka is not there
    assert "kafka_unreachable" in found
    assert {one["area"] for one in report["findings"]} <= {"configuration", "kafka", "postgres", "redis"}


def test_a_reader_who_has_seen_enough_changes_no_exit_code() -> None:
    with subprocess.Popen([*COMMAND, "doctor"], cwd=ROOT, env=environment(), stdout=subprocess.PIPE) as run:
        assert run.stdout is not None
        run.stdout.close()
        assert run.wait(timeout=60) == 4


@pytest.mark.timeout(90)
async def test_a_run_ends_whatever_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side, because each waits."""
    await asyncio.gather(
        asyncio.to_thread(at_a_deaf_resolver),
        asyncio.to_thread(interrupted_at_a_deaf_resolver),
        at_silent_servers(Doctor(monkeypatch)),
    )


def interrupted_at_a_deaf_resolver() -> None:
    """Ctrl-C ends a run whose threads never end."""
    with socket.create_server((LOOPBACK, 0)) as kafka:
        env = environment(
            **GOOD,
            KAFKA_BOOTSTRAP=f"{LOOPBACK}:{kafka.getsockname()[1]}",
            POSTGRES_DSN="postgresql://transom@postgres.internal/transom",
            REDIS_URL="redis://redis.internal:6379/0",
        )
        command = [sys.executable, "-m", "tests.support.deaf_resolver", "doctor", "--service", "router"]
        with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
            kafka.settimeout(60)
            try:
                connection, _ = kafka.accept()  # so its checks are on their way
                connection.close()
                run.send_signal(signal.SIGINT)
                assert run.wait(timeout=25) == 130
            finally:
                run.kill()


def at_a_deaf_resolver() -> None:
    """A run where no name is ever resolved ends."""
    env = environment(
        **GOOD,
        KAFKA_BOOTSTRAP="kafka.internal:9092",
        POSTGRES_DSN=f"postgresql://transom:{quote(PLANTED, safe='')}@postgres.internal/transom",
        REDIS_URL="redis://redis.internal:6379/0",
        GRAPH_BASE_URL="https://graph.internal",
        TWILIO_BASE_URL="https://twilio.internal",
    )
    ended = doctor(host=("tests.support.deaf_resolver",), env=env)
    assert ended.returncode == 4
    for code in ("kafka_silent", "postgres_silent", "redis_silent", "graph_silent", "sms_silent", "address_silent"):
        assert f"({code})" in ended.stdout
    assert "(configuration_good)" in ended.stdout


async def at_silent_servers(doctor: Doctor) -> None:
    """A run where every server and provider accepts connections and says nothing ends."""
    password = quote(PLANTED, safe="")
    async with a_silent_server() as port:
        at = f"127.0.0.1:{port}"
        doctor.set(
            KAFKA_BOOTSTRAP=at,
            POSTGRES_DSN=f"postgresql://transom:{password}@{at}/transom",
            REDIS_URL=f"redis://:{password}@{at}/0",
            JWT_AUDIENCE="inbox",
            OIDC_CLIENT_ID="inbox",
            OIDC_CLIENT_SECRET=PLANTED,
        )
        urls = (
            "GRAPH_BASE_URL",
            "TWILIO_BASE_URL",
            "OIDC_ISSUER",
            "JWT_ISSUER",
            "PUBLIC_URL",
            "INBOX_URL",
            "PORTAL_URL",
        )
        doctor.set(**dict.fromkeys(urls, f"http://{at}"))
        doctor.set(PORTAL_URL=f"https://{at}")
        report = await doctor.look_at_all(*(check.area for check in CHECKS))
    of_servers = {"kafka_silent", "postgres_silent", "redis_silent"}
    of_others = {"graph_silent", "sms_directory_unseen", "sms_silent", "address_silent", "sign_in_silent"}
    unread = {"graph_directory_unseen", "addresses_directory_unseen"}
    assert codes(report) == of_servers | of_others | unread
    assert report.exit_code == 4
