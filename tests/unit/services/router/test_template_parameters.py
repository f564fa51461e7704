"""Whether parameters match a template's body."""

from typing import Any

import pytest

from services.router import template_parameters

MATCHES: list[tuple[str, str, Any, bool]] = [
    ("Hi {{1}}, {{2}}.", "POSITIONAL", ["a", "b"], True),
    ("Hi {{2}}, {{1}}, {{1}}.", "POSITIONAL", ["a", "b"], True),
    ("Hi {{1}}.", "POSITIONAL", ["a", "b"], False),
    ("Hi {{1}}, {{2}}.", "POSITIONAL", ["a"], False),
    ("Hi {{1}}.", "POSITIONAL", {"1": "a"}, False),
    ("Hi {{name}}.", "NAMED", ["a"], False),
    ("Hi {{name}}.", "NAMED", {"name": "a", "other": "b"}, False),
    ("Hi {{name}}.", "NAMED", {"name": "a    b"}, True),
    ("Hi {{name}}.", "NAMED", {"name": "a     b"}, False),
    ("Hi {{name}}.", "NAMED", {"name": "a\tb"}, False),
    ("Hi {{name}}.", "NAMED", {"name": " "}, False),
    ("Hi.", "NAMED", [], True),
    ("Hi.", "POSITIONAL", {}, True),
    ("Hi.", "NAMED", {"name": "a"}, False),
]


@pytest.mark.parametrize(("body", "parameter_format", "parameters", "expected"), MATCHES)
def test_parameters_match_a_body_or_not(body: str, parameter_format: str, parameters: Any, expected: bool) -> None:  # noqa: FBT001 -- the expectation
    assert template_parameters.match(body, parameter_format, parameters) is expected
