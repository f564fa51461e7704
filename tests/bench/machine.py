"""The machine of the figures, and the share of it that other processes had meanwhile."""

import contextlib
import os
import platform
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Machine:
    """Of this machine."""

    cpu: str
    cores: int
    memory_gb: float
    system: str
    python: str

    @classmethod
    def here(cls) -> Self:
        return cls(
            cpu=_cpu_model(),
            cores=len(os.sched_getaffinity(0)),
            memory_gb=round(psutil.virtual_memory().total / 1024**3, 1),
            system=f"{platform.system()} {platform.release()}",
            python=platform.python_version(),
        )

    def __str__(self) -> str:
        return f"{self.cores} cores of {self.cpu}, {self.memory_gb:.0f} GB, {self.system}, Python {self.python}"


@dataclass(frozen=True, slots=True)
class Shares:
    """How the machine's processor time was spent, as shares of all of it.

    ``ours``: this run's processes, the servers it started included.
    """

    ours: float
    others: float
    stolen: float


@dataclass(frozen=True, slots=True)
class CpuClock:
    """Processor time spent until ``at``, in seconds; ``at`` is monotonic."""

    at: float
    total: float
    busy: float
    stolen: float
    ours: float

    @classmethod
    def read(cls) -> Self:
        user, nice, system, idle, iowait, irq, softirq, steal, *_ = (
            int(word) / _TICKS for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        )
        busy = user + nice + system + irq + softirq
        return cls(
            at=time.monotonic(), total=busy + idle + iowait + steal, busy=busy, stolen=steal, ours=_our_seconds()
        )

    def since(self, before: "CpuClock") -> Shares:
        """How it was spent between the two readings."""
        total = max(self.total - before.total, 1e-9)
        busy, ours = self.busy - before.busy, self.ours - before.ours
        return Shares(ours / total, max(0.0, busy - ours) / total, (self.stolen - before.stolen) / total)


def _our_seconds() -> float:
    return tree_seconds(os.getpid())


def tree_seconds(pid: int) -> float:
    """Processor time of a process and all below it. What has ended counts through its parent, which has waited for it.

    0 where there is no such process.
    """
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def tree(pid: int) -> list[psutil.Process]:
    """The process and all below it; nothing where there is no such process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    return []


def pin(pid: int, cores: Collection[int]) -> None:
    """Let every thread of a process and of all below it run on these cores only. What they start inherits that."""
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            for thread in process.threads():
                with contextlib.suppress(ProcessLookupError):
                    os.sched_setaffinity(thread.id, cores)


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
