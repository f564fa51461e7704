"""The wheel without extras runs every command of production, whose imports need neither ``local`` nor ``dev``."""

import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from deploy.cli.command import SERVICES, main
from tests.support import databases
from tests.support.command import PATIENCE_SECONDS, environment
from tests.support.locks import read_lock
from tests.support.sandbox import ROOT

NOWHERE = "127.0.0.1:1"
GARAGE = """
orgs:
  - org_id: acme
    name: AcmeMotors
    numbers: [{phone_number_id: "106400000000001", waba_id: "206400000000001", display_number: "+447700900123"}]
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built as the image's Dockerfile builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    """``transom`` of the wheel in an environment that holds what requirements.production.lock pins and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", symlinks=True)
    python = folder / "venv/bin/python"
    uv = [sys.executable, "-m", "uv", "pip", "install", "--offline", "--no-deps", "--python", str(python), str(wheel)]
    subprocess.run(uv, check=True, capture_output=True)
    (site,) = folder.glob("venv/lib/python*/site-packages")
    required = folder / "required"
    required.mkdir()
    locked = read_lock(ROOT / "requirements.production.lock")
    installed = [distribution(name) for name, one in locked.items() if one.here]
    for path in {path for one in installed for path in top_level(one)}:
        (required / path.name).symlink_to(path)
    (site / "required.pth").write_text(f"{required}\n")
    return folder / "venv/bin/transom"


def top_level(installed: Distribution) -> Iterator[Path]:
    """The top-level entries of ``site-packages`` that belong to it."""
    for name in {path.parts[0] for path in installed.files or ()} - {".."}:
        yield Path(str(installed.locate_file(name)))


def test_the_wheel_carries_every_file_of_production(wheel: Path) -> None:
    """Migrations, examples, pages, styles, languages, panels: a file that is left out fails when it is first read."""
    with ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
    tracked = {
        str(file.relative_to(ROOT))
        for folder in ("libs", "services", "deploy")
        for file in (ROOT / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    private = {name for name in tracked if name.startswith("deploy/secrets/") or name == "deploy/.env"}
    assert carried == tracked - private


def run(command: Path, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [command, *words],
        cwd=command.parent,
        env=environment(**settings),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


def test_every_command_explains_itself(command: Path) -> None:
    names = sorted(main.commands)
    program = (
        "from deploy.cli.command import main\n"
        f"for name in {names}: main([name, '--help'], 'transom', standalone_mode=False)"
    )
    python = [str(command.with_name("python")), "-c", program]
    helped = subprocess.run(python, cwd=command.parent, capture_output=True, text=True, check=True)
    assert [line.split()[2] for line in helped.stdout.splitlines() if line.startswith("Usage: transom ")] == names


def test_the_sandbox_of_compose_needs_no_extra(command: Path) -> None:
    program = "import deploy.local.register, deploy.local.sandbox.__main__ as sandbox; sandbox.main()"
    python = [str(command.with_name("python")), "-c", program, "--help"]
    helped = subprocess.run(python, cwd=command.parent, capture_output=True, text=True, check=True)
    assert "--tls-port" in helped.stdout


def test_the_dashboard_in_the_terminal_needs_no_extra(command: Path) -> None:
    log = command.with_name("router.log")
    log.write_text('{"event": "service.started"}\nno line of ours\n')
    shown = run(command, "watch", str(log))
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "Decisions" in shown.stdout


def test_the_doctor_needs_no_extra(command: Path) -> None:
    nowhere = {
        "KAFKA_BOOTSTRAP": NOWHERE,
        "POSTGRES_DSN": f"postgresql://u@{NOWHERE}/d",
        "REDIS_URL": f"redis://{NOWHERE}",
    }
    looked = run(command, "doctor", "--service", "router", **nowhere)
    assert (looked.returncode, looked.stderr) == (4, "")
    assert all(f"({area}_unreachable)" in looked.stdout for area in ("kafka", "postgres", "redis"))


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_starts_as_far_as_its_settings(command: Path, service: str) -> None:
    ended = run(command, "run", service)
    assert ended.returncode == 2
    assert "TRANSOM_" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_the_commands_of_production_work_on_real_servers(
    command: Path, postgres_dsn: str, kafka_bootstrap: str, topic_prefix: str, kafka_admin: AIOKafkaAdminClient
) -> None:
    dsn = await databases.make_database(postgres_dsn, "template0")
    file = command.with_name("garage.yaml")
    file.write_text(GARAGE)
    settings = {"POSTGRES_DSN": dsn, "KAFKA_BOOTSTRAP": kafka_bootstrap, "TOPIC_PREFIX": topic_prefix}
    try:
        assert run(command, "migrate", **settings).stdout.endswith("the schema is up to date\n")
        assert f"created {topic_prefix}webhooks.v1" in run(command, "topics", **settings).stdout
        assert run(command, "topics", "--acls", **settings).returncode == 0
        assert run(command, "load", str(file), **settings).stdout.startswith("loaded 1 orgs, 1 numbers")
        assert "Decisions (decisions)" in run(command, "watch", str(file), **settings).stdout
        assert "0 letters read" in run(command, "replay", "--dlq", **settings).stdout
        explained = run(command, "explain", "00000000-0000-4000-8000-000000000000", **settings)
        assert (explained.returncode, explained.stderr.startswith("transom: no intent 0")) == (2, True)
    finally:
        await databases.drop_database(postgres_dsn, dsn)


def test_the_system_on_one_machine_names_the_extra_that_it_needs(command: Path) -> None:
    ended = run(command, "up")
    assert (ended.returncode, "pip install 'transom[local]'" in ended.stderr) == (2, True)
