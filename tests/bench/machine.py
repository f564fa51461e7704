"""The machine of the figures, and the share of it that other processes had meanwhile."""

import contextlib
import os
import platform
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
    """Processor time spent until now, in seconds."""

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
        return cls(total=busy + idle + iowait + steal, busy=busy, stolen=steal, ours=_our_seconds())

    def since(self, before: "CpuClock") -> Shares:
        """How it was spent between the two readings."""
        total = max(self.total - before.total, 1e-9)
        busy, ours = self.busy - before.busy, self.ours - before.ours
        return Shares(ours / total, max(0.0, busy - ours) / total, (self.stolen - before.stolen) / total)


def _our_seconds() -> float:
    """Of this process and all below it. What has ended counts through its parent, which has waited for it."""
    me = psutil.Process()
    total = 0.0
    for process in [me, *me.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
