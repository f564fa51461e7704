"""The command in a row of ``sends``: without what the row has as columns, and whole again for whoever reads it."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from libs.common.events.outbound import WhatsappCommand
from libs.common.sending.rows import NewSend, SendRow

NOW = datetime(2026, 3, 1, tzinfo=UTC)
COMMAND = WhatsappCommand(
    message_id=UUID(int=1),
    attempt=2,
    org_id="acme",
    conversation_id=UUID(int=2),
    sequence=7,
    route="session",
    phone_number_id="106400000000001",
    to="+447700900999",
    content={"kind": "text", "text": "Your Golf is ready.", "caption": None},
    created_at=NOW,
)


def a_row(command: dict[str, Any], conversation_id: UUID = COMMAND.conversation_id) -> SendRow:
    return SendRow(
        COMMAND.org_id,
        COMMAND.message_id,
        COMMAND.attempt,
        conversation_id,
        COMMAND.phone_number_id,
        command,
        "pending",
        NOW,
        NOW + timedelta(days=1),
        NOW,
    )


def test_a_command_is_stored_without_what_its_row_has_and_without_what_it_leaves_open() -> None:
    stored = NewSend.of(COMMAND, COMMAND.phone_number_id).command
    assert set(stored) == {"type", "sequence", "route", "phone_number_id", "to", "named", "content", "created_at"}
    assert stored["content"] == COMMAND.content  # what is sent is stored as it came


@pytest.mark.parametrize(
    "stored", [NewSend.of(COMMAND, COMMAND.phone_number_id).command, COMMAND.model_dump(mode="json")]
)
def test_whoever_reads_a_row_has_the_whole_command_also_of_one_that_was_stored_whole(stored: dict[str, Any]) -> None:
    assert WhatsappCommand.model_validate(a_row(stored).whole_command) == COMMAND


def test_the_conversation_of_a_command_is_the_one_that_its_row_has_moved_to() -> None:
    stored = NewSend.of(COMMAND, COMMAND.phone_number_id).command
    moved = WhatsappCommand.model_validate(a_row(stored, UUID(int=3)).whole_command)
    assert moved.conversation_id == UUID(int=3)
