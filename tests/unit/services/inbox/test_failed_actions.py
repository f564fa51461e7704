"""Each failure has the one action that helps, where it is possible now."""

from datetime import timedelta
from uuid import uuid4

import pytest

from services.inbox.composing import AskedBefore, Hold, Situation, offer_of
from services.inbox.failed_actions import Failed, Help, help_for
from tests.unit.services.inbox.composing_builders import NOW, a_situation, expired

HELD = Hold("Priya", NOW - timedelta(minutes=5), NOW + timedelta(minutes=55))


def _help(situation: Situation, reason: str, code: str | None = None, kind: str = "text") -> Help | None:
    return help_for(Failed(reason, code, kind), situation, offer_of(situation))


@pytest.mark.parametrize(
    "reason",
    [
        "window_expired_bridge_sent",
        "window_expired_bridge_failed",
        "window_expired_bridge_already_sent",
        "window_expired_credit_exhausted",
        "window_expired_no_phone",
        "window_expired_sms_opted_out",
        "window_expired_sms_unavailable",
        "window_expired_country_not_allowed",
        "window_expired_spend_cap_reached",
        "window_expired_a_reason_of_a_later_release",
    ],
)
def test_what_a_closed_window_stopped_goes_as_a_template_or_again_once_it_is_open(reason: str) -> None:
    assert _help(expired(), reason) == "template"
    assert _help(a_situation(), reason) == "again"


@pytest.mark.parametrize(
    ("code", "wanted"),
    [
        ("131026", "by_sms"),
        ("130403", "by_sms"),
        ("130472", "bridge"),
        ("131049", "template"),
        ("131050", "template"),
        ("132001", "template"),
        ("132015", "template"),
        ("132016", "template"),
        ("131031", "template"),
        ("131042", "template"),
        ("190", "template"),
        ("999999", "template"),
    ],
)
def test_a_refusal_by_the_provider_is_helped_by_its_code(code: str, wanted: Help) -> None:
    kind = "template" if code in ("131049", "131050", "132001", "132015", "132016", "130472") else "text"
    assert _help(expired(), "provider_refused", code, kind) == wanted


def test_an_unknown_code_while_the_window_is_open_is_sent_again() -> None:
    assert _help(a_situation(), "provider_refused", "999999") == "again"


def test_a_file_and_a_message_of_an_account_that_is_mended_are_sent_again() -> None:
    assert _help(a_situation(), "provider_refused", "131053", "image") == "again"
    for code in ("131031", "131042", "131044", "190"):
        assert _help(a_situation(), "provider_refused", code) == "again"


def test_placeholders_that_changed_at_meta_lead_to_the_templates() -> None:
    assert _help(expired(), "provider_refused", "132012", "template") == "templates"


def test_parameters_that_do_not_fit_are_filled_in_again() -> None:
    assert _help(expired(), "template_parameters", kind="template") == "refill"


def test_an_unknown_outcome_asks_before_a_second_send() -> None:
    assert _help(a_situation(), "unknown_outcome") == "again_twice"


def test_a_silent_ai_is_let_go_while_it_is_held_and_not_later() -> None:
    failed = Failed("conversation_held", None, "text", written_by_ai=True)
    held = a_situation(hold=HELD)
    assert help_for(failed, held, offer_of(held)) == "release"
    assert help_for(failed, a_situation(), offer_of(a_situation())) is None


def test_an_sms_instead_is_offered_only_where_one_may_go() -> None:
    assert _help(expired(obstacle="no_phone"), "provider_refused", "131026") == "template"
    assert _help(expired(obstacle="no_phone"), "provider_refused", "130403") is None
    assert _help(expired(consent=False), "whatsapp_consent_off") == "by_sms"
    assert _help(expired(consent=False, obstacle="sms_opted_out"), "whatsapp_consent_off") is None


def test_a_second_question_by_sms_is_not_offered_while_the_first_one_stands() -> None:
    asked = expired(asked=AskedBefore(message_id=uuid4(), at=NOW, until=None))
    assert _help(asked, "provider_refused", "130472", "template") is None


def test_a_reader_and_a_bridge_have_no_action() -> None:
    assert _help(a_situation(may_send=False), "unknown_outcome") is None
    assert _help(expired(), "provider_refused", "30003", kind="bridge") is None
    assert _help(a_situation(), "provider_refused", "131000", kind="unsupported") is None  # of the phone app
    assert _help(expired(), "not_permitted") is None
