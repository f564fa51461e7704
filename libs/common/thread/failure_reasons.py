"""The reasons that a thread shows for messages that were not sent by WhatsApp as they are. Pure.

Rule 1: such a reason begins with what closed WhatsApp to the message: ``window_expired_no_phone``.
Rule 2: ``intent_expired``, ``conversation_held`` and ``whatsapp_consent_off`` stand alone.
Rule 3: the end of a reason decides whether the portal shows the message (``libs.common.thread.portal_view``).
"""

from libs.common.events.outbound import BridgeReason
from libs.common.thread.message_status import INTENT_EXPIRED

BRIDGE_ALREADY_SENT = "_bridge_already_sent"
"""The end of the reason of a message for which another message's bridge SMS stands in."""
_ALONE = frozenset({INTENT_EXPIRED, "conversation_held", "whatsapp_consent_off"})


def closed_by(*, window_open: bool, unreachable: bool) -> BridgeReason:
    """What closed WhatsApp to a message: the window, or, where that is open, the mark of the customer's address."""
    return "whatsapp_unreachable" if window_open and unreachable else "window_expired"


def failure_reason(reason: str, closed: BridgeReason | None = None) -> str:
    """The reason of the failed message. ``reason`` says why no SMS was sent, or what became of the SMS.

    Where it is not known what closed WhatsApp, it was the window.
    """
    return reason if reason in _ALONE else f"{closed or 'window_expired'}_{reason}"
