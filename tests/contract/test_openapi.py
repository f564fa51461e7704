"""The OpenAPI document in docs is the one that FastAPI makes, and its examples fit it."""

from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from services.inbox.api.app import document
from services.inbox.api.document import CAPABILITY
from services.inbox.people import CAPABILITIES
from tests.support.openapi import FILE, written

JSON = "application/json"
OPERATIONS = [
    pytest.param(operation, id=f"{method} {path}")
    for path, methods in document()["paths"].items()
    for method, operation in methods.items()
]


def test_the_document_in_docs_is_current() -> None:
    assert FILE.read_bytes() == written(), "run: .venv/bin/python -m tests.support.openapi"


def test_it_is_openapi_3_1_and_names_no_module() -> None:
    assert document()["openapi"].startswith("3.1")
    assert not [name for name in document()["components"]["schemas"] if "__" in name or "Validation" in name]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_says_who_may_call_it_and_which_problems_it_has(operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["tags"]
    assert operation[CAPABILITY] in CAPABILITIES
    assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_has_an_example_of_what_it_takes_and_answers(operation: dict[str, Any]) -> None:
    for place, content in _contents(operation):
        examples = list(_examples(content))
        assert examples, f"{place} has no example"
        schema = content["schema"] | {"components": document()["components"]}
        for example in examples:
            Draft202012Validator(schema).validate(example)


def _contents(operation: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if (body := operation.get("requestBody")) is not None:
        yield "the body", body["content"][JSON]
    for status, response in operation["responses"].items():
        if (content := response.get("content", {}).get(JSON)) is not None:
            yield status, content


def _examples(content: dict[str, Any]) -> Iterator[Any]:
    if "example" in content:
        yield content["example"]
    yield from (one["value"] for one in content.get("examples", {}).values())
    for schema in (content["schema"], *content["schema"].get("anyOf", [])):
        named = schema.get("$ref", "").rpartition("/")[2]
        yield from document()["components"]["schemas"].get(named, schema).get("examples", [])
