"""The AsyncAPI document in docs is the one that the declarations make, and the examples fit it."""

from pathlib import Path

import orjson
import pytest
from jsonschema import Draft202012Validator

from libs.common.events.asyncapi import EVENTS_OF, document, encode
from libs.common.events.topics import TOPICS

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "libs/common/events/examples").glob("*.json"))


def test_the_document_in_docs_is_current() -> None:
    mend = "run: .venv/bin/python -m libs.common.events.asyncapi > docs/asyncapi.json"
    assert (ROOT / "docs/asyncapi.json").read_bytes() == encode(), mend


def test_every_declared_topic_is_a_channel_with_messages() -> None:
    assert set(EVENTS_OF) == set(TOPICS)
    assert all(channel["messages"] for channel in document()["channels"].values())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_of_each_event_fits_its_schema(example: Path) -> None:
    found = document()
    schema = found["components"]["messages"][example.stem]["payload"] | {"components": found["components"]}
    Draft202012Validator(schema).validate(orjson.loads(example.read_bytes()))
