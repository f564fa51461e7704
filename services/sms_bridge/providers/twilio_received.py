"""Customers' SMS in Twilio's Messages list, as Twilio's callbacks would have brought them. Pure.

The list shows no ``OptOutType``: an opt-out by a word that a Messaging Service has for itself is not known from it.

Source: https://www.twilio.com/docs/messaging/api/message-resource and
https://www.twilio.com/docs/messaging/api/media-resource.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from services.sms_bridge.providers import ListUnavailable, ReceivedSms, shows_number

_MOST_FILES = 10
_MASKED = re.compile(r"\+?[0-9]+[^0-9].*", re.DOTALL)


def read_received(body: Mapping[str, Any], number: str) -> list[ReceivedSms]:
    """The customers' SMS to this number on one page of the list.

    Left out: what the account itself sent, what came by another channel, and what is still being received. Raises
    ``ListUnavailable`` where an entry is no record, or one of these has no date.
    """
    found = []
    for item in body.get("messages") or ():
        if not isinstance(item, dict):
            raise ListUnavailable("the SMS provider's list has an entry that is no record")
        sid, sender, to = text_of(item, "sid"), text_of(item, "from"), text_of(item, "to")
        if not sid or not sender or item.get("direction") != "inbound" or item.get("status") == "receiving":
            continue
        if ":" in sender or ":" in (to or ""):
            continue
        files = text_of(item, "num_media") or "0"
        form = {
            "MessageSid": sid,
            "AccountSid": text_of(item, "account_sid") or "",
            "From": sender,
            "To": to if to and shows_number(to, number) else number,
            "Body": text_of(item, "body") or "",
            "NumMedia": files,
        }
        has_files = files.isascii() and files.isdigit() and int(files) > 0
        masked = _MASKED.fullmatch(sender) is not None
        found.append(ReceivedSms(sid, _came_at(item), form, has_files=has_files, masked=masked))
    return found


def files_of(media: Sequence[Any], base_url: str) -> dict[str, str]:
    """The fields of the callback that name these entries of a message's list of files, as Twilio numbers them."""
    found: dict[str, str] = {}
    for number, item in enumerate(media[:_MOST_FILES]):
        if isinstance(item, dict) and (uri := text_of(item, "uri")) and uri.startswith("/"):
            found[f"MediaUrl{number}"] = base_url + uri.removesuffix(".json")
            found[f"MediaContentType{number}"] = text_of(item, "content_type") or ""
    return found


def text_of(item: Mapping[str, object], name: str) -> str | None:
    """The field of a record, None where it holds no text."""
    value = item.get(name)
    return value if isinstance(value, str) else None


def _came_at(item: Mapping[str, object]) -> datetime:
    try:
        date = parsedate_to_datetime(text_of(item, "date_sent") or text_of(item, "date_created") or "")
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ListUnavailable("the SMS provider's list has a customer's SMS without a date") from None
