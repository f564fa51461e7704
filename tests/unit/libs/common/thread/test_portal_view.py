from typing import get_args

import pytest

from libs.common.events.outbound import Route
from libs.common.thread.portal_view import PortalCandidate, is_shown

CLOSED_BY = ("window_expired", "whatsapp_unreachable")


def out(status: str, reason: str | None = None, **fields: object) -> PortalCandidate:
    return PortalCandidate(**{"direction": "out", "kind": "text", "status": status, "reason": reason} | fields)  # type: ignore[arg-type]  # a builder


@pytest.mark.parametrize("kind", ["text", "image", "location", "reaction", "unsupported"])
def test_everything_that_the_customer_wrote_is_shown(kind: str) -> None:
    assert is_shown(PortalCandidate("in", kind, "received"))
    assert is_shown(PortalCandidate("in", kind, "received", type="poll"))


def test_a_notice_of_metas_system_names_other_ids_and_is_not_shown() -> None:
    assert not is_shown(PortalCandidate("in", "unsupported", "received", type="system"))


@pytest.mark.parametrize("status", ["sent", "delivered", "read"])
@pytest.mark.parametrize("route", ["session", "template", "bridge"])
def test_what_went_to_the_customer_is_shown(status: str, route: Route) -> None:
    assert is_shown(out(status, route=route))


@pytest.mark.parametrize("closed_by", CLOSED_BY)
@pytest.mark.parametrize("end", ["bridge_sent", "bridge_failed", "no_phone", "sms_unavailable"])
def test_a_text_that_a_bridge_was_to_announce_is_shown(closed_by: str, end: str) -> None:
    assert is_shown(out("failed", f"{closed_by}_{end}", route="bridge"))


@pytest.mark.parametrize("closed_by", CLOSED_BY)
def test_a_text_that_an_earlier_bridge_announced_is_shown(closed_by: str) -> None:
    assert is_shown(out("failed", f"{closed_by}_bridge_already_sent", route="silent"))


@pytest.mark.parametrize("closed_by", CLOSED_BY)
@pytest.mark.parametrize(("end", "route"), [("bridge_sent", "bridge"), ("bridge_already_sent", "silent")])
def test_a_text_that_another_message_carries_now_is_shown_there_and_once(
    closed_by: str, end: str, route: Route
) -> None:
    assert is_shown(out("failed", f"{closed_by}_{end}", route=route))
    assert not is_shown(out("failed", f"{closed_by}_{end}", route=route, released=True))
    assert is_shown(out("read", route=route, released=True))


def test_a_text_whose_bridge_is_on_its_way_or_of_unknown_outcome_is_shown() -> None:
    assert is_shown(out("pending", route="bridge"))
    assert is_shown(out("failed", "unknown_outcome", route="bridge"))


@pytest.mark.parametrize(
    "reason",
    [
        "whatsapp_consent_off",
        *(
            f"{closed_by}_{end}"
            for closed_by in CLOSED_BY
            for end in (
                *("no_phone", "sms_opted_out", "sms_unavailable", "never_contacted", "country_not_allowed"),
                *("spend_cap_reached", "credit_exhausted", "conversation_held", "a_reason_of_a_later_release"),
            )
        ),
    ],
)
def test_what_is_silent_for_another_reason_is_not_shown(reason: str) -> None:
    assert not is_shown(out("failed", reason, route="silent"))


@pytest.mark.parametrize("reason", ["whatsapp_consent_off", *(f"{closed_by}_sms_opted_out" for closed_by in CLOSED_BY)])
def test_a_text_whose_bridge_was_stopped_by_consent_is_not_shown(reason: str) -> None:
    assert not is_shown(out("failed", reason, route="bridge"))


@pytest.mark.parametrize("route", get_args(Route))
@pytest.mark.parametrize("answered", [True, False])
def test_what_expired_unseen_is_not_shown(route: Route, *, answered: bool) -> None:
    assert not is_shown(out("failed", "intent_expired", route=route, answered=answered))


@pytest.mark.parametrize(
    "reason",
    ["not_permitted", "unknown_conversation", "template_not_approved", "whatsapp_consent_off", "customer_erased"],
)
@pytest.mark.parametrize("answered", [True, False])
def test_what_was_rejected_is_not_shown(reason: str, *, answered: bool) -> None:
    assert not is_shown(out("failed", reason, route="rejected", answered=answered))


@pytest.mark.parametrize("route", ["session", "template"])
def test_what_waits_for_another_channel_or_failed_there_is_not_shown(route: Route) -> None:
    assert not is_shown(out("pending", route=route))
    assert not is_shown(out("failed", "provider_refused", route=route))
    assert not is_shown(out("failed", "unknown_outcome", route=route))


@pytest.mark.parametrize(
    ("status", "reason", "route"),
    [
        ("pending", None, "session"),
        ("failed", "provider_refused", "session"),
        ("pending", None, "bridge"),
        ("failed", "window_expired_sms_opted_out", "silent"),
        ("failed", "window_expired_no_phone", "silent"),
        ("failed", "whatsapp_consent_off", "silent"),
    ],
)
def test_an_answer_given_in_the_portal_stays_there_whatever_is_tried_for_it_later(
    status: str, reason: str | None, route: Route
) -> None:
    assert is_shown(out(status, reason, route=route, answered=True))


@pytest.mark.parametrize("status", ["pending", "sent", "delivered", "read", "failed"])
def test_the_bridge_sms_itself_is_not_shown(status: str) -> None:
    assert not is_shown(out(status, notification_type="bridge"))
    assert not is_shown(out(status, kind="bridge", route="bridge"))
