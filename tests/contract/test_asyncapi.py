"""The AsyncAPI documents in docs are those that FastStream makes of the topologies, and the examples fit them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from jsonschema import Draft202012Validator

from libs.common.events.access import PRINCIPALS
from libs.common.events.topics import TOPICS
from libs.common.kafka.topology import Topology
from tests.support.asyncapi import FOLDER, TOPOLOGIES, documents
from tests.support.topologies import EVENTS_OF

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "libs/common/events/examples").glob("*.json"))


def test_the_documents_in_docs_are_current() -> None:
    mend = "run: .venv/bin/python -m tests.support.asyncapi"
    assert {file.name: file.read_bytes() for file in FOLDER.iterdir()} == documents(), mend


def test_every_declared_topic_is_a_channel_with_events() -> None:
    channels = {channel["address"] for document in _read() for channel in document["channels"].values()}
    assert channels == {topic.name for topic in TOPICS} == {topic.name for topic in EVENTS_OF}


def test_every_event_has_an_example() -> None:
    assert {event.TYPE for events in EVENTS_OF.values() for event in events} == {example.stem for example in EXAMPLES}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_of_each_event_fits_its_schema(example: Path) -> None:
    fitting = 0
    for document in _read():
        for schema in document["components"]["schemas"].values():
            if schema.get("properties", {}).get("type", {}).get("const") == example.stem:
                Draft202012Validator(schema | {"components": document["components"]}).validate(
                    orjson.loads(example.read_bytes())
                )
                fitting += 1
    assert fitting


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda topology: topology.service)
def test_a_service_may_write_and_read_what_it_declares(topology: Topology[Any]) -> None:
    principal = next(one for one in PRINCIPALS if one.name == topology.service)
    assert set(principal.writes) == {publisher.topic for publisher in topology.publishers}
    assert set(principal.reads) == {subscriber.topic for subscriber in topology.subscribers}
    assert set(principal.follows) == set(topology.follows)


def _read() -> Iterator[dict[str, Any]]:
    for document in documents().values():
        yield orjson.loads(document)
