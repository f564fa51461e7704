"""Echoes: what staff wrote in the WhatsApp Business app, on a number that is used there and here. Pure.

Rule 1: an echo has the content that the same message of a customer would have. An edit or a revocation is
        ``unsupported`` under Meta's own type, as a customer's is.
Rule 2: an echo opens no window and extends none, by Meta's own word.
Rule 3: what staff wrote to a group, or to their own number, is ignored.

Source: Meta, "Webhooks, smb_message_echoes".
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from libs.common.errors import Undecodable
from services.ingest import content
from services.ingest.fields import (
    Cards,
    business_number,
    echo_fields,
    instant_of,
    is_own_number,
    item_id,
    person_of,
    waba_of,
)
from services.ingest.items import Ignored, StaffEcho, StaffEchoes


def read_echoes(webhook: Mapping[str, Any], item: Mapping[str, Any], received_at: datetime) -> StaffEchoes | Ignored:
    """The echoes of a change. Raises Undecodable."""
    listed = item.get("message_echoes")
    if not isinstance(listed, list) or not listed:
        raise Undecodable("bad_change", "its echoes are no list, or none")
    metadata, cards = item.get("metadata"), Cards(item.get("contacts"), len(listed))
    found = []
    for echo in listed:
        if not isinstance(echo, dict):
            raise Undecodable("bad_item", "the echo is not an object")
        number, bsuid = echo_fields(echo, metadata)
        if echo.get("group_id") or is_own_number(echo.get(number), metadata):
            continue
        card = webhook.get("contact") or cards.of(
            {"recipient_id": echo.get(number), "recipient_user_id": echo.get(bsuid)}
        )
        customer = person_of(echo, card, number=number, bsuid=bsuid)
        if customer is None:
            raise Undecodable("no_sender", "the echo names no customer")
        said = content.stored(echo)
        said.pop("keyword", None)  # that is a customer's word
        found.append(
            StaffEcho(
                phone_number_id=business_number(webhook),
                sender=customer,
                provider_id=item_id(echo),
                content=said,
                reply_to=content.reply_to(echo),
                at=instant_of(echo, received_at),
                received_at=received_at,
            )
        )
    return StaffEchoes(business_number(webhook), tuple(found), waba_of(webhook)) if found else Ignored("echo")
