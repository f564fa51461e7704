"""``transom run``: a service that cannot work ends at once, with exit code 2 and one line that says what to do."""

import asyncio
import signal
from pathlib import Path

import aiohttp
import pytest

from deploy.local.servers.ports import free_port
from tests.support.command import COMMAND, complaint, environment, running, transom
from tests.support.logs import validated
from tests.support.topics import OwnTopics

NOWHERE = "127.0.0.1:1"
REQUIRED = {
    "ingest": {"META_APP_SECRETS": "s3cret-of-meta", "META_VERIFY_TOKEN": "s3cret-token"},
    "router": {},
    "whatsapp-sender": {"WHATSAPP_TOKEN": "s3cret-whatsapp"},
    "sms-bridge": {
        "TWILIO_ACCOUNT_SID": "AC0",
        "TWILIO_AUTH_TOKENS": "s3cret-twilio",
        "PORTAL_LINK_KEYS": "s3cret-link" * 3,
    },
    "inbox": {"JWT_KEYS": "s3cret-key" * 4},
}
AWAY = {
    "POSTGRES_DSN": f"postgresql://u:s3cret-password@{NOWHERE}/transom",
    "REDIS_URL": f"redis://:s3cret-password@{NOWHERE}/0",
    "KAFKA_BOOTSTRAP": NOWHERE,
}

UNNEEDED = {
    *((service, "REDIS_URL") for service in ("router", "sms-bridge", "portal")),
    ("whatsapp-sender", "REDIS_URL"),
    ("inbox", "REDIS_URL"),
    ("inbox", "KAFKA_BOOTSTRAP"),
    ("portal", "KAFKA_BOOTSTRAP"),
    ("ingest", "REDIS_URL"),
    ("ingest", "POSTGRES_DSN"),
}
"""What a service starts without."""


@pytest.fixture
def servers(database: str, redis_url: str, kafka_bootstrap: str, topic_prefix: str) -> dict[str, str]:
    return {
        "POSTGRES_DSN": database,
        "REDIS_URL": redis_url,
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "TOPIC_PREFIX": topic_prefix,
        "HTTP_HOST": "127.0.0.1",
    }


@pytest.mark.parametrize(
    ("service", "name"), [(service, name) for service, names in REQUIRED.items() for name in names]
)
def test_a_setting_that_is_missing_is_named(service: str, name: str) -> None:
    given = {other: value for other, value in REQUIRED[service].items() if other != name}
    line = complaint("run", service, env=environment(**given))
    assert line.startswith(f"transom {service}: ")
    assert f"TRANSOM_{name} is required" in line
    assert "s3cret" not in line


@pytest.mark.parametrize(
    ("service", "name"),
    [(service, name) for service in REQUIRED for name in AWAY if (service, name) not in UNNEEDED],
)
def test_a_server_that_is_away_is_named_with_its_variable(service: str, name: str, servers: dict[str, str]) -> None:
    line = complaint(
        "run", service, "--port", "0", env=environment(**servers, **REQUIRED[service]) | {f"TRANSOM_{name}": AWAY[name]}
    )
    assert f"TRANSOM_{name}" in line
    assert "s3cret" not in line


def test_a_service_takes_its_settings_from_files(tmp_path: Path) -> None:
    settings = REQUIRED["sms-bridge"] | AWAY
    for name, value in settings.items():
        (tmp_path / name).write_text(f"{value}\n")
    env = environment(**{f"{name}_FILE": str(tmp_path / name) for name in settings})
    line = complaint("run", "sms-bridge", "--port", "0", env=env)
    assert NOWHERE in line or "TRANSOM_POSTGRES_DSN" in line  # the configuration was right; the server is away
    (tmp_path / "POSTGRES_DSN").write_text("")
    refused = complaint("run", "sms-bridge", "--port", "0", env=env)
    assert f"TRANSOM_POSTGRES_DSN_FILE names {tmp_path / 'POSTGRES_DSN'}, which is empty" in refused
    assert "s3cret" not in line + refused


def test_a_margin_as_long_as_the_window_is_refused() -> None:
    line = complaint("run", "router", env=environment(WINDOW_SECONDS="30", WINDOW_MARGIN_SECONDS="30"))
    assert "TRANSOM_WINDOW_MARGIN_SECONDS" in line


@pytest.mark.parametrize("service", ["router", "sms-bridge"])
def test_a_database_without_its_migrations_says_what_to_run(
    service: str, servers: dict[str, str], postgres_dsn: str
) -> None:
    given = servers | REQUIRED[service] | {"POSTGRES_DSN": postgres_dsn}
    line = complaint("run", service, "--port", "0", env=environment(**given))
    assert "transom migrate" in line


def test_a_service_that_nobody_has_is_refused() -> None:
    line = complaint_of_usage("run", "mailman")
    assert "mailman" in line
    assert "sms-bridge" in line


def complaint_of_usage(*words: str) -> str:
    ended = transom(*words, env=environment())
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_a_service_in_order(
    number: signal.Signals, servers: dict[str, str], topics: OwnTopics, tmp_path: Path
) -> None:
    await topics.create()
    port = free_port()
    with (tmp_path / "log").open("wb") as log:
        command = (*COMMAND, "run", "router", "--port", str(port))
        async with (
            running(*command, env=environment(**servers), stdout=log, stderr=log) as process,
            asyncio.timeout(60),
            aiohttp.ClientSession() as http,
        ):
            while not await ready(http, port):
                assert process.returncode is None, (tmp_path / "log").read_text()
                await asyncio.sleep(0.05)
            process.send_signal(number)
            assert await process.wait() == 0
    lines = validated((tmp_path / "log").read_bytes())
    told = [line["event"] for line in lines if line["event"].startswith("service.")]
    assert told == ["service.started", "service.drained"]


async def ready(http: aiohttp.ClientSession, port: int) -> bool:
    try:
        async with http.get(f"http://127.0.0.1:{port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
