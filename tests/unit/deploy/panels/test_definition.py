"""Every field, event and word that a panel names is there. Of metrics ``test_boards`` says so."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from deploy.panels.definition import PANELS
from deploy.panels.panel import Followed, Highest, Panel, Take, Total, Until
from tests.support.logs import SCHEMA

FIELDS = SCHEMA["properties"]
EVENTS = {one["const"] for one in FIELDS["event"]["oneOf"]}


def types_of(name: str) -> set[str]:
    said = FIELDS[name].get("type", "string")
    return {said} if isinstance(said, str) else set(said)


def faults(panel: Panel) -> Iterator[str]:
    """What a panel names that is not there."""
    for name in sorted(panel.fields - FIELDS.keys()):
        yield f"field {name}"
    for take in panel.how.takes:
        for event in take.events:
            if event not in EVENTS:
                yield f"event {event}"
        for name, words in (*take.where.items(), *take.unless.items()):
            allowed = FIELDS.get(name, {}).get("enum")
            yield from (f"{name} {word}" for word in words if allowed is not None and word not in allowed)
    match panel.how:
        case Total(amount=str(amount)) | Highest(amount=amount) if amount in FIELDS:
            if not types_of(amount) & {"number", "integer"}:
                yield f"number {amount}"
        case _:
            pass


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.name)
def test_what_a_panel_names_is_there(panel: Panel) -> None:
    assert list(faults(panel)) == []


def test_panels_have_names_of_their_own_and_ask_something() -> None:
    assert len({panel.name for panel in PANELS}) == len({panel.title for panel in PANELS}) == len(PANELS)
    assert [panel.name for panel in PANELS if not panel.answers.endswith(("?", "."))] == []


def test_lines_with_an_organisation_are_told_by_organisation() -> None:
    for panel in PANELS:
        assert panel.of_organisations == ("org_id" in panel.fields)


@pytest.mark.parametrize(
    ("how", "fault"),
    [
        (Total((Take({"event": ("intent.dreamt",)}),), ("route",)), "event intent.dreamt"),
        (Total((Take({"event": ("intent.decided",)}),), ("rout",)), "field rout"),
        (Total((Take({"route": ("pigeon",)}),), ("route",)), "route pigeon"),
        (Total((Take({"event": ("intent.decided",)}),), ("route",), "reason"), "number reason"),
        (Highest((Take({}, having=("lagg",)),), ("topic",), "records"), "field lagg"),
        (Until((Take({}),), "conversation", "closes_at", ("a", "b")), "field conversation"),
        (Followed(Take({}), Take({}), "conversation_id", "chanel", 1, ("a", "b")), "field chanel"),
    ],
)
def test_a_panel_that_names_what_is_not_there_is_found(how: Total, fault: str) -> None:
    assert fault in list(faults(replace(PANELS[0], how=how)))
