"""The reasons that a thread shows name first what closed WhatsApp to the message."""

import pytest

from libs.common.events.outbound import BridgeReason
from libs.common.thread.failure_reasons import BRIDGE_ALREADY_SENT, closed_by, failure_reason

CLOSED: list[BridgeReason] = ["window_expired", "whatsapp_unreachable"]


@pytest.mark.parametrize(
    ("window_open", "unreachable", "closed"),
    [
        (True, True, "whatsapp_unreachable"),
        (False, True, "window_expired"),
        (False, False, "window_expired"),
        (True, False, "window_expired"),  # it was closed by the provider's refusal
    ],
)
def test_the_mark_of_an_address_closes_whatsapp_only_where_the_window_is_open(
    closed: BridgeReason, *, window_open: bool, unreachable: bool
) -> None:
    assert closed_by(window_open=window_open, unreachable=unreachable) == closed


@pytest.mark.parametrize("closed", CLOSED)
@pytest.mark.parametrize("reason", ["no_phone", "bridge_failed", "sms_opted_out", "bridge_already_sent"])
def test_why_no_sms_was_sent_stands_behind_what_closed_whatsapp(reason: str, closed: BridgeReason) -> None:
    assert failure_reason(reason, closed) == f"{closed}_{reason}"
    assert failure_reason(reason, closed).endswith(BRIDGE_ALREADY_SENT) is (reason == "bridge_already_sent")


def test_where_nothing_is_known_the_window_closed_it() -> None:
    assert failure_reason("bridge_failed") == "window_expired_bridge_failed"


@pytest.mark.parametrize("closed", [None, *CLOSED])
@pytest.mark.parametrize("reason", ["intent_expired", "conversation_held", "whatsapp_consent_off"])
def test_what_stopped_a_message_whatever_its_channel_stands_alone(reason: str, closed: BridgeReason | None) -> None:
    assert failure_reason(reason, closed) == reason
