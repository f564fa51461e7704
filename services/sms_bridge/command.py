"""The command in a row of ``sends``, and what follows from it. Pure."""

from uuid import UUID

from pydantic import ValidationError

from libs.common.events.outbound import SmsCommand
from libs.common.ids import bridge_message_id
from libs.common.sending.rows import SendRow
from services.sms_bridge.compose import Composed, Unwritable, compose, host_of_link


def command_of(row: SendRow) -> SmsCommand | None:
    """The command of the row. None: another release wrote it, and this one cannot read it."""
    try:
        return SmsCommand.model_validate(row.whole_command)
    except ValidationError:
        return None


def is_bridge(row: SendRow) -> bool:
    return row.command.get("route") == "bridge"


def status_message_id(row: SendRow) -> UUID:
    """The message whose status the provider's callbacks report: the bridge, or the message itself."""
    return bridge_message_id(row.message_id) if is_bridge(row) else row.message_id


def link_host(command: SmsCommand, portal_host: str | None) -> str | None:
    """The host of the link in the command's bridge SMS, in lower case as browsers send it. None: there is none."""
    return host_of_link(command.portal_host or portal_host or "")


def bridge_text(command: SmsCommand, portal_host: str | None, code: str) -> Composed | Unwritable:
    """The bridge SMS of a command. ``portal_host`` is for organisations without one of their own."""
    return compose(
        org_name=command.org_name or "",
        whatsapp_number=command.whatsapp_number,
        portal_host=command.portal_host or portal_host or "",
        code=code,
    )
