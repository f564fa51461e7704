"""The image installs from parts of requirements.lock, which ``make imagelocks`` writes. So what the suite runs on is
what the image runs on.
"""

import tomllib

import pytest

from tests.support.locks import needed, read_lock
from tests.support.sandbox import ROOT

ALL = read_lock(ROOT / "requirements.lock")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PARTS = {
    "requirements.production.lock": PROJECT["project"]["dependencies"],
    "requirements.build.lock": PROJECT["build-system"]["requires"],
}
STALE = "make imagelocks writes it anew"


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_pins_the_same_versions_and_files_as_the_whole(part: str) -> None:
    found = read_lock(ROOT / part)
    assert {name: (one.version, one.hashes) for name, one in found.items()} == {
        name: (ALL[name].version, ALL[name].hashes) for name in found
    }, STALE


@pytest.mark.parametrize(("part", "required"), sorted(PARTS.items()))
def test_a_part_holds_what_is_needed_here_and_nothing_else(part: str, required: list[str]) -> None:
    found = {name: one.version for name, one in read_lock(ROOT / part).items() if one.here}
    assert found == {name: one.version for name, one in needed(required).items()}, STALE


def test_production_has_none_of_the_extras_packages() -> None:
    production = read_lock(ROOT / "requirements.production.lock")
    for extra in PROJECT["project"]["optional-dependencies"].values():
        assert not {name.split(">")[0].split("=")[0].split("[")[0] for name in extra} & set(production)
