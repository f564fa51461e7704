"""What Meta's answers mean: each fault by its code, and no answer is too odd to be read."""

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from deploy.cli.doctor import graph_rules as rules
from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.queries import WhatsappNumber
from tests.support.odd_values import with_odd_values

NOW = datetime(2026, 11, 28, 10, tzinfo=UTC)
NUMBER = WhatsappNumber("acme", "106400000000001", "206400000000001", "+447700900123", None)
HOOK = "https://hooks.example.com/webhooks/meta"

TOKEN: dict[str, Any] = {
    "is_valid": True,
    "scopes": list(rules.NEEDED_SCOPES),
    "expires_at": 0,
    "granular_scopes": [{"scope": rules.NEEDED_SCOPES[0], "target_ids": ["206400000000001"]}],
}
APP: dict[str, Any] = {
    "object": rules.OBJECT,
    "active": True,
    "callback_url": HOOK,
    "fields": [{"name": name} for name in (*rules.NEEDED_FIELDS, *rules.USED_FIELDS)],
}
OF_NUMBER: dict[str, Any] = {
    "id": NUMBER.phone_number_id,
    "display_phone_number": "+44 7700 900123",
    "status": "CONNECTED",
    "quality_rating": "GREEN",
    "name_status": "APPROVED",
    "webhook_configuration": {"application": "https://elsewhere.example"},
}
COUNTS: dict[str, Any] = {"summary": {"message_template_count": 90, "message_template_limit": 100}}


def codes(found: Iterable[Finding]) -> list[str]:
    return [one.code for one in found]


def of_token(**changes: Any) -> list[str]:
    return codes(rules.token_faults("token", {**TOKEN, **changes}, [NUMBER.waba_id], NOW))


def of_app(wanted: str | None = HOOK, **changes: Any) -> list[str]:
    return codes(rules.app_faults({"data": [{"object": "page"}, {**APP, **changes}]}, wanted))


def of_number(wanted: str | None = HOOK, **changes: Any) -> list[str]:
    return codes(rules.number_faults([NUMBER], [{**OF_NUMBER, **changes}], wanted))


def of_counts(count: Any, limit: Any = 100) -> list[str]:
    summary = {"message_template_count": count, "message_template_limit": limit}
    return codes(rules.template_faults("1", {"summary": summary}))


@pytest.mark.parametrize(
    ("status", "code", "subcode", "expected"),
    [
        (400, 190, None, "token_invalid"),
        (400, 190, 463, "token_expired"),
        (400, 104, None, "token_invalid"),
        (400, 102, 463, "token_expired"),
        (400, 4, None, "graph_throttled"),
        (400, 80008, None, "graph_throttled"),
        (429, None, None, "graph_throttled"),
        (400, 100, 33, "account_unknown"),
        (403, 10, None, "token_scope_missing"),
        (403, 200, None, "token_scope_missing"),
        (403, 299, None, "token_scope_missing"),
        (400, 300, None, "graph_answer_strange"),
        (500, 1, None, "graph_answer_strange"),
        (401, "190", None, "graph_answer_strange"),
    ],
)
def test_an_error_is_told_by_its_code(status: int, code: Any, subcode: Any, expected: str) -> None:
    body = {"error": {"code": code, "error_subcode": subcode}}
    assert rules.refusal("x", status, body).code == expected


def test_an_answer_without_an_error_is_metas_or_not() -> None:
    assert rules.refusal("x", 200, {}).code == "graph_unreachable"
    assert rules.refusal("x", 502, {}).code == "graph_answer_strange"
    assert rules.refusal("x", 200, {"error": "odd"}).code == "graph_answer_strange"
    assert "Meta's code none" in rules.refusal("x", 502, {}).problem


@pytest.mark.parametrize(
    ("status", "code", "refused"),
    [(400, 190, True), (400, 100, True), (401, None, True), (400, 4, False), (403, None, False), (500, 1, False)],
)
def test_a_busy_meta_refuses_no_token(status: int, code: Any, refused: bool) -> None:  # noqa: FBT001 -- a case
    assert rules.is_refused_token(status, {"error": {"code": code}}) is refused


def test_a_token_in_order_has_no_fault() -> None:
    assert of_token() == []
    assert of_token(expires_at=int((NOW + rules.SOON).timestamp()) + 1) == []
    assert of_token(expires_at=10**13) == of_token(expires_at=10**30) == []  # no date has it
    assert of_token(granular_scopes=[{"scope": "pages_show_list", "target_ids": []}]) == []
    assert of_token(granular_scopes=[{"scope": rules.NEEDED_SCOPES[1]}]) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"is_valid": False, "scopes": [], "expires_at": 1}, ["token_invalid"]),
        ({"scopes": [rules.NEEDED_SCOPES[0]]}, ["token_scope_missing"]),
        ({"scopes": None}, ["token_scope_missing"]),
        ({"expires_at": int(NOW.timestamp())}, ["token_expired"]),
        ({"expires_at": int(NOW.timestamp()) + 1}, ["token_expires"]),
        ({"expires_at": int((NOW + rules.SOON).timestamp())}, ["token_expires"]),
        ({"granular_scopes": [{"scope": rules.NEEDED_SCOPES[1], "target_ids": []}]}, ["token_not_for_account"]),
    ],
)
def test_a_token_that_cannot_serve_is_named(changes: dict[str, Any], expected: list[str]) -> None:
    assert of_token(**changes) == expected


