"""What Meta's answers about templates mean."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.inbox.template_answers import (
    Broken,
    Done,
    Failure,
    Listed,
    Made,
    Page,
    Refused,
    Throttled,
    Unknown,
    Unread,
    done_of,
    failure_of,
    made_of,
    page_of,
)

ROW: dict[str, Any] = {
    "name": "car_ready",
    "language": "en_GB",
    "status": "rejected",
    "category": "UTILITY",
    "parameter_format": "NAMED",
    "components": [{"type": "BODY", "text": "Hi."}],
    "quality_score": {"score": "GREEN", "date": 1},
    "rejected_reason": "INVALID_FORMAT",
    "id": "1387372356726668",
}
READ = Listed(
    "car_ready", "en_GB", "UTILITY", "REJECTED", "NAMED", ROW["components"], "GREEN", "INVALID_FORMAT", ROW["id"]
)


def error(code: int, **more: Any) -> dict[str, Any]:
    return {"error": {"message": "Invalid parameter", "code": code} | more}


def test_a_page_is_read_and_what_cannot_be_read_is_named() -> None:
    odd = [{"name": "odd"}, ROW | {"id": "../me"}, ROW | {"components": None}, ROW | {"category": "NEW"}]
    body = {"data": [ROW, *odd], "paging": {"cursors": {"after": "x"}}}
    unread = (Unread(None, None), *[Unread("car_ready", "en_GB")] * 3)
    assert page_of(200, body) == Page((READ,), unread, None)


def test_only_a_page_that_says_so_has_another_one_behind_it() -> None:
    paging = {"cursors": {"before": "a", "after": "b"}, "next": "https://graph.facebook.com/x"}
    assert page_of(200, {"data": [], "paging": paging}) == Page((), (), "b")
    assert page_of(200, {"data": []}) == Page((), (), None)


def test_none_is_no_reason_and_a_template_without_a_format_is_numbered() -> None:
    row = {name: value for name, value in ROW.items() if name != "parameter_format"} | {"rejected_reason": "NONE"}
    assert page_of(200, {"data": [row]}) == Page(
        (READ._replace(parameter_format="POSITIONAL", rejected_reason=None),), (), None
    )


FAILURES: list[tuple[int, Any, Failure]] = [
    (401, error(190), Broken("190")),
    (403, error(10), Broken("10")),
    (403, error(200), Broken("200")),
    (400, error(100, error_subcode=33), Broken("33")),
    (400, error(80008), Throttled("80008")),
    (400, error(4), Throttled("4")),
    (429, error(1), Throttled("1")),
    (500, error(1), Unknown("server_error")),
    (400, error(100, is_transient=True), Unknown("server_error")),
    (502, None, Unknown("server_error")),
    (200, {"data": "odd"}, Unknown("unreadable")),
    (302, None, Unknown("unreadable")),
    (
        400,
        error(100, error_subcode=2388299, error_user_title="Leading params", error_user_msg="Not at the start."),
        Refused("100/2388299", "Leading params. Not at the start."),
    ),
    (400, error(100, error_subcode=2388024), Refused("100/2388024", "Invalid parameter.", exists=True)),
    (400, error(100, error_subcode=2593002), Refused("100/2593002", "Invalid parameter.", missing=True)),
]


@pytest.mark.parametrize(("status", "body", "expected"), FAILURES)
def test_what_is_no_success_says_what_is_to_be_done(status: int, body: Any, expected: Failure) -> None:
    assert page_of(status, body) == expected
    assert made_of(status, body) == expected
    assert done_of(status, body) == expected


def test_a_new_template_has_an_id_of_digits() -> None:
    made = {"id": "52", "status": "pending", "category": "MARKETING"}
    assert made_of(200, made) == Made("52", "PENDING", "MARKETING")
    assert made_of(200, made | {"id": "52/x"}) == Unknown("unreadable")
    assert done_of(200, {"success": True}) == Done()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("data", "paging", "error", "code", "id", "status", "name")), inner)
    ),
    max_leaves=12,
)


@given(st.integers(100, 599), JSON)
def test_any_answer_is_read(status: int, body: Any) -> None:
    page_of(status, body)
    made_of(status, body)
    done_of(status, body)
    failure_of(status, body)
