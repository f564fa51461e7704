"""Why a record cannot be understood, in one word."""

import pytest

from libs.common.errors import Undecodable
from libs.common.events.base import Event
from libs.common.events.outbound import OutboundRefused, SmsCommand, WhatsappCommand


@pytest.mark.parametrize("event", [OutboundRefused, SmsCommand, WhatsappCommand])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "empty"),
        (b"", "empty"),
        (b"\xff", "not_utf8"),
        (b"{", "not_json"),
        (b"[]", "not_an_object"),
        (b'{"type": "outbound.nonsense.v9"}', "unknown_type"),
        (b"{}", "bad_fields"),
    ],
)
def test_a_record_of_another_kind_is_told_from_one_with_bad_fields(
    event: type[Event], value: bytes | None, reason: str
) -> None:
    with pytest.raises(Undecodable) as found:
        event.decode(value)
    assert found.value.reason == reason
