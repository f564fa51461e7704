"""Rules of the house that no linter has: what claims to be pure is held to it, and pages and SQL have their width."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WIDTH = 120
NAMED = re.compile(r"`([\w./-]+\.(?:py|sql|md))`")
CLAIM = re.compile(r"\b(Pure|No I/O)\b")
FILES = [
    str(file.relative_to(ROOT))
    for top in ("libs", "services", "deploy", "tests", "examples", "docs")
    for file in ROOT.glob(f"{top}/**/*.*")
]
FILES += [file.name for file in ROOT.glob("*.md")]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("libs/**/*.sql")])


def modules() -> dict[str, Path]:
    """Every module of libs, services and what production runs of deploy, by its name."""
    files = [
        file
        for folder in ("libs", "services", "deploy/cli", "deploy/panels")
        for file in (ROOT / folder).glob("**/*.py")
    ]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def held_to_purity() -> list[str]:
    """The modules and packages of the import contract ``pure``."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return list(next(contract for contract in contracts if contract["id"] == "pure")["source_modules"])


def claims_purity(source: str) -> bool:
    return CLAIM.search(ast.get_docstring(ast.parse(source)) or "") is not None


def is_wide(line: str) -> bool:
    """Tables, addresses and indented code may be wide."""
    return len(line) > WIDTH and not (line.startswith("    ") or line.lstrip().startswith("|")) and "://" not in line


def prose(page: Path) -> Iterator[tuple[int, str]]:
    """The lines outside fenced code, with their numbers."""
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced:
            yield number, line


def test_what_claims_to_be_pure_is_in_the_contract() -> None:
    held = tuple(held_to_purity())
    files = {name: file for name, file in modules().items() if file.name != "__init__.py"}  # a package describes others
    claiming = [name for name, file in files.items() if claims_purity(file.read_text())]
    assert [one for one in claiming if not any(f"{one}.".startswith(f"{each}.") for each in held)] == []


def test_what_the_contract_holds_to_purity_is_there() -> None:
    assert [one for one in held_to_purity() if one not in modules()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_its_width(page: Path) -> None:
    assert [number for number, line in prose(page) if is_wide(line)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    named = {name for name in NAMED.findall(page.read_text()) if "NNNN" not in name}
    assert [name for name in sorted(named) if not any(f"/{file}".endswith(f"/{name}") for file in FILES)] == []


@pytest.mark.parametrize("package", ["libs/common/kafka", "libs/common/sending"])
def test_a_package_that_lists_its_modules_lists_all_of_them(package: str) -> None:
    listed = re.findall(r"``(\w+)``", (ROOT / package / "__init__.py").read_text())
    assert sorted({file.stem for file in (ROOT / package).glob("*.py")} - {"__init__", *listed}) == []


def test_the_rules_can_be_broken() -> None:
    assert claims_purity('"""Something. Pure."""')
    assert is_wide("x" * 121)
    assert not is_wide("| " + "x" * 121)
