"""Nothing runs on: whatever becomes of a run, its processes end with it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from deploy.local.watchdog import ASK_SECONDS, KILL_SECONDS, SWEEP_SECONDS, TOKEN, Watchdog, Watched, bearers, end
from tests.support.waiting import DEADLINE_SECONDS

ALLOWED_SECONDS = 10.0

SERVERS = """
import json, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever runs the tests under nohup ignores it, and so would this
from deploy.local.servers.local_servers import Given, LocalServers
servers = LocalServers(Path(sys.argv[1]), given=Given(sys.argv[2] or None), durable=False)
servers.start()
child = [sys.executable, "-c", "import subprocess, time; subprocess.Popen(['sleep', '300']); time.sleep(300)"]
service = servers.watchdog.spawn(child, output=Path(sys.argv[1]) / "service.log")
ours = [server for server in (servers.kafka, servers.postgres, servers.valkey) if server]
mine = [*(server.pid for server in ours), service.pid, servers.watchdog.pid]
print(json.dumps({"pids": mine, "token": servers.watchdog.token}), flush=True)
try:
    time.sleep(300)
finally:
    servers.stop()
"""


def _run(script: str, folder: Path, kafka: str = "elsewhere:9092") -> "subprocess.Popen[str]":
    """``kafka`` empty starts a broker, which takes some seconds."""
    return subprocess.Popen(
        [sys.executable, "-c", script, str(folder), kafka], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def _first_line(run: "subprocess.Popen[str]") -> dict[str, object]:
    assert run.stdout is not None
    line: dict[str, object] = json.loads(run.stdout.readline())
    return line


def _started(pids: object) -> list[psutil.Process]:
    assert isinstance(pids, list)
    return [member for pid in pids for member in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True))]


def _left(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if _runs(one)]


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False


def _await_end(processes: list[psutil.Process]) -> list[psutil.Process]:
    """What still runs when nothing that is right runs any more, also on a busy machine."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (left := _left(processes)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_when_the_run_is_killed_its_servers_and_services_end(how: signal.Signals, tmp_path: Path) -> None:
    with _run(SERVERS, tmp_path, kafka="" if how == signal.SIGKILL else "elsewhere:9092") as run:
        told = _first_line(run)
        processes = _started(told["pids"])
        assert len(processes) > 6  # PostgreSQL is a tree, and the service has a child
        run.send_signal(how)
        run.wait()
        assert _await_end(processes) == []
        assert bearers(str(told["token"])) == []


def test_ctrl_c_ends_everything_before_the_run_itself_ends(tmp_path: Path) -> None:
    with _run(SERVERS, tmp_path) as run:
        processes = _started(_first_line(run)["pids"])
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does: the whole foreground group
        run.wait()
        assert _left(processes) == []


def test_after_a_kill_the_same_folder_starts_again_at_once(tmp_path: Path) -> None:
    with _run(SERVERS, tmp_path) as run:
        processes = _started(_first_line(run)["pids"])
        run.kill()
        run.wait()
    with _run(SERVERS, tmp_path) as again:
        processes += _started(_first_line(again)["pids"])
        again.send_signal(signal.SIGINT)
        again.wait()
    assert _await_end(processes) == []


UNREGISTERED = """
import json, os, subprocess, sys, time
from deploy.local.watchdog import TOKEN, Watchdog
watchdog = Watchdog()
environ = {**os.environ, TOKEN: watchdog.token}
started = subprocess.Popen(["sleep", "300"], env=environ, start_new_session=True)
print(json.dumps({"pids": [started.pid]}), flush=True)
time.sleep(300)
"""


def test_a_process_not_yet_registered_when_the_run_died_ends_too(tmp_path: Path) -> None:
    with _run(UNREGISTERED, tmp_path) as run:
        processes = _started(_first_line(run)["pids"])
        run.kill()
        run.wait()
        assert _await_end(processes) == []


