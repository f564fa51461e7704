"""Every answer that was ever seen, and what it means; and that no answer whatever breaks the reading."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.content import MAX_ID
from libs.common.sending.outcomes import MENDING, Accepted, Refused, Rerouted, RetryLater, SendOutcome, Unknown
from services.whatsapp_sender import backoff_policies
from services.whatsapp_sender.backoff_policies import asked_wait
from services.whatsapp_sender.classify import classify
from tests.support.recordings import recording, recordings

NUMBER = "106400000000001"
WAMID = "wamid.HBgMNDQ3NzAwOTAwOTk5FQIAERgSOUEzQkY2MTdFMjkwQzE0RDhBAA=="
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def mended(code: str) -> RetryLater:
    return RetryLater("account", MENDING, code, fault=True)


def stray(code: str) -> RetryLater:
    return RetryLater("message", backoff_policies.STRAY, code, answered=False)


def busy(code: str, after: timedelta | None = None) -> RetryLater:
    return RetryLater("account", backoff_policies.CALL_LIMIT, code, after)


MEANINGS: dict[str, SendOutcome] = {
    "a_text_is_accepted": Accepted(NUMBER, WAMID),
    "a_template_is_held_for_quality": Accepted(NUMBER, WAMID),
    "a_hidden_number_is_accepted": Accepted(NUMBER, WAMID),
    # the window and templates: another way may go
    "the_window_is_closed": Rerouted("window_closed", "131047"),
    "the_details_are_in_spanish": Rerouted("window_closed", "131047"),
    "the_template_does_not_exist": Rerouted("template_not_approved", "132001"),
    "the_template_is_paused": Rerouted("template_not_approved", "132015"),
    "the_template_is_disabled": Rerouted("template_not_approved", "132016"),
    # the recipient
    "the_message_is_undeliverable": Rerouted("unreachable", "131026"),
    "the_business_blocked_the_user": Rerouted("unreachable", "130403"),
    "the_recipient_is_not_in_the_allowed_list": Refused("131030"),
    "the_sender_is_the_recipient": Refused("131021"),
    "the_user_had_too_much_marketing": Rerouted("template_refused", "131049"),
    "the_user_stopped_marketing": Rerouted("template_refused", "131050"),
    "the_user_is_part_of_an_experiment": Rerouted("template_refused", "130472"),
    "the_country_is_restricted": Rerouted("unreachable", "130497"),
    # the content
    "the_message_type_is_not_supported": Refused("131051"),
    "a_parameter_is_invalid": Refused("100"),
    "a_required_parameter_is_missing": Rerouted("template_refused", "131008"),
    "a_parameter_value_is_invalid": Refused("131009"),
    "the_error_data_is_a_string": Refused("131009"),
    "the_number_of_template_parameters_is_wrong": Rerouted("template_refused", "132000"),
    "the_template_text_became_too_long": Rerouted("template_refused", "132005"),
    "the_template_breaks_a_character_policy": Rerouted("template_refused", "132007"),
    "the_template_parameter_format_is_wrong": Rerouted("template_refused", "132012"),
    "a_template_parameter_holds_a_newline": Rerouted("template_refused", "132018"),
    "a_flow_is_blocked": Refused("132068"),
    "a_flow_is_throttled": Refused("132069"),
    "the_user_caused_a_generic_error": Refused("135000"),
    "a_business_scoped_id_is_not_supported_here": Rerouted("template_refused", "131062"),
    "marketing_templates_are_disabled": Rerouted("template_refused", "131063"),
    "the_identity_key_does_not_match": Refused("137000"),
    "the_code_is_a_string": Rerouted("unreachable", "131026"),
    "an_error_comes_with_success": Rerouted("unreachable", "131026"),
    "a_code_that_nobody_knows_yet": Refused("139999"),
    # too fast
    "the_pair_sends_too_fast": RetryLater("pair", backoff_policies.PAIR, "131056"),
    "the_pair_limit_comes_as_too_many_requests": RetryLater("pair", backoff_policies.PAIR, "131056"),
    "the_number_sends_too_fast": RetryLater("account", backoff_policies.THROUGHPUT, "130429"),
    "the_throughput_limit_comes_as_a_bad_request": RetryLater("account", backoff_policies.THROUGHPUT, "130429"),
    "the_waba_made_too_many_calls": busy("80007"),
    "the_waba_made_too_many_calls_of_its_management": busy("80008"),
    "the_app_made_too_many_calls": busy("4"),
    "the_user_made_too_many_calls": busy("17"),
    "the_calls_exceed_a_custom_limit": busy("613"),
    "the_application_limit_is_reached": busy("341"),
    "the_call_limit_names_its_end": busy("80007", timedelta(minutes=19)),
    "a_proxy_throttles": RetryLater("account", backoff_policies.THROUGHPUT, "429", timedelta(seconds=7)),
    "the_account_is_in_maintenance": RetryLater("account", backoff_policies.MAINTENANCE, "131057"),
    "the_media_could_not_be_fetched": RetryLater(
        "message", backoff_policies.MEDIA, "131053", limit=backoff_policies.MEDIA_TRIES
    ),
    # people must mend the account
    "the_number_hit_the_spam_limit": RetryLater("account", backoff_policies.SPAM, "131048", fault=True),
    "the_templates_were_wrongly_categorized": mended("131064"),
    "the_account_is_locked": mended("131031"),
    "the_account_is_blocked_for_policy": mended("368"),
    "the_account_cannot_pay": mended("131042"),
    "the_app_user_is_unknown": mended("0"),
    "the_method_is_not_allowed": mended("3"),
    "the_permission_is_missing": mended("10"),
    "the_session_is_invalid": mended("102"),
    "the_access_token_is_missing": mended("104"),
    "the_access_token_has_expired": mended("190"),
    "the_permission_was_removed": mended("200"),
    "access_is_denied": mended("131005"),
    "the_number_is_not_registered": mended("133010"),
    "the_certificate_is_incorrect": mended("131045"),
    "the_number_was_deleted": mended("33"),
    "the_business_number_does_not_exist": mended("100"),
    "the_display_name_is_not_approved": mended("131037"),
    "an_authorization_error_with_a_code_that_nobody_knows_yet": mended("139996"),
    "the_code_is_missing": RetryLater("message", backoff_policies.STRAY, "400"),
    "the_error_is_a_string": stray("400"),
    "a_proxy_forbids": stray("403"),
    "nobody_lives_at_this_address": stray("404"),
    "the_address_has_moved": stray("302"),
    # may have been processed
    "an_unknown_error_occurred": Unknown("1"),
    "the_service_is_temporarily_unavailable": Unknown("2"),
    "something_went_wrong": Unknown("131000"),
    "the_service_is_unavailable": Unknown("131016"),
    "the_server_is_temporarily_unavailable": Unknown("133004"),
    "a_transient_code_that_nobody_knows_yet": Unknown("139998"),
    "a_server_error_with_a_code_that_nobody_knows_yet": Unknown("139997"),
    "an_unknown_error_comes_with_success": Unknown("139999"),
    "the_answer_names_no_message": Unknown("200"),
    "the_message_has_an_empty_id": Unknown("200"),
    "the_answer_is_an_empty_object": Unknown("200"),
    "the_answer_is_a_list": Unknown("200"),
    "the_answer_is_empty": Unknown("200"),
    "the_answer_is_a_page": Unknown("200"),
    "a_gateway_timed_out": Unknown("504"),
    "a_gateway_is_bad": Unknown("502"),
    "a_server_failed_without_words": Unknown("500"),
    "the_request_timed_out_at_the_server": Unknown("408"),
}


TO_TEMPLATES = {
    "a_required_parameter_is_missing",
    "a_business_scoped_id_is_not_supported_here",
    "marketing_templates_are_disabled",
    "the_user_had_too_much_marketing",
    "the_user_is_part_of_an_experiment",
    "the_user_stopped_marketing",
}
"""Beside those whose names say so, the answers to sends of templates."""


def read(name: str, answer: dict[str, Any]) -> SendOutcome:
    body = answer["body"] if "body" in answer else _parsed(answer["text"])
    wait = asked_wait(answer.get("headers", {}), lambda: NOW)
    return classify(NUMBER, answer["status"], body, wait, template="template" in name or name in TO_TEMPLATES)


def _parsed(text: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


@pytest.mark.parametrize("name", recordings("graph/answers"))
def test_an_answer_means_what_it_was_found_to_mean(name: str) -> None:
    assert read(name, recording("graph/answers", name)) == MEANINGS[name]


def test_every_meaning_has_its_answer_on_file() -> None:
    assert sorted(MEANINGS) == recordings("graph/answers")


@pytest.mark.parametrize("name", recordings("graph"))
def test_what_the_sandbox_is_held_to_is_understood(name: str) -> None:
    scenario = recording("graph", name)
    accepted = isinstance(read(name, scenario), Accepted)
    assert accepted == bool(scenario["status"] == 200 and scenario["body"].get("messages"))


def test_the_code_counts_whatever_the_status_says() -> None:
    answer = recording("graph/answers", "the_window_is_closed")
    assert {
        classify(NUMBER, status, answer["body"], template=False) for status in (200, 400, 403, 404, 429, 500, 503)
    } == {Rerouted("window_closed", "131047")}


@pytest.mark.parametrize("code", [1, 131000, 139999])
def test_an_error_that_leaves_the_outcome_open_may_be_an_outage_unless_a_template_was_sent(code: int) -> None:
    body = {"error": {"code": code}}
    assert classify(NUMBER, 500, body, template=False) == Unknown(str(code), answered=False)
    assert classify(NUMBER, 500, body, template=True) == Unknown(str(code), answered=True)
    assert classify(NUMBER, 503, {"error": {"code": 131016}}, template=True) == Unknown("131016", answered=False)


def test_a_spam_limit_holds_for_templates_where_a_template_met_it_and_else_for_all() -> None:
    body = {"error": {"code": 131048}}
    for template, scope in ((True, "templates"), (False, "account")):
        found = classify(NUMBER, 400, body, template=template)
        assert found == RetryLater(scope, backoff_policies.SPAM, "131048", fault=True)  # type: ignore[arg-type]


def test_an_answer_to_another_kind_of_message_than_was_sent_lies_with_the_message() -> None:
    def answer(code: int, *, template: bool) -> SendOutcome:
        return classify(NUMBER, 400, {"error": {"code": code}}, template=template)

    assert answer(132015, template=False) == Refused("132015")
    assert answer(131008, template=False) == Refused("131008")
    assert answer(131047, template=True) == Rerouted("template_refused", "131047")
    assert answer(131049, template=False) == Refused("131049")


@pytest.mark.parametrize(
    ("status", "code"), [*((400, c) for c in (100, 131009, 131051, 132068, 135000, 131058)), (403, 139999)]
)
def test_a_template_that_is_refused_for_its_content_is_decided_again(status: int, code: int) -> None:
    body = {"error": {"code": code}}
    assert classify(NUMBER, status, body, template=True) == Rerouted("template_refused", str(code))
    assert classify(NUMBER, status, body, template=False) == Refused(str(code))


def test_a_template_whose_media_cannot_be_fetched_is_decided_again_after_its_tries() -> None:
    outcome = classify(NUMBER, 400, {"error": {"code": 131053}}, template=True)
    assert isinstance(outcome, RetryLater)
    assert (outcome.limit, outcome.reroute) == (backoff_policies.MEDIA_TRIES, "template_refused")


@pytest.mark.parametrize("code", [True, "", "\u00b2", "-5", "1.5", "x", "9" * 5000, 1.5, None, [131047]])
def test_what_is_no_number_is_no_code(code: object) -> None:
    assert classify(NUMBER, 400, {"error": {"code": code}}, template=False) == RetryLater(
        "message", backoff_policies.STRAY, "400"
    )


@pytest.mark.parametrize(
    ("status", "error", "outcome"),
    [
        (400, {"code": 32}, busy("32")),
        (400, {"code": 131009, "error_subcode": 33}, Refused("131009")),
        (408, {"code": 139999}, Unknown("139999")),
        (429, {"code": 139999}, RetryLater("account", backoff_policies.THROUGHPUT, "139999")),
    ],
)
def test_an_answer_that_nobody_has_seen_yet_is_read_by_the_same_rules(
    status: int, error: dict[str, int], outcome: SendOutcome
) -> None:
    assert classify(NUMBER, status, {"error": error}, template=False) == outcome


def test_without_a_code_the_status_says_whether_the_message_was_processed() -> None:
    def read(status: int) -> SendOutcome:
        return classify(NUMBER, status, None, template=False)

    assert read(429) == RetryLater("account", backoff_policies.THROUGHPUT, "429")
    refused = set(range(300, 500)) - {408, 429}
    assert [read(status) for status in refused] == [stray(str(status)) for status in refused]
    unclear = set(range(100, 600)) - refused - {429}
    assert [read(status) for status in unclear] == [Unknown(str(status)) for status in unclear]


@pytest.mark.parametrize("status", [199, 300, 400, 500])
def test_an_id_beside_another_status_than_success_is_no_acceptance(status: int) -> None:
    assert not isinstance(classify(NUMBER, status, {"messages": [{"id": WAMID}]}, template=False), Accepted)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["error", "messages", "id", "code", "x"]), inner),
)


ANSWERS = JSON | JSON.map(lambda id_: {"messages": [{"id": id_}]}) | JSON.map(lambda code: {"error": {"code": code}})


@given(st.integers(100, 599) | st.just(200), ANSWERS)
def test_no_answer_breaks_the_reading(status: int, body: Any) -> None:
    outcome = classify(NUMBER, status, body, template=False)
    assert isinstance(outcome, Accepted | RetryLater | Rerouted | Refused | Unknown)
    if isinstance(outcome, Accepted):
        assert 200 <= status < 300
        assert isinstance(outcome.provider_id, str)
        assert outcome.provider_id


@given(st.integers(200, 299) | st.integers(500, 599), JSON)
def test_success_and_server_errors_without_a_known_code_are_never_called_unprocessed(status: int, body: Any) -> None:
    if isinstance(body, dict):
        body = {key: value for key, value in body.items() if key != "error"}
    assert isinstance(classify(NUMBER, status, body, template=False), Accepted | Unknown)


@pytest.mark.parametrize(
    ("contacts", "recipient"),
    [
        ([{"input": "+5511990000001", "wa_id": "551190000001"}], ("551190000001", None)),
        ([{"input": "+447700900999", "user_id": "GB.1"}], (None, "GB.1")),
        ([{"wa_id": "447700900999", "user_id": "GB.1"}], ("447700900999", "GB.1")),
        ([{"wa_id": "447700900998"}, {"wa_id": "447700900999"}], (None, None)),
        ([{"wa_id": 5, "user_id": ""}], (None, None)),
        ([{"user_id": "a" * MAX_ID}], (None, "a" * MAX_ID)),
        ([{"user_id": "a" * (MAX_ID + 1)}], (None, None)),
        (["447700900999"], (None, None)),
        ([], (None, None)),
        ({"wa_id": "447700900999"}, (None, None)),
    ],
)
def test_an_answer_says_whom_meta_calls_the_recipient(contacts: Any, recipient: tuple[str | None, str | None]) -> None:
    found = classify(
        NUMBER,
        200,
        {"messaging_product": "whatsapp", "contacts": contacts, "messages": [{"id": WAMID}]},
        template=False,
    )
    assert isinstance(found, Accepted)
    assert (found.provider_id, found.wa_id, found.bsuid) == (WAMID, *recipient)


def waits(cases: Iterable[tuple[dict[str, str], timedelta | None]]) -> list[Any]:
    return [pytest.param(headers, wait, id=str(headers)[:40]) for headers, wait in cases]


@pytest.mark.parametrize(
    ("headers", "wait"),
    waits(
        [
            ({}, None),
            ({"Retry-After": "30"}, timedelta(seconds=30)),
            ({"Retry-After": " 0 "}, None),
            ({"Retry-After": "99999999999999999999"}, timedelta(hours=1)),
            ({"Retry-After": "soon"}, None),
            ({"Retry-After": "-5"}, None),
            ({"Retry-After": "²"}, None),
            ({"Retry-After": "Sun, 22 Nov 2026 12:00:45 GMT"}, timedelta(seconds=45)),
            ({"Retry-After": "Sun, 22 Nov 2026 11:00:45 GMT"}, None),
            ({"X-App-Usage": '{"call_count": 100, "total_time": 7}'}, None),
            ({"X-App-Usage": '{"call_count": 100, "estimated_time_to_regain_access": 3}'}, timedelta(minutes=3)),
            (
                {
                    "X-App-Usage": '{"estimated_time_to_regain_access": 3}',
                    "X-Business-Use-Case-Usage": '{"1": [{"estimated_time_to_regain_access": 0}]}',
                },
                timedelta(minutes=3),
            ),
            ({"X-Business-Use-Case-Usage": "not json"}, None),
            ({"X-Business-Use-Case-Usage": "[]"}, None),
            ({"X-Business-Use-Case-Usage": '{"1": [{"estimated_time_to_regain_access": 0}]}'}, None),
            ({"X-Business-Use-Case-Usage": '{"1": [{"estimated_time_to_regain_access": 2}], "2":'
            ' 3}'}, timedelta(minutes=2)),
            ({"X-Business-Use-Case-Usage": '{"1": [{"estimated_time_to_regain_access": 1e300}]}'}, timedelta(hours=1)),
        ]
    ),
)  # fmt: skip
def test_the_wait_that_an_answer_asks_for_is_heeded_within_reason(
    headers: dict[str, str], wait: timedelta | None
) -> None:
    assert asked_wait(headers, lambda: NOW) == wait


@given(st.dictionaries(st.sampled_from(["Retry-After", "X-Business-Use-Case-Usage", "X-App-Usage"]), st.text()))
def test_no_header_breaks_the_reading_of_the_wait(headers: dict[str, str]) -> None:
    wait = asked_wait(headers, lambda: NOW)
    assert wait is None or timedelta(0) < wait <= timedelta(hours=1)
