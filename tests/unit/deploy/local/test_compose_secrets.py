"""What ``compose_secrets`` writes for deploy/compose.yaml."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local.compose_secrets import ENV, FOLDER, OF_PROVIDERS, prepare, read_env
from tests.support.sandbox import ROOT


def contents(deploy: Path) -> dict[str, str]:
    return {file.name: file.read_text() for file in (deploy / FOLDER).iterdir()} | {ENV: (deploy / ENV).read_text()}


def test_nothing_is_left_to_do_for_the_sandbox_and_no_two_runs_draw_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert prepare(tmp_path / name, sandbox=True) == []
    one, two = (contents(tmp_path / name) for name in ("one", "two"))
    assert set(one) == set(two)
    assert [name for name in one if one[name] == two[name]] == []


def test_only_this_user_enters_the_folder_and_a_container_s_user_reads_its_file(tmp_path: Path) -> None:
    prepare(tmp_path, sandbox=True)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / FOLDER).iterdir()}
    assert set(modes.values()) == {0o444}
    assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ENV).stat().st_mode) == 0o600


def test_what_is_there_stays_and_an_address_fits_the_password_that_is_there(tmp_path: Path) -> None:
    prepare(tmp_path, sandbox=True)
    before = contents(tmp_path)
    for name in ("postgres_dsn", "redis_url", "jwt_keys"):
        (tmp_path / FOLDER / name).unlink()  # as after a kill between two files
    assert prepare(tmp_path, sandbox=True) == []
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {"jwt_keys"}


def test_real_providers_secrets_are_asked_for_and_never_drawn(tmp_path: Path) -> None:
    left = prepare(tmp_path, sandbox=False)
    unset = [name for name, value in read_env(tmp_path / ENV).items() if not value]
    assert left == [f"write {tmp_path / FOLDER / name}: {what}" for name, what in OF_PROVIDERS.items()] + [
        f"set {name} in {tmp_path / ENV}" for name in unset
    ]
    assert not set(OF_PROVIDERS) & set(contents(tmp_path))
    for name in OF_PROVIDERS:
        (tmp_path / FOLDER / name).write_text("given\n")
        (tmp_path / FOLDER / name).chmod(0o644)
    (tmp_path / ENV).write_text("".join(f"{name}=given\n" for name in unset))
    assert prepare(tmp_path, sandbox=False) == []
    assert (tmp_path / FOLDER / "whatsapp_token").read_text() == "given\n"


@pytest.mark.parametrize(("closed", "mode"), [("compose/loki.yaml", 0o640), ("compose", 0o754), ("compose", 0o751)])
def test_what_a_container_s_user_cannot_read_is_told_before_anything_starts(
    tmp_path: Path, closed: str, mode: int
) -> None:
    (tmp_path / "compose").mkdir()
    (tmp_path / "compose/loki.yaml").touch()
    for path, open_to_all in (("compose", 0o755), ("compose/loki.yaml", 0o644)):  # whatever the umask
        (tmp_path / path).chmod(open_to_all)
    assert prepare(tmp_path, sandbox=True) == []
    (tmp_path / closed).chmod(mode)
    (said,) = prepare(tmp_path, sandbox=True)
    assert said.startswith(f"run chmod -R o+rX {tmp_path / 'compose'}: ")
    subprocess.run(said.removeprefix("run ").partition(":")[0].split(), check=True)
    assert prepare(tmp_path, sandbox=True) == []


def test_a_secret_that_was_written_under_a_strict_umask_is_told(tmp_path: Path) -> None:
    prepare(tmp_path, sandbox=True)
    (tmp_path / FOLDER / "whatsapp_token").chmod(0o600)
    (said,) = prepare(tmp_path, sandbox=True)
    assert said.startswith(f"run chmod -R o+rX {tmp_path / FOLDER / 'whatsapp_token'}: ")


@pytest.mark.parametrize("sandbox", [True, False])
def test_secrets_of_the_sandbox_never_meet_real_providers(tmp_path: Path, *, sandbox: bool) -> None:
    prepare(tmp_path, sandbox=not sandbox)
    before = contents(tmp_path)
    (said,) = prepare(tmp_path, sandbox=sandbox)
    assert f"compose.yaml down --volumes, which removes all data, then remove it and {tmp_path / FOLDER}" in said
    assert contents(tmp_path) == before


def test_it_runs_without_any_package() -> None:
    alone = [sys.executable, "-S", "-m", "deploy.local.compose_secrets", "--help"]
    assert subprocess.run(alone, cwd=ROOT, capture_output=True, check=False).returncode == 0
