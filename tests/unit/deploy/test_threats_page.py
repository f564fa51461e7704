"""The tests that docs/architecture/threats.md names exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/architecture/threats.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(test_\w+\.py)(?:::(\w+))?`", PAGE)))


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 20


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_line_of_the_page_is_held_by_a_test_that_exists(file: str, name: str) -> None:
    found = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob(file)]
    assert found
    assert not name or any(f"def {name}(" in text for text in found)
