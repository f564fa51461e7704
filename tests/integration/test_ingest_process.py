"""Ingest as a process, configured by its environment alone."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from deploy.local.servers.ports import free_port
from tests.support.ingest import SECRETS, VERIFY_TOKEN, now
from tests.support.logs import validated
from tests.support.orphans import ends_with_us
from tests.support.topics import OwnTopics
from tests.support.webhooks import a_message, as_body, of_messages, sign


def started(port: int, **environment: str) -> subprocess.Popen[str]:
    code = f"import sys; from services.ingest.app import main; sys.exit(main({port}))"
    given = {"PATH": os.environ["PATH"]} | {f"TRANSOM_{name}": value for name, value in environment.items()}
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    ends_with_us(process.pid)
    return process


async def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Its exit code and what it said, once it has ended; it does not outlive a test that fails before."""
    with ending(process):
        out, err = await asyncio.to_thread(process.communicate, timeout=60)
    return process.returncode, out, err


@contextmanager
def ending(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def environment(database: str, kafka_bootstrap: str, topic_prefix: str, redis_url: str) -> dict[str, str]:
    return {
        "POSTGRES_DSN": database,
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "TOPIC_PREFIX": topic_prefix,
        "REDIS_URL": redis_url,
        "META_APP_SECRETS": "old-secret,new-secret",
        "META_VERIFY_TOKEN": VERIFY_TOKEN,
        "HTTP_HOST": "127.0.0.1",
    }


async def test_it_takes_a_webhook_and_drains_on_a_signal(topics: OwnTopics, environment: dict[str, str]) -> None:
    await topics.create()
    port = free_port()
    process = started(port, **environment)
    body = as_body(of_messages(a_message(now())))
    with ending(process):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as http:
            async with asyncio.timeout(40):
                while True:
                    try:
                        if (await http.get("/readyz")).status_code == 200:
                            break
                    except httpx.TransportError:
                        pass
                    assert process.poll() is None, process.communicate()
                    await asyncio.sleep(0.05)
            answer = await http.post(
                "/webhooks/meta", content=body, headers={"X-Hub-Signature-256": sign(body, SECRETS[1])}
            )
            assert answer.status_code == 200
            assert (await http.post("/webhooks/twilio/status", content="MessageSid=SM1")).status_code == 403
            assert "transom_webhooks_total" in (await http.get("/metrics")).text
        process.send_signal(signal.SIGTERM)
        code, out, err = await ended(process)
    assert (code, err) == (0, "")
    events = [line["event"] for line in validated(out)]
    assert (events[0], events[-1]) == ("service.started", "service.drained")
    assert "webhook.received" in events


@pytest.mark.parametrize("missing", ["META_APP_SECRETS", "META_VERIFY_TOKEN"])
async def test_without_a_required_setting_it_says_which_in_one_line(environment: dict[str, str], missing: str) -> None:
    del environment[missing]
    code, out, err = await ended(started(0, **environment))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert f"TRANSOM_{missing}" in err


@pytest.mark.parametrize(
    ("variable", "nowhere"),
    [
        ("KAFKA_BOOTSTRAP", "127.0.0.1:1"),
        ("POSTGRES_DSN", "postgresql://127.0.0.1:1/x"),
    ],
)
async def test_without_a_server_it_says_which_in_one_line(
    topics: OwnTopics, environment: dict[str, str], variable: str, nowhere: str
) -> None:
    await topics.create()
    code, _, err = await ended(started(0, **(environment | {variable: nowhere})))
    assert code == 2
    assert err.count("\n") == 1
    assert f"TRANSOM_{variable}" in err
