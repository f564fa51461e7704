"""Stores commands as rows, from which they are sent. So a waiting message never blocks a partition."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from libs.common.events.base import misfit
from libs.common.events.outbound import WhatsappCommand
from libs.common.kafka.records import RawRecord, Received
from libs.common.sending.engine import SendEngine
from libs.common.sending.rows import NewSend
from services.whatsapp_sender.adapter import CONTENT
from services.whatsapp_sender.gate import Ready


@dataclass(frozen=True, slots=True)
class Deps:
    engine: SendEngine[Ready]


def decode_command(record: RawRecord) -> WhatsappCommand:
    """The command in a record; its content is validated too. Raises Undecodable."""
    command = WhatsappCommand.decode(record.value)
    try:
        CONTENT.validate_python(command.content)
    except ValidationError as error:
        raise misfit(error, "content: ") from None
    return command


async def on_commands(batch: Sequence[Received[WhatsappCommand]], deps: Deps) -> None:
    """Store each command once. A redelivered command finds its row."""
    await deps.engine.accept([new_send(received.value) for received in batch])


def new_send(command: WhatsappCommand) -> NewSend:
    """The row of a command. Meta throttles a business number as one account."""
    is_template = command.route == "template"
    return NewSend.of(command, command.phone_number_id, template=is_template, not_before=command.not_before)
