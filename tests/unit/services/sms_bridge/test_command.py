"""The command in a row of ``sends``, and what follows from it."""

from typing import Any
from uuid import UUID

import pytest

from libs.common.bridge.link_codes import MASKED_CODE
from libs.common.events.outbound import SmsCommand
from libs.common.ids import bridge_message_id
from libs.common.sending.rows import SendRow
from services.sms_bridge.command import bridge_text, command_of, is_bridge, link_host, status_message_id
from services.sms_bridge.compose import Composed, Unwritable
from tests.unit.libs.common.sending.builders import NOW, a_row

CODE = "k3JxP9wTq2L"
COMMAND: dict[str, Any] = {
    "sequence": 7,
    "route": "bridge",
    "from_number": "+447700900001",
    "to": "+447700900999",
    "bridge_reason": "window_expired",
    "org_name": "AcmeMotors",
    "whatsapp_number": "+447700900123",
    "created_at": NOW.isoformat(),
}


def of(**changes: Any) -> SendRow:
    return a_row()._replace(command=COMMAND | changes)


def command(**changes: Any) -> SmsCommand:
    found = command_of(of(**changes))
    assert found is not None
    return found


def test_the_command_has_the_keys_of_its_row() -> None:
    row = of()
    found = command()
    assert (found.org_id, found.message_id, found.attempt) == row.key
    assert (found.conversation_id, found.to, found.segments) == (row.conversation_id, "+447700900999", 1)


@pytest.mark.parametrize("changes", [{"route": "carrier_pigeon"}, {"to": None}, {"sequence": -1}])
def test_a_command_of_another_release_may_be_unreadable(changes: dict[str, Any]) -> None:
    assert command_of(of(**changes)) is None


def test_callbacks_report_the_bridge_or_the_message_itself() -> None:
    assert (is_bridge(of()), is_bridge(of(route="session")), is_bridge(a_row()._replace(command={}))) == (
        True,
        False,
        False,
    )
    assert status_message_id(of()) == bridge_message_id(UUID(int=1)) != UUID(int=1)
    assert status_message_id(of(route="session")) == UUID(int=1)


@pytest.mark.parametrize(
    ("own", "platforms", "host"),
    [
        ("tflow.link", "https://portal.example", "tflow.link"),
        ("TFlow.Link", None, "tflow.link"),
        (None, "https://portal.example", "portal.example"),
        (None, "https://Portal.example", "portal.example"),
        (None, None, None),
        ("no host", "https://portal.example", None),
    ],
)
def test_a_link_has_the_host_of_the_organisation_before_that_of_all(
    own: str | None, platforms: str | None, host: str | None
) -> None:
    found = command(portal_host=own)
    assert link_host(found, platforms) == host
    text = bridge_text(found, platforms, CODE)
    if host is None:
        assert text == Unwritable("portal_host_unusable")
    else:
        assert isinstance(text, Composed)
        assert text.text == f"AcmeMotors: Update for you. WhatsApp: wa.me/447700900123 Portal: {host}/{CODE}"
        assert CODE not in text.masked


def test_a_bridge_without_name_and_number_has_the_portal_alone() -> None:
    found = command(org_name=None, whatsapp_number=None, portal_host="tflow.link")
    head = "Update for you. Portal: tflow.link/"
    assert bridge_text(found, None, CODE) == Composed(head + CODE, head + MASKED_CODE)
