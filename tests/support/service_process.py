"""A service as a process of its own, as a test has it: started, killed, stopped, asked whether it is ready."""

import asyncio
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import aiohttp

from deploy.local.servers.ports import LOOPBACK, free_port
from deploy.local.watchdog import Watchdog
from tests.support.command import command_of, environment
from tests.support.sandbox import ROOT
from tests.support.topic_records import PATIENCE_SECONDS


class ServiceProcess:
    """``transom run NAME`` on a port that it keeps over restarts.

    ``code`` is the folder whose code it runs when it starts next, ``ahead`` how many seconds its host's clock is ahead
    then.
    """

    def __init__(self, name: str, log: Path, env: Mapping[str, str], watchdog: Watchdog) -> None:
        self.code, self.ahead = ROOT, 0.0
        self.name, self.log, self.port = name, log, free_port()
        self._env, self._watchdog = env, watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0
        """Where in the log the process that was started last begins."""
        self.settings: Mapping[str, str] = {}
        """Those that it was started with last."""

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, env: Mapping[str, str]) -> None:
        skewed = [sys.executable, "-m", "tests.support.skewed", str(self.ahead)]
        transom = skewed if self.ahead else command_of(self.code)
        command = [*transom, "run", self.name, "--port", str(self.port)]
        self.settings = dict(env)
        self._began = self.log.stat().st_size if self.log.exists() else 0
        self._process = self._watchdog.spawn(
            command, output=self.log, env={**self._env, **env}, base=environment(), cwd=self.code
        )

    async def ready(self) -> None:
        """Return when it is ready; fail with its log when it ended.

        Only what it answers itself counts: another process may listen on its port, and it is then about to end.
        """
        async with asyncio.timeout(PATIENCE_SECONDS), aiohttp.ClientSession() as http:
            while True:
                assert self.runs, f"{self.name} ended: {self._said()[-2000:]}"
                try:
                    async with http.get(f"{self.url}/readyz") as answer:
                        if answer.status == 200 and '"service.started"' in self._said():
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)

    def _said(self) -> str:
        """What the process that was started last has written."""
        with self.log.open(encoding="utf-8", errors="replace") as log:
            log.seek(self._began)
            return log.read()

    async def kill(self) -> None:
        """SIGKILL."""
        assert self._process is not None
        self._process.kill()
        await self._gone()

    async def stop(self) -> int:
        """SIGTERM; its exit code."""
        self.terminate()
        return await self._gone()

    def terminate(self) -> None:
        """SIGTERM, and nothing else."""
        assert self._process is not None
        self._process.terminate()

    async def _gone(self) -> int:
        assert self._process is not None
        code = await asyncio.to_thread(self._process.wait, PATIENCE_SECONDS)
        self._watchdog.forget(self._process.pid)
        return code
