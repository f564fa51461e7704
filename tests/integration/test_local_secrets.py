"""Only the user who starts the servers of ``deploy/local`` can use them: passwords, rights, capabilities, folders."""

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
import psutil
import pytest
import redis

from deploy.local.servers import ServerError
from deploy.local.servers.local_servers import LocalServers
from deploy.local.servers.place import place_of, remove_place
from deploy.local.servers.ports import LOOPBACK
from deploy.local.servers.postgres import WHEEL, PostgresServer
from deploy.local.servers.private import private_folder
from deploy.local.servers.server import wheel_folder
from deploy.local.servers.valkey import ValkeyServer
from deploy.local.watchdog import Watchdog

STRANGER = 4711
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
ROOT_ALONE = pytest.mark.skipif(os.geteuid() != 0, reason="only root can ask as another user")


@pytest.fixture(scope="module")
def servers() -> Iterator[LocalServers]:
    """All three as ``transom up`` has them, below a folder of the system's for temporary files."""
    with TemporaryDirectory(prefix="transom-secrets-") as parent:
        Path(parent).chmod(0o755)
        with LocalServers(Path(parent) / "data", scratch=Path(parent)) as running:
            yield running


async def test_postgres_refuses_whoever_has_no_password(servers: LocalServers) -> None:
    assert servers.postgres is not None
    for who in ("transom", "postgres"):
        for password in ("", ":guessed"):
            with pytest.raises(asyncpg.InvalidPasswordError):
                await asyncpg.connect(f"postgresql://{who}{password}@{LOOPBACK}:{servers.postgres.port}/transom")


async def test_the_role_of_the_address_owns_its_database_and_is_no_superuser(servers: LocalServers) -> None:
    db = await asyncpg.connect(servers.addresses.postgres_dsn)
    try:
        mine = (
            "select rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls"
            " from pg_roles where rolname = current_user"
        )
        assert await db.fetchval(mine) is False
        assert await db.fetchval(
            "select pg_get_userbyid(datdba) = current_user from pg_database where datname = current_database()"
        )
        assert await db.fetchval("select count(*) from pg_roles where rolsuper and rolcanlogin") == 0
        await db.execute("create table mine (a int); drop table mine")
        for forbidden in (
            "copy (select 1) to program 'true'",
            "select pg_read_file('/etc/passwd')",
            "create role other",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await db.execute(forbidden)
    finally:
        await db.close()


@LINUX
async def test_no_process_of_postgres_has_a_capability_or_can_get_one(servers: LocalServers) -> None:
    assert servers.postgres is not None
    db = await asyncpg.connect(servers.addresses.postgres_dsn)  # so that there is a process that serves somebody
    try:
        postmaster = psutil.Process(servers.postgres.pid)
        family = [postmaster, *postmaster.children(recursive=True)]
        looked_at = 0
        for process in family:
            try:
                status = _status(process.pid)
            except (FileNotFoundError, ProcessLookupError):
                continue  # it served somebody who is gone, or has done its work
            looked_at += 1
            for name in ("CapPrm", "CapEff", "CapAmb", *(["CapBnd"] if os.geteuid() == 0 else [])):
                assert int(status[name], 16) == 0, (process, name)
            assert status["NoNewPrivs"] == "1"
        assert looked_at > 2
    finally:
        await db.close()


def _status(pid: int) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())


@ROOT_ALONE
async def test_for_root_postgres_runs_as_a_user_that_nobody_else_is(servers: LocalServers) -> None:
    assert servers.postgres is not None
    uids, gids = psutil.Process(servers.postgres.pid).uids(), psutil.Process(servers.postgres.pid).gids()
    assert uids.real == uids.effective == uids.saved == gids.real
    others = [
        process
        for process in psutil.process_iter(["uids", "cmdline", "ppid"])
        # a child that is about to be gone has no command line any more
        if "postgres" not in str(process.info["cmdline"]) and process.info["ppid"] != servers.postgres.pid
    ]
    assert uids.real not in {process.info["uids"].real for process in others if process.info["uids"]}
    assert uids.real != 65534


async def test_valkey_refuses_whoever_has_no_password(servers: LocalServers) -> None:
    assert servers.valkey is not None
    for password in (None, "guessed"):
        stranger = redis.Redis(host=LOOPBACK, port=servers.valkey.port, password=password)
        with stranger as client, pytest.raises(redis.AuthenticationError):
            client.ping()
    with redis.Redis.from_url(servers.addresses.redis_url) as client:
        assert client.ping()


