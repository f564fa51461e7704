"""The gate in the claim, and what silence proves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from libs.common.directory.addressing import KnownAddresses, WhatsAppAddress
from libs.common.events.outbound import RefusalReason
from libs.common.sending.coverage import Quiet, Waits
from libs.common.sending.outcomes import (
    Accepted,
    Allowed,
    Confirmed,
    Inconclusive,
    NotSent,
    Refused,
    Rerouted,
)
from libs.common.window import Window
from services.whatsapp_sender.evidence import Seen, came_late, resolve
from services.whatsapp_sender.gate import Ready, WhatsappFacts, judge

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(hours=24)
DOUBT = timedelta(minutes=5)
GRACE = timedelta(seconds=30)
TO = WhatsAppAddress("+447700900999", None)
OPEN = WhatsappFacts(
    callback="its callback",
    number_is_ours=True,
    known=KnownAddresses(phone="+447700900999", wa_id="447700900999"),
    token=None,
    window=Window(NOW - timedelta(hours=1), DAY, DOUBT),
    whatsapp_allowed=True,
    marketing_allowed=False,
)
APPROVED = replace(OPEN, template_status="APPROVED", template_category="UTILITY")


def test_a_session_message_goes_while_the_window_is_open() -> None:
    ready = Ready("its callback", None, NOW - timedelta(hours=1), "447700900999")
    assert judge("session", TO, OPEN, NOW) == Allowed(ready)


def test_there_is_no_margin_here() -> None:
    last_instant = replace(OPEN, window=Window(NOW - DAY + timedelta(microseconds=1), DAY, DOUBT))
    assert isinstance(judge("session", TO, last_instant, NOW), Allowed)
    assert judge("session", TO, replace(OPEN, window=Window(NOW - DAY, DAY, DOUBT)), NOW) == Rerouted("window_closed")


def test_metas_refusal_closes_the_window_until_the_customer_writes() -> None:
    refused = replace(
        OPEN, window=Window(NOW - timedelta(hours=1), DAY, DOUBT, last_refused_at=NOW - timedelta(minutes=1))
    )
    assert judge("session", TO, refused, NOW) == Rerouted("window_closed")
    wrote = replace(OPEN, window=Window(NOW, DAY, DOUBT, last_refused_at=NOW - timedelta(minutes=1)))
    assert isinstance(judge("session", TO, wrote, NOW), Allowed)


def test_a_purpose_whose_consent_was_withdrawn_meanwhile_stops_a_template_and_no_session_message() -> None:
    withdrawn = replace(APPROVED, purpose_allowed=False)
    assert judge("template", TO, withdrawn, NOW) == Rerouted("consent_off")
    assert isinstance(judge("session", TO, withdrawn, NOW), Allowed)


def test_a_template_needs_no_window() -> None:
    assert isinstance(judge("template", TO, replace(APPROVED, window=Window(None, DAY, DOUBT)), NOW), Allowed)


@pytest.mark.parametrize(
    ("route", "facts", "reason"),
    [
        ("session", replace(OPEN, whatsapp_allowed=False), "consent_off"),
        ("template", replace(APPROVED, whatsapp_allowed=False), "consent_off"),
        ("template", replace(APPROVED, template_category="MARKETING"), "consent_off"),
        ("template", replace(APPROVED, template_status="PAUSED"), "template_not_approved"),
        ("template", OPEN, "template_not_approved"),
        ("session", replace(OPEN, window=Window(None, DAY, DOUBT)), "window_closed"),
        ("session", replace(OPEN, unreachable=True), "unreachable"),
        ("template", replace(APPROVED, unreachable=True), "unreachable"),
    ],
)
def test_what_stands_against_it_goes_back_to_the_router(
    route: str, facts: WhatsappFacts, reason: RefusalReason
) -> None:
    assert judge(route, TO, facts, NOW) == Rerouted(reason)


def test_a_marketing_template_goes_where_marketing_is_allowed() -> None:
    allowed = replace(APPROVED, template_category="MARKETING", marketing_allowed=True)
    assert isinstance(judge("template", TO, allowed, NOW), Allowed)


def test_a_number_that_is_not_the_tenants_sends_nothing() -> None:
    given_up = replace(OPEN, number_is_ours=False, token="secret")
    assert judge("session", TO, given_up, NOW) == Refused(None, "unknown_conversation")


@pytest.mark.parametrize("number_is_ours", [True, False])
def test_what_goes_by_the_old_id_of_a_number_that_moved_goes_back_to_the_router(*, number_is_ours: bool) -> None:
    moved = replace(OPEN, number_is_ours=number_is_ours, number_moved=True)
    assert judge("session", TO, moved, NOW) == Rerouted("address_changed")
    assert isinstance(judge("session", TO, replace(moved, arrived=True), NOW), Refused)


@pytest.mark.parametrize("facts", [OPEN, APPROVED])
def test_an_address_that_is_not_the_customers_any_more_is_not_written_to(facts: WhatsappFacts) -> None:
    route = "session" if facts is OPEN else "template"
    moved = replace(facts, known=KnownAddresses(phone="+447700900222", phone_at=NOW, wa_id="447700900999"))
    given_up = replace(facts, known=KnownAddresses(bsuid="GB.2"))
    for changed in (moved, given_up):
        assert judge(route, TO, changed, NOW) == Rerouted("address_changed")
    assert judge(route, WhatsAppAddress(None, "GB.1"), given_up, NOW) == Rerouted("address_changed")
    assert isinstance(judge(route, WhatsAppAddress(None, "GB.2"), given_up, NOW), Allowed)


def test_a_number_that_the_intent_named_goes_while_it_is_one_of_the_customers() -> None:
    named = replace(OPEN, known=KnownAddresses(phone="+447700900222", phone_at=NOW), to_is_theirs=True)
    assert isinstance(judge("session", TO, named, NOW), Allowed)
    assert judge("session", TO, replace(named, to_is_theirs=False), NOW) == Rerouted("address_changed")


def test_another_number_of_the_same_line_is_the_same_address() -> None:
    known = replace(OPEN, known=KnownAddresses(phone="+5511990000001", wa_id="551190000001"))
    assert isinstance(judge("session", WhatsAppAddress("+5511990000001", None), known, NOW), Allowed)


def test_a_number_may_carry_its_own_token() -> None:
    verdict = judge("session", TO, replace(OPEN, token="secret"), NOW)
    assert isinstance(verdict, Allowed)
    assert verdict.prepared.token == "secret"


def test_a_send_that_turned_out_accepted_is_not_made_again() -> None:
    seen = (Accepted("106", "wamid.X"),)
    closed = replace(OPEN, window=Window(None, DAY, DOUBT), seen=seen)
    assert judge("session", TO, closed, NOW) == Confirmed(seen)


QUIET = Quiet(NOW - DAY, NOW, NOW, Waits(GRACE, timedelta(seconds=300)))


def test_silence_counts_from_the_claim() -> None:
    claimed = NOW - GRACE
    assert resolve(None, QUIET, claimed) == NotSent()
    assert resolve(None, QUIET, claimed + timedelta(microseconds=1)) == Inconclusive()
    assert resolve(None, None, NOW - DAY) == Inconclusive()


def test_evidence_wins_at_once() -> None:
    seen = Seen((Accepted("106", "wamid.X"),), NOW)
    assert resolve(seen, None, NOW) == Confirmed(seen.ids)


def test_an_acceptance_is_late_once_silence_had_proved_the_contrary() -> None:
    claimed = NOW - 2 * GRACE
    for after, late in ((GRACE - timedelta(microseconds=1), False), (GRACE, True)):
        assert came_late(Seen((Accepted("106", "wamid.X"),), claimed + after), QUIET, claimed) is late
    assert not came_late(Seen((Accepted("106", "wamid.X"),), NOW), None, claimed)