UNBORN = """
import json, os, subprocess, time
from deploy.local.watchdog import TOKEN, Watchdog
watchdog = Watchdog()
becomes = f'while kill -0 {os.getpid()} 2> /dev/null; do sleep 0.1; done; {TOKEN}={watchdog.token} exec sleep 300'
started = subprocess.Popen(["sh", "-c", becomes], start_new_session=True)
print(json.dumps({"pids": [started.pid]}), flush=True)
time.sleep(300)
"""


def test_a_process_that_is_just_being_started_when_the_run_died_ends_too(tmp_path: Path) -> None:
    """Between its fork and its program it has the environment of the run, without the token."""
    with _run(UNBORN, tmp_path) as run:
        (process, *_) = _started(_first_line(run)["pids"])
        run.kill()
        run.wait()
        assert _await_end([process]) == []


def test_a_process_that_ignores_the_polite_signal_is_killed(tmp_path: Path) -> None:
    script = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
    )
    with Watchdog() as watchdog:
        log = tmp_path / "log"
        deaf = watchdog.spawn([sys.executable, "-c", script], output=log)
        while not log.read_text():
            time.sleep(0.01)
    assert deaf.wait() == -signal.SIGKILL


def test_asking_killing_and_sweeping_leave_a_second_of_the_time_allowed() -> None:
    assert ASK_SECONDS + KILL_SECONDS + SWEEP_SECONDS <= ALLOWED_SECONDS - 1


DEAF = """
import json, sys, time
from pathlib import Path
from deploy.local.watchdog import Watchdog
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
log = Path(sys.argv[1]) / "log"
with Watchdog() as watchdog:
    started = watchdog.spawn([sys.executable, "-c", deaf], output=log)
    while not log.read_text():
        time.sleep(0.01)
    print(json.dumps({"pids": [started.pid]}), flush=True)
    time.sleep(300)
"""


def test_a_process_that_ignores_the_polite_signal_ends_when_the_run_is_killed(tmp_path: Path) -> None:
    with _run(DEAF, tmp_path) as run:
        processes = _started(_first_line(run)["pids"])
        run.kill()
        run.wait()
        assert _await_end(processes) == []


def test_a_forgotten_process_is_still_known_by_its_token(tmp_path: Path) -> None:
    with Watchdog() as watchdog:
        started = watchdog.spawn(["sleep", "300"], output=tmp_path / "log")
        watchdog.forget(started.pid)
        until = time.monotonic() + DEADLINE_SECONDS
        while not bearers(watchdog.token) and time.monotonic() < until:  # its environment can be read a moment later
            time.sleep(0.01)
        assert [one.pid for one in bearers(watchdog.token)] == [started.pid]
    assert started.wait() == -signal.SIGKILL


SCRATCH = """
import json, sys, tempfile, time
from pathlib import Path
from deploy.local.watchdog import Watchdog
with Watchdog() as watchdog:
    folder = tempfile.mkdtemp(dir=sys.argv[1])
    watchdog.scratch(Path(folder))
    started = watchdog.spawn(["sleep", "300"], output=Path(folder) / "log")
    print(json.dumps({"pids": [started.pid, watchdog.pid]}), flush=True)
    time.sleep(300)
"""


@pytest.mark.parametrize(("how", "left"), [(signal.SIGKILL, 0), (signal.SIGINT, 1)])
def test_a_folder_made_for_a_run_goes_with_it_when_it_is_killed_and_is_its_own_concern_otherwise(
    how: signal.Signals, left: int, tmp_path: Path
) -> None:
    with _run(SCRATCH, tmp_path) as run:
        processes = _started(_first_line(run)["pids"])
        run.send_signal(how)
        run.wait()
        assert _await_end(processes) == []  # the watchdog's own end comes last
    assert len(list(tmp_path.iterdir())) == left


def test_a_pid_that_came_round_again_is_left_alone() -> None:
    with subprocess.Popen(["sleep", "300"]) as stranger:
        end([Watched(stranger.pid, started=1.0)])
        assert stranger.poll() is None
        stranger.kill()


def test_the_token_does_not_leak_into_this_process() -> None:
    with Watchdog():
        assert TOKEN not in os.environ