@LINUX
def test_every_server_listens_on_the_loopback_address_alone(servers: LocalServers) -> None:
    for server in (servers.kafka, servers.postgres, servers.valkey):
        assert server is not None
        listening = {
            connection.laddr.ip.removeprefix("::ffff:")
            for connection in psutil.Process(server.pid).net_connections()
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {LOOPBACK}


def test_no_password_stands_in_a_command_line_or_an_environment(servers: LocalServers) -> None:
    secrets = [(servers.folder / name / "password").read_text() for name in ("postgres", "valkey")]
    for process in psutil.process_iter(["cmdline"]):
        assert not [secret for secret in secrets if secret in " ".join(process.info["cmdline"] or ())]
    for server in (servers.postgres, servers.valkey):
        assert server is not None
        environment = psutil.Process(server.pid).environ().values()
        assert not [secret for secret in secrets if secret in environment]


def test_no_file_or_folder_is_open_to_others(servers: LocalServers) -> None:
    paths = list(servers.folder.rglob("*"))
    assert paths
    for path in paths:
        try:
            mode = stat.S_IMODE(path.lstat().st_mode)
        except FileNotFoundError:
            continue  # servers write files anew beside those that they replace
        assert path.is_symlink() or not mode & stat.S_IRWXO or not _others_pass(path, servers.folder), (path, oct(mode))


def _others_pass(path: Path, top: Path) -> bool:
    """Whether a stranger can get as far as this path at all."""
    above = path.parents[: path.parents.index(top) + 1]
    return all(one.stat().st_mode & stat.S_IXOTH for one in above)


@ROOT_ALONE
def test_another_user_sees_nothing_of_it(servers: LocalServers) -> None:
    private = [
        servers.folder,
        *(servers.folder / name for name in ("kafka", "postgres", "valkey")),
        servers.folder / "postgres" / "data" / "pg_hba.conf",
        *(servers.folder / name / "password" for name in ("postgres", "valkey")),
        *(servers.folder / name / "server.log" for name in ("kafka", "postgres", "valkey")),
        servers.folder / "lock",
    ]
    for path in private:
        assert path.exists(), path
        assert as_stranger(["ls", str(path)] if path.is_dir() else ["cat", str(path)]) != 0, path
    for name in ("kafka", "postgres", "valkey"):
        assert as_stranger(["touch", str(servers.folder / name / "planted")]) != 0


def as_stranger(argv: Sequence[str]) -> int:
    return subprocess.run(
        argv, user=STRANGER, group=STRANGER, extra_groups=[], capture_output=True, check=False
    ).returncode


def test_a_folder_of_an_earlier_run_is_tightened(tmp_path: Path) -> None:
    with Watchdog() as watchdog:
        for path in (tmp_path / "valkey", tmp_path / "valkey" / "data"):
            path.mkdir()
            path.chmod(0o755)
        server = ValkeyServer(tmp_path / "valkey", watchdog)
        server.start()
        server.stop()
        for path in (server.folder, server.folder / "data"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o700


async def test_a_cluster_that_asked_for_no_password_is_not_used(tmp_path: Path) -> None:
    with Watchdog() as watchdog:
        server = PostgresServer(tmp_path / "postgres", watchdog, durable=False)
        await asyncio.to_thread(server.start)
        server.stop()
        (server.folder / "password").unlink()
        with pytest.raises(ServerError, match="asked for no password"):
            server.start()
        server.remove()


@ROOT_ALONE
async def test_below_a_closed_folder_postgres_lives_elsewhere_and_leaves_nothing(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with Watchdog() as watchdog:
        server = PostgresServer(closed / "postgres", watchdog, durable=False)
        await asyncio.to_thread(server.start)
        elsewhere = (closed / "postgres" / "elsewhere").readlink()
        assert as_stranger(["ls", str(elsewhere)]) != 0
        await asyncio.to_thread(server.restart)
        db = await asyncpg.connect(server.address)
        assert await db.fetchval("select 1") == 1
        await db.close()
        server.stop()
        server.remove()
    assert not elsewhere.exists()
    assert not (closed / "postgres").exists()


@ROOT_ALONE
def test_what_a_run_will_take_along_is_not_used_by_the_next(tmp_path: Path) -> None:
    closed = private_folder(tmp_path / "closed")
    folder = private_folder(closed / "postgres")
    one = place_of(folder, run="one", lasting=False)
    assert place_of(folder, run="one", lasting=False).folder == one.folder
    other = place_of(folder, run="other", lasting=False)
    assert other.folder not in (one.folder, folder)
    shutil.rmtree(one.folder)
    remove_place(folder)
    assert not other.folder.exists()


@ROOT_ALONE
@pytest.mark.proof
def test_programs_that_are_closed_to_others_are_copied_to_where_postgres_lives(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    found = wheel_folder(WHEEL)
    for folder in (found, found.with_name(f"{found.name}.libs")):
        shutil.copytree(folder, closed / folder.name, symlinks=True)
    place = place_of(private_folder(tmp_path / "postgres"), run="one", lasting=False)
    copy = place.reachable(closed / found.name)
    told = subprocess.run(
        place.run([str(copy / "pginstall18" / "bin" / "postgres"), "--version"]), capture_output=True, check=False
    )
    assert (told.returncode, told.stdout[:10]) == (0, b"postgres (")
    assert copy.is_relative_to(place.folder)
    assert as_stranger(["ls", str(copy)]) != 0
    remove_place(tmp_path / "postgres")
    assert not place.folder.exists()
