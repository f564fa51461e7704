"""The lock files as values: which version and which files of each package they allow, and where it is installed."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package of a lock file. ``wanted`` holds its marker."""

    wanted: Requirement
    hashes: frozenset[str]

    @property
    def version(self) -> str:
        (pin,) = self.wanted.specifier
        assert pin.operator == "=="
        return pin.version

    @property
    def here(self) -> bool:
        """Whether it is installed on this platform by this Python."""
        return self.wanted.marker is None or self.wanted.marker.evaluate()


def read_lock(file: Path) -> Mapping[str, Locked]:
    """Every package of the file by its name. Each has one pin and hashes."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    entries = " ".join(line.removesuffix("\\") for line in lines if line.strip())
    found = dict(_entries(entries))
    assert all(one.hashes for one in found.values())
    return found


def _entries(text: str) -> Iterator[tuple[str, Locked]]:
    for entry in re.split(r"\s(?=[A-Za-z0-9][\w.-]*==)", text):
        wanted = Requirement(entry.split("--hash=")[0].strip())
        yield canonicalize_name(wanted.name), Locked(wanted, frozenset(_HASH.findall(entry)))


def needed(requires: Iterable[str], extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """The distributions of this environment that satisfy these requirements with these extras, by name."""
    found: dict[str, Distribution] = {}
    for requirement in map(Requirement, requires):
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": one}) for one in extras | {""}):
            own = distribution(requirement.name)
            more = needed(own.requires or (), frozenset(requirement.extras))
            found |= {canonicalize_name(requirement.name): own} | more
    return found
