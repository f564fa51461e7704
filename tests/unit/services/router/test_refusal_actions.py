"""What a refusal causes, by the attempt that its message is at and by the refusals before it."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.outbound import OutboundRefused, RefusalReason
from services.router.refusal_actions import LIFETIME, RefusedMessage, action_for

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
MESSAGE = UUID("01932f70-11aa-7d2e-8f00-3b7c5d9e1a01")
CONVERSATION = UUID("01932f6e-3a54-7c11-9d5b-6a1f0c7e2b11")
REASONS = st.sampled_from([reason for reason in get_args(RefusalReason) if reason != "slot_freed"])
SILENCED = {"status": "failed", "reason": "window_expired_bridge_already_sent"}
ENDED = {"status": "failed", "reason": "provider_refused"}
EXPIRED = {"status": "failed", "reason": "intent_expired"}
TEXT = {"intent": {"content": {"kind": "text"}}}
TEMPLATE = {"intent": {"content": {"kind": "template"}}}


def a_refusal(reason: Any = "window_closed", attempt: int = 2) -> OutboundRefused:
    return OutboundRefused.of(("acme", MESSAGE, attempt), CONVERSATION, reason, NOW)


def a_message(**changes: Any) -> RefusedMessage:
    """At its second attempt, a text that was refused once as out of reach."""
    fields: dict[str, Any] = {
        "org_id": "acme",
        "message_id": MESSAGE,
        "attempt": 2,
        "status": "pending",
        "reason": None,
        "sequence": 7,
        "route": "session",
        "record": TEXT,
        "refusals": ("unreachable",),
        "first_decided_at": NOW - timedelta(hours=1),
        "arrived": False,
    }
    return RefusedMessage(**fields | changes)


CASES = [
    ("the attempt that it is at", a_refusal(), a_message(), "decide"),
    ("sent meanwhile, and refused by a status", a_refusal(), a_message(status="sent"), "decide"),
    ("an earlier attempt", a_refusal(attempt=1), a_message(), "repeat"),
    ("an attempt that is not known", a_refusal(attempt=3), a_message(), "ignore"),
    ("delivered meanwhile", a_refusal(), a_message(status="delivered"), "ignore"),
    ("over meanwhile", a_refusal(), a_message(**EXPIRED), "ignore"),
    ("a bridge silenced it", a_refusal("slot_freed"), a_message(**SILENCED), "decide"),
    ("no bridge silenced it", a_refusal("slot_freed"), a_message(), "ignore"),
    ("it failed otherwise", a_refusal("slot_freed"), a_message(**EXPIRED), "ignore"),
    ("the third", a_refusal(), a_message(refusals=("unreachable", "window_closed")), "end"),
    ("the third again", a_refusal(), a_message(refusals=("unreachable", "window_closed"), **ENDED), "end"),
    ("the third of one delivered", a_refusal(), a_message(refusals=("unreachable",) * 2, status="read"), "ignore"),
    ("the third of one that ended otherwise", a_refusal(), a_message(refusals=("unreachable",) * 2, **EXPIRED),
     "ignore"),
    ("the third of one that failed and arrived", a_refusal(),
     a_message(refusals=("unreachable",) * 2, status="delivered", reason=ENDED["reason"]), "ignore"),
    ("the third slot", a_refusal("slot_freed"), a_message(refusals=("slot_freed",) * 2, **SILENCED), "ignore"),
    ("others used up no attempt", a_refusal(), a_message(refusals=("account", "throttled", "portal_unread") * 3),
     "decide"),
    ("throttled for hours", a_refusal("throttled"), a_message(refusals=("throttled",) * 9), "decide"),
    ("throttled for nearly a day", a_refusal("throttled"), a_message(first_decided_at=NOW - timedelta(hours=23.9)),
     "decide"),
    ("throttled for a day", a_refusal("throttled"), a_message(first_decided_at=NOW - LIFETIME), "end"),
    ("an account for a day", a_refusal("account"), a_message(first_decided_at=NOW - LIFETIME), "end"),
    ("another reason after a day", a_refusal(), a_message(first_decided_at=NOW - LIFETIME), "decide"),
    ("a fault of the provider", a_refusal("transient"), a_message(), "decide"),
    ("a second one", a_refusal("transient"), a_message(refusals=("transient",)), "end"),
    ("a second one as fallback", a_refusal("transient"), a_message(refusals=("transient",), route="template"),
     "decide"),
    ("a second one of a template", a_refusal("transient"),
     a_message(refusals=("transient",), route="template", record=TEMPLATE), "end"),
    ("a fallback", a_refusal("template_refused"), a_message(route="template"), "decide"),
    ("a template that was asked for", a_refusal("template_refused"), a_message(route="template", record=TEMPLATE),
     "end"),
]  # fmt: skip


@pytest.mark.parametrize(("refusal", "message", "action"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_a_refusal_causes(refusal: OutboundRefused, message: RefusedMessage, action: str) -> None:
    assert action_for(refusal, message, NOW) == action


@given(
    st.sampled_from(get_args(RefusalReason)),
    st.lists(REASONS, max_size=5),
    st.sampled_from(["delivered", "read"]),
    st.sampled_from([None, SILENCED["reason"], ENDED["reason"]]),
)
def test_what_reached_the_customer_is_neither_decided_again_nor_ended(
    reason: str, before: list[str], status: str, failure: str | None
) -> None:
    """``failure``: what it failed with before, which stays with the message."""
    assert action_for(a_refusal(reason), a_message(refusals=before, status=status, reason=failure), NOW) == "ignore"


@given(REASONS, st.lists(REASONS, max_size=5))
def test_a_message_that_waits_is_decided_again_or_ended(reason: str, before: list[str]) -> None:
    assert action_for(a_refusal(reason), a_message(refusals=before), NOW) in ("decide", "end")
