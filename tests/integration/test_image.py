"""The image's file, held to what it promises. What needs a Docker engine stands in test_image_built.py."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import tomllib
from asyncio.subprocess import PIPE
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths  # type: ignore[import-untyped] # it ships no types

from deploy.liveness import addresses, check
from deploy.local.servers.ports import free_port
from libs.common.service import HARD_SECONDS
from libs.common.settings import HttpSettings
from tests.support.command import COMMAND, environment, running
from tests.support.sandbox import ROOT
from tests.support.topics import OwnTopics
from tests.support.waiting import eventually_true

DOCKERFILE = ROOT / "deploy/Dockerfile"
TEXT = DOCKERFILE.read_text().replace("\\\n", " ")
FINAL = TEXT[TEXT.rindex("\nFROM ") :]
HADOLINT = Path(sys.executable).with_name("hadolint")


def instruction(name: str) -> str:
    """What stands behind the one instruction of that name in the final stage."""
    (found,) = re.findall(rf"^{name} +(.*)$", FINAL, re.MULTILINE)
    return str(found)


def liveness() -> list[str]:
    """The command of HEALTHCHECK, as this environment runs it."""
    python, *words = json.loads(instruction("HEALTHCHECK").partition("CMD ")[2])
    assert python == "python"
    return [sys.executable, *words]


def checked(**settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        liveness(), cwd=ROOT, env=environment(**settings), capture_output=True, text=True, timeout=60, check=False
    )


def test_the_label_is_the_version_of_the_wheel() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\nARG VERSION={version}\n" in FINAL
    assert 'org.opencontainers.image.version="${VERSION}"' in instruction("LABEL")


def test_it_runs_as_a_user_with_a_number_and_ends_in_time() -> None:
    user, _, group = instruction("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert instruction("STOPSIGNAL") == "SIGTERM"
    assert json.loads(instruction("ENTRYPOINT")) == ["transom"]
    (patience,) = re.findall(r"docker stop --timeout (\d+)", TEXT)
    assert int(patience) > HttpSettings().drain_seconds + HARD_SECONDS
    assert instruction("EXPOSE") == str(HttpSettings().http_port)


def test_every_installation_is_by_hash_and_from_wheels() -> None:
    installing = re.findall(r"pip (?:--python \S+ )?install ([^&\n]*)", TEXT)
    assert len(installing) == 3
    *locked, own = installing
    assert all(words.startswith("--require-hashes --requirement requirements.") for words in locked)
    assert own.startswith("--no-deps --no-index dist/")
    assert "PIP_ONLY_BINARY=:all:" in TEXT
    running = " ".join(re.findall(r"^RUN (.*)$", TEXT, re.MULTILINE))
    assert not re.search(r"\b(apt|apt-get|apk|curl|wget|gcc|uv)\b|\[local\]", running)


def test_what_it_copies_is_there_and_let_in() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {name for words in re.findall(r"^COPY (?!--from)(.*)$", TEXT, re.MULTILINE) for name in words.split()[:-1]}
    assert copied == allowed
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_the_engine_is_sent_no_secret_no_cache_and_nothing_that_is_not_built(tmp_path: Path) -> None:
    private = ["deploy/.env", "deploy/secrets/whatsapp_token", ".git/config", ".venv/pyvenv.cfg", "tests/conftest.py"]
    wanted = ["deploy/Dockerfile", "libs/common/log_schema.json", "services/inbox/html/list.html", "pyproject.toml"]
    made = ["libs/__pycache__/x.cpython-311.pyc", "services/inbox/x.pyc", "requirements.lock"]
    for name in private + wanted + made:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    sent = exclude_paths(str(tmp_path), patterns, dockerfile="deploy/Dockerfile")
    assert {name for name in sent if (tmp_path / name).is_file()} == set(wanted)


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (("FROM python:${PYTHON}\nARG VERSION", "FROM python\nARG VERSION"), "DL3006"),
        (("USER 10001:10001", "USER root"), "DL3002"),
        (('ENTRYPOINT ["transom"]', "ENTRYPOINT transom"), "DL3025"),
        (("WORKDIR /build", "WORKDIR build"), "DL3000"),
        (("STOPSIGNAL", "STOPSIGNALL"), "missing whitespace"),
    ],
)
def test_a_broken_file_fails_the_check(tmp_path: Path, change: tuple[str, str], rule: str) -> None:
    assert "$(BIN)/hadolint deploy/Dockerfile" in (ROOT / "Makefile").read_text()
    assert change[0] in DOCKERFILE.read_text()
    broken = tmp_path / "Dockerfile"
    broken.write_text(DOCKERFILE.read_text().replace(*change))
    ended = subprocess.run([HADOLINT, broken], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert rule in ended.stdout + ended.stderr


async def test_the_health_check_follows_a_real_service(kafka_bootstrap: str, topics: OwnTopics, tmp_path: Path) -> None:
    await topics.create()
    (tmp_path / "port").write_text(f"{free_port()}\n")
    settings = {
        "HTTP_PORT_FILE": str(tmp_path / "port"),
        "ADMIN_PORT": str(free_port()),  # /metrics is elsewhere, /livez is not
        "HTTP_HOST": "0.0.0.0",
        "KAFKA_BOOTSTRAP": kafka_bootstrap,
        "TOPIC_PREFIX": topics.prefix,
        "META_APP_SECRETS": "s3cret",
        "META_VERIFY_TOKEN": "s3cret",
    }
    before = checked(**settings)
    assert (before.returncode, "does not answer" in before.stderr) == (1, True)
    command = (*COMMAND, "run", "ingest", "--role", "edge")
    async with running(*command, env=environment(**settings), stdout=PIPE, stderr=PIPE) as service:
        assert service.stdout is not None
        async with asyncio.timeout(60):
            while b"service.started" not in await service.stdout.readline():
                assert service.returncode is None

        async def alive() -> "subprocess.CompletedProcess[str] | None":
            """Asked again, as an engine does, while the machine is too slow for an answer in time."""
            found = await asyncio.to_thread(checked, **settings)
            return None if "timed out" in found.stderr else found

        asked = await eventually_true(alive, "it answers in time")
        assert asked is not None
        assert (asked.returncode, asked.stdout, asked.stderr) == (0, "", "")
        service.send_signal(signal.SIGSTOP)  # it listens, and answers nothing
        hanging = await asyncio.to_thread(checked, **settings)
        assert (hanging.returncode, "does not answer" in hanging.stderr) == (1, True)
    assert checked(**settings).returncode == 1


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({}, [("127.0.0.1", 8080)]),
        ({"TRANSOM_HTTP_PORT": "", "TRANSOM_HTTP_HOST": "0.0.0.0"}, [("127.0.0.1", 8080)]),
        ({"TRANSOM_HTTP_PORT": "9", "TRANSOM_ADMIN_PORT": "8"}, [("127.0.0.1", 9)]),
        ({"TRANSOM_HTTP_HOST": "::"}, [("::1", 8080), ("127.0.0.1", 8080)]),
        ({"TRANSOM_HTTP_HOST": "10.0.0.7"}, [("10.0.0.7", 8080), ("127.0.0.1", 8080)]),
    ],
)
def test_the_health_check_asks_where_the_service_may_listen(
    settings: dict[str, str], asked: list[tuple[str, int]]
) -> None:
    assert addresses(settings) == asked


def test_a_health_check_that_cannot_know_the_port_says_so(tmp_path: Path) -> None:
    for settings in ({"HTTP_PORT": "none"}, {"HTTP_PORT_FILE": str(tmp_path / "missing")}):
        ended = checked(**settings)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert "TRANSOM_HTTP_PORT" in ended.stderr


def test_the_health_check_agrees_with_the_settings_about_the_port() -> None:
    ((_, port),) = addresses({})
    assert port == HttpSettings().http_port


def test_an_answer_that_is_not_200_is_no_life() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as apart:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n")

        answered = apart.submit(refuse)
        port = listener.getsockname()[1]
        assert check("127.0.0.1", port) == f"127.0.0.1:{port}/livez answers 503"
        answered.result()
