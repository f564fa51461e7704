"""Commands from ``outbound.sms.v1`` become rows; everything else happens to the rows (``libs.common.sending``)."""

from collections.abc import Sequence

from libs.common.events.outbound import SmsCommand
from libs.common.sanitize import sanitize
from libs.common.sending.rows import NewSend


def as_sends(commands: Sequence[SmsCommand]) -> list[NewSend]:
    """One row per command. The org's own number is what is throttled together."""
    return [
        NewSend(
            org_id=command.org_id,
            message_id=command.message_id,
            attempt=command.attempt,
            conversation_id=command.conversation_id,
            sequence=command.sequence,
            account=command.from_number,
            command=sanitize(command.model_dump(mode="json")),
            expires_at=command.expires_at,
        )
        for command in commands
    ]