def test_a_token_lacks_what_it_cannot_do() -> None:
    [one] = rules.token_faults("token", {**TOKEN, "scopes": [rules.NEEDED_SCOPES[0]]}, [], NOW)
    assert one.problem == "The token lacks whatsapp_business_messaging, so it cannot send and receive."
    ends = int((NOW + timedelta(days=3, hours=1)).timestamp())
    [one] = rules.token_faults("token", {**TOKEN, "expires_at": ends}, [], NOW)
    assert one.problem == "The token ends in 3 days, at 2026-12-01 11:00 UTC."


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"object": "page"}, ["app_subscription_missing"]),
        ({"active": False}, ["app_subscription_missing"]),
        ({"fields": APP["fields"][1:]}, ["app_fields_missing"]),
        ({"fields": APP["fields"][:1]}, ["app_fields_more"]),
        ({"fields": None}, ["app_fields_missing", "app_fields_more"]),
        ({"callback_url": None}, ["webhook_elsewhere"]),
        ({"callback_url": None, "wanted": None}, []),
    ],
)
def test_an_app_is_subscribed_to_what_is_used_at_the_address_of_ingest(
    changes: dict[str, Any], expected: list[str]
) -> None:
    assert of_app(**changes) == expected


@pytest.mark.parametrize(
    ("app_id", "data", "subscribed"),
    [
        ("7", [{"whatsapp_business_api_data": {"id": "7"}}], True),
        ("7", [{"whatsapp_business_api_data": {"id": 7}}], True),
        (None, [{"whatsapp_business_api_data": {"id": "8"}}], True),
        ("7", [{"whatsapp_business_api_data": {"id": "8"}}], False),
        ("7", [{"whatsapp_business_api_data": "7"}], False),
        (None, [], False),
    ],
)
def test_an_account_sends_webhooks_to_this_app(app_id: str | None, data: Any, subscribed: bool) -> None:  # noqa: FBT001 -- a case
    found = codes(rules.subscribed_faults("1", {"data": data}, app_id))
    assert found == ([] if subscribed else ["account_not_subscribed"])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"id": "1"}, ["number_unknown"]),
        ({"display_phone_number": "+44 7700 900124"}, ["number_differs"]),
        ({"status": "FLAGGED", "quality_rating": "RED"}, ["number_not_connected", "number_quality_low"]),
        ({"name_status": "NONE"}, []),
        ({"name_status": "AVAILABLE_WITHOUT_REVIEW"}, []),
        ({"name_status": "PENDING_REVIEW"}, ["number_name_open"]),
        ({"webhook_configuration": {"phone_number": HOOK, "whatsapp_business_account": "https://other"}}, []),
        ({"webhook_configuration": {"phone_number": "https://other"}}, ["webhook_elsewhere"]),
        ({"webhook_configuration": {"phone_number": "", "whatsapp_business_account": "x"}}, ["webhook_elsewhere"]),
        ({"webhook_configuration": {"phone_number": "https://other"}, "wanted": None}, []),
    ],
)
def test_a_number_of_the_directory_is_held_against_metas(changes: dict[str, Any], expected: list[str]) -> None:
    assert of_number(**changes) == expected


def test_one_override_is_told_and_whose_it_is() -> None:
    both = {"phone_number": "https://a", "whatsapp_business_account": "https://b"}
    [one] = rules.number_faults([NUMBER], [{**OF_NUMBER, "webhook_configuration": both}], HOOK)
    assert "of the number's own" in one.problem


@pytest.mark.parametrize(("status", "shown"), [("PENDING_2", "PENDING_2"), ("A" * 41, "unknown"), ("a b", "unknown")])
def test_a_word_of_metas_is_shown_and_no_sentence(status: str, shown: str) -> None:
    [one] = rules.number_faults([NUMBER], [{**OF_NUMBER, "status": status}], HOOK)
    assert one.problem == f"Its status is {shown}, so it neither sends nor receives."


@pytest.mark.parametrize(
    ("count", "limit", "expected"),
    [
        (90, 100, []),
        (91, 100, ["templates_near_limit"]),
        (0, 100, ["templates_none"]),
        (5, 0, []),
        (5, None, []),
        (None, 100, []),
    ],
)
def test_templates_are_counted_against_their_limit(count: Any, limit: Any, expected: list[str]) -> None:
    assert of_counts(count, limit) == expected


READERS: tuple[tuple[dict[str, Any], Callable[[Any], object]], ...] = (
    ({"error": {"code": 190, "error_subcode": 463}}, lambda body: rules.refusal("x", 400, body)),
    (TOKEN, lambda body: list(rules.token_faults("x", body, ["1"], NOW))),
    ({"data": [APP]}, lambda body: list(rules.app_faults(body, HOOK))),
    (
        {"data": [{"whatsapp_business_api_data": {"id": "7"}}]},
        lambda body: list(rules.subscribed_faults("1", body, "7")),
    ),
    (
        {"data": [OF_NUMBER]},
        lambda body: list(rules.number_faults([NUMBER], rules.objects(body.get("data")), HOOK)),
    ),
    (COUNTS, lambda body: list(rules.template_faults("1", body))),
)


@pytest.mark.parametrize(("body", "read"), READERS)
def test_no_field_is_too_odd_to_be_read(body: dict[str, Any], read: Callable[[Any], object]) -> None:
    for odd in with_odd_values(body):
        if isinstance(odd, dict):
            read(odd)
