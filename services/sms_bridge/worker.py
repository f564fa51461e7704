"""Commands become rows; everything else happens to the rows (``libs.common.sending``)."""

from collections.abc import Sequence
from dataclasses import dataclass

from libs.common.events.outbound import SmsCommand
from libs.common.kafka.records import Received
from libs.common.sending.engine import SendEngine
from libs.common.sending.rows import NewSend
from services.sms_bridge.providers import OutgoingSms


@dataclass(frozen=True, slots=True)
class Deps:
    engine: SendEngine[OutgoingSms]


async def on_commands(batch: Sequence[Received[SmsCommand]], deps: Deps) -> None:
    """Store each command once. A command that comes again finds its row."""
    await deps.engine.accept([new_send(received.value) for received in batch])


def new_send(command: SmsCommand) -> NewSend:
    """The row that a command becomes. The organisation's own number throttles as one."""
    return NewSend.of(command, command.from_number)
