"""Parsing of webhooks in which one value is of another kind than Meta's: it has a reason, and stops no neighbour."""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from libs.common.errors import Undecodable
from services.ingest import meta
from services.ingest.items import CustomerMessage, Item
from services.ingest.parse import parse
from tests.support.recordings import recording, recordings
from tests.support.webhooks import a_message, of_messages

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
SYSTEM = {
    "a notice": lambda: of_messages(
        a_message(AT, type="system", system={"type": "user_changed_number", "wa_id": "447700900111", "body": "changed"})
    ),
    "unsupported": lambda: of_messages(a_message(AT, type="unsupported", unsupported={"type": "edit"}, errors=[{}])),
}


def places_of(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON value: what holds it, and its key there."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from places_of(inner)


STRANGE: st.SearchStrategy[Any] = st.sampled_from(
    [None, True, 0, -1, 1.5, 10**30, "", "0", "\x00", "x" * 5_000, "\u202e", [], {}, [[]], [None], {"a": None}, "nan"]
)


@given(st.sampled_from(recordings("meta") + list(SYSTEM)), st.data(), STRANGE)
def test_any_value_in_any_place_of_a_webhook_is_an_item_or_has_a_reason(
    name: str, data: st.DataObject, strange: Any
) -> None:
    webhook = SYSTEM[name]() if name in SYSTEM else recording("meta", name)
    places = list(places_of(webhook["entry"]))
    holder, key = data.draw(st.sampled_from(places))
    holder[key] = strange
    webhook["entry"].append(of_messages(a_message(AT, id="wamid.neighbour"))["entry"][0])
    read: list[Item] = []
    for record in meta.split(webhook, AT):
        with suppress(Undecodable):
            read.append(parse(record[1], reaction_opens=False))
    assert "wamid.neighbour" in [one.provider_id for one in read if isinstance(one, CustomerMessage)]
