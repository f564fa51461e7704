from datetime import UTC, datetime
from uuid import UUID

from libs.common.sending.rows import StatusLine
from libs.common.sending.status_effects import told_of
from libs.common.thread.message_status import Failed, MessageState, Reached, advance
from libs.common.thread.messages import LockedMessage, delivery_update

AT = datetime(2026, 3, 1, tzinfo=UTC)


def told(message: LockedMessage, status: str) -> StatusLine:
    update = delivery_update(message)
    assert update is not None
    return told_of(message, update, status, is_new=True)


def test_a_status_that_comes_after_a_failure_is_told_without_the_failure_s_reason_and_code() -> None:
    failed = advance(MessageState("pending", 1), Failed(1, "provider_refused", "131026", AT))
    message = LockedMessage("acme", UUID(int=1), "(0,1)", UUID(int=2), "whatsapp", None, failed, failed)
    line = told(message, "failed")
    assert (line.status, line.reason, line.provider_code) == ("failed", "provider_refused", "131026")
    message.state = advance(failed, Reached(1, "sent", AT))
    assert message.state is not failed
    line = told(message, "sent")
    assert (line.status, line.reason, line.provider_code, line.outcome) == ("sent", None, None, "moved")
