"""What Meta refuses of an interactive message is found before the call, and nothing that it takes."""

from typing import Any

import pytest

from libs.common.interactive_limits import faults
from tests.support.odd_values import with_odd_values


def buttons(*titles: str, body: str = "Shall we?", **more: Any) -> dict[str, Any]:
    replies = [{"type": "reply", "reply": {"id": f"b{n}", "title": title}} for n, title in enumerate(titles)]
    return {"type": "button", "body": {"text": body}, "action": {"buttons": replies}} | more


def rows(*counts: int, title: str = "Tuesday", button: str = "Times", **row: Any) -> dict[str, Any]:
    sections = [
        {"title": f"Day {n}", "rows": [{"id": f"{n}-{m}", "title": title} | row for m in range(count)]}
        for n, count in enumerate(counts)
    ]
    return {"type": "list", "body": {"text": "b" * 4096}, "action": {"button": button, "sections": sections}}


def link(label: str, url: str = "https://acme.example") -> dict[str, Any]:
    return {
        "type": "cta_url",
        "body": {"text": "See"},
        "action": {"name": "cta_url", "parameters": {"display_text": label, "url": url}},
    }


@pytest.mark.parametrize(
    "taken",
    [
        buttons("x" * 20, "No", "Later", body="b" * 1024, footer={"text": "f" * 60}),
        buttons("Yes", header={"type": "image", "image": {"id": "1"}}),
        rows(10, title="x" * 24, description="d" * 72),
        rows(4, 6),
        {
            "type": "list",
            "body": {"text": "b"},
            "action": {"button": "Go", "sections": [{"rows": [{"id": "1", "title": "a"}]}]},
        },
        buttons("Yes", header={"type": "image", "image": {"link": "https://acme.example/golf.jpg"}}),
        link("l" * 20),
        link("See", "HTTPS://acme.example:8443/a?b#c"),
        link("See", "acme.example"),
        {"type": "location_request_message", "body": {"text": "Where?"}, "action": {"name": "send_location"}},
        {"type": "a_type_of_tomorrow", "body": {"text": "b" * 9000}},
    ],
)
def test_what_meta_takes_has_no_fault(taken: dict[str, Any]) -> None:
    assert faults(taken) == []


@pytest.mark.parametrize(
    ("refused", "found"),
    [
        (buttons("x" * 21), [("action.buttons.0.title", "too_long")]),
        (buttons("Yes", ""), [("action.buttons.1.title", "missing")]),
        (buttons("Yes", "Yes"), [("action.buttons.title", "duplicate")]),
        (buttons("a", "b", "c", "d"), [("action.buttons", "too_many")]),
        (buttons(), [("action.buttons", "missing")]),
        (buttons("Yes", body="b" * 1025), [("body.text", "too_long")]),
        (buttons("Yes", body=" "), [("body.text", "missing")]),
        (buttons("Yes", footer={"text": "f" * 61}), [("footer.text", "too_long")]),
        (buttons("Yes", header={"type": "text", "text": "h" * 61}), [("header.text", "too_long")]),
        (rows(11), [("action.sections.rows", "too_many")]),
        (rows(5, 6), [("action.sections.rows", "too_many")]),
        (rows(0), [("action.sections.rows", "missing")]),
        (rows(), [("action.sections", "missing")]),
        (rows(1, title="x" * 25), [("action.sections.0.rows.0.title", "too_long")]),
        (rows(1, id="i" * 201), [("action.sections.0.rows.0.id", "too_long")]),
        (rows(2, id="same"), [("action.sections.rows.id", "duplicate")]),
        (rows(1, description="d" * 73), [("action.sections.0.rows.0.description", "too_long")]),
        (rows(1, button="b" * 21), [("action.button", "too_long")]),
        (link("l" * 21), [("action.parameters.display_text", "too_long")]),
        (link("See", ""), [("action.parameters.url", "missing")]),
        (link("See", "https:///a"), [("action.parameters.url", "format")]),
        (link("See", "http://acme.example/a b"), [("action.parameters.url", "format")]),
        *(
            (
                buttons("Yes", header={"type": kind, kind: {"link": "https://acme.example:99999/a"}}),
                [(f"header.{kind}.link", "format")],
            )
            for kind in ("image", "video", "document")
        ),
        ({"body": {"text": "Hi"}}, [("type", "missing")]),
        (
            {"type": "button", "body": [], "action": {"buttons": [1]}},
            [("body.text", "missing"), ("action.buttons.0.id", "missing"), ("action.buttons.0.title", "missing")],
        ),
        (
            {"type": "list", "action": 5},
            [("body.text", "missing"), ("action.button", "missing"), ("action.sections", "missing")],
        ),
    ],
)
def test_what_meta_refuses_is_named(refused: dict[str, Any], found: list[tuple[str, str]]) -> None:
    assert faults(refused) == found


@pytest.mark.parametrize("message", [buttons("Yes", "No"), rows(2), link("See")], ids=["buttons", "rows", "link"])
def test_any_type_in_any_place_is_read(message: dict[str, Any]) -> None:
    for odd in with_odd_values(message):
        if isinstance(odd, dict):
            assert all(isinstance(code, str) for _, code in faults(odd))
