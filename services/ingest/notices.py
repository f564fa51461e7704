"""Notices of Meta's system about a customer: another number, another BSUID, a number that may be in other hands. No I/O.

Rule 1: ids come from the fields that name them; what is missing there is read from the text, whose last two ids are the old one and the new.
Rule 2: where the sender is named by the new id already, the old one is in the text alone.
Rule 3: what cannot be read is unknown, never guessed: an old number that is not told is ended by the BSUID that went with it.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from libs.common.phone import same_line
from services.ingest.fields import user_id_of, wa_id_of
from services.ingest.understood import Sender

_CHANGES = frozenset({"user_changed_number", "customer_changed_number", "user_changed_user_id"})
_ALARMS = frozenset({"customer_identity_changed", "user_identity_changed"})
_BSUID = re.compile(r"(?<![\w.])[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}(?!\w)", re.ASCII)
_NUMBER = re.compile(r"(?<![\w.])\+?([1-9][0-9]{6,14})(?!\w)", re.ASCII)


class Told(NamedTuple):
    """Whoever was ``before`` is ``now``; ``alarm``: nothing changed but, perhaps, the person."""

    before: Sender
    now: Sender
    alarm: bool


def understand(item: Mapping[str, Any], card: object) -> Told:
    """Who a message of the system's is about."""
    found = item.get("system")
    system: Mapping[str, Any] = found if isinstance(found, dict) else {}
    contact: Mapping[str, Any] = card if isinstance(card, dict) else {}
    kind = system.get("type")
    number = wa_id_of(item.get("from")) or wa_id_of(contact.get("wa_id"))
    bsuid = user_id_of(item.get("from_user_id")) or user_id_of(contact.get("user_id"))
    if bsuid is None and number is None:
        bsuid = user_id_of(item.get("from"))  # seen in the wild: the BSUID under the name of the number
    if kind not in _CHANGES:
        return Told(Sender(number, bsuid), Sender(None, None), kind in _ALARMS)
    text = system.get("body")
    body = text if isinstance(text, str) else ""
    new_number = wa_id_of(system.get("wa_id")) or wa_id_of(system.get("new_wa_id"))
    number = wa_id_of(system.get("customer")) or number  # how Meta named the old one first
    old_number, new_number = _pair(_NUMBER.findall(body), number, new_number, _same_number)
    old = user_id_of(system.get("previous_user_id")) or bsuid
    old_bsuid, new_bsuid = _pair(_BSUID.findall(body), old, user_id_of(system.get("user_id")), str.__eq__)
    return Told(Sender(old_number, old_bsuid), Sender(new_number, new_bsuid), alarm=False)


def _pair(
    in_text: list[str], old: str | None, new: str | None, same: Callable[[str, str], bool]
) -> tuple[str | None, str | None]:
    """The old id and the new; the text completes what the fields do not tell, where it does not contradict them."""
    if old is not None and new is not None and same(old, new):
        old = None
    first, last = in_text[-2:] if len(in_text) > 1 else ("", "")
    if first == last or same(first, last) or (old is not None and new is not None):
        return old, new
    if old is None:
        return (first, last) if new is None or same(new, last) else (None, new)
    if same(old, first):
        return old, last
    return (first, old) if same(old, last) else (old, None)


def _same_number(one: str, other: str) -> bool:
    return same_line(f"+{one}", f"+{other}")
