"""Meta's notices about customers' ids and about templates. Pure.

About ids: another number, another BSUID, a number that may be in other hands.

Rule 1: ids come from the fields that name them. What is missing there is read from the text, whose last two ids are the
        old one and the new.
Rule 2: where the sender is named by the new id already, the old one is in the text alone.
Rule 3: what cannot be read is unknown, never guessed. An old number that is not named is ended by the BSUID that went
        with it.

About templates: words come in either case. A word that is not known here changes nothing, because Meta invents new
ones; the template is read from Meta then. Source: Meta, webhooks message_template_status_update,
message_template_quality_update, message_template_components_update, template_category_update.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from libs.common.directory.reports import TemplateNews
from libs.common.errors import Undecodable
from libs.common.phone import same_line
from services.ingest.fields import user_id_of, wa_id_of
from services.ingest.items import Sender

TEMPLATE_FIELDS: Mapping[str, Literal["status", "category", "quality", "components"]] = {
    "message_template_status_update": "status",
    "template_category_update": "category",
    "message_template_quality_update": "quality",
    "message_template_components_update": "components",
}

_APPROVED = frozenset({"APPROVED", "REINSTATED", "UNPAUSED", "UNPAUSE", "UNARCHIVED"})
_NOT_SENDABLE = frozenset(
    {
        *("PENDING", "REJECTED", "PAUSED", "DISABLED", "IN_APPEAL", "LIMIT_EXCEEDED", "ARCHIVED"),
        *("PENDING_DELETION", "DELETED", "LOCKED"),
    }
)  # FLAGGED is a warning: the template can be used
_CATEGORIES = frozenset({"UTILITY", "MARKETING", "AUTHENTICATION"})
_QUALITIES = frozenset({"GREEN", "YELLOW", "RED", "UNKNOWN"})
_MAX_REASON = 200

_CHANGES = frozenset({"user_changed_number", "customer_changed_number", "user_changed_user_id"})
_ALARMS = frozenset({"customer_identity_changed", "user_identity_changed"})
_BSUID = re.compile(r"(?<![\w.])[A-Z]{2}\.(?:ENT\.)?[A-Za-z0-9]{1,128}(?!\w)", re.ASCII)
_NUMBER = re.compile(r"(?<![\w.])\+?([1-9][0-9]{6,14})(?!\w)", re.ASCII)


class IdNotice(NamedTuple):
    """The person behind ``before`` has the ids ``now``; ``alarm``: nothing changed but, perhaps, the person."""

    before: Sender
    now: Sender
    alarm: bool


def read_id_notice(item: Mapping[str, Any], card: object) -> IdNotice:
    """Whom a message of the system is about."""
    found = item.get("system")
    system: Mapping[str, Any] = found if isinstance(found, dict) else {}
    contact: Mapping[str, Any] = card if isinstance(card, dict) else {}
    kind = str(system.get("type"))
    number = wa_id_of(item.get("from")) or wa_id_of(contact.get("wa_id"))
    bsuid = user_id_of(item.get("from_user_id")) or user_id_of(contact.get("user_id"))
    if bsuid is None and number is None:
        bsuid = user_id_of(item.get("from"))  # seen in the wild: the BSUID under the name of the number
    if kind not in _CHANGES:
        return IdNotice(Sender(number, bsuid), Sender(None, None), kind in _ALARMS)
    text = system.get("body")
    body = text if isinstance(text, str) else ""
    new_number = wa_id_of(system.get("wa_id")) or wa_id_of(system.get("new_wa_id"))
    number = wa_id_of(system.get("customer")) or number  # how Meta named the old one first
    old_number, new_number = _pair(_NUMBER.findall(body), number, new_number, _same_number)
    old = user_id_of(system.get("previous_user_id")) or bsuid
    old_bsuid, new_bsuid = _pair(_BSUID.findall(body), old, user_id_of(system.get("user_id")), str.__eq__)
    return IdNotice(Sender(old_number, old_bsuid), Sender(new_number, new_bsuid), alarm=False)


def _pair(
    in_text: list[str], old: str | None, new: str | None, same: Callable[[str, str], bool]
) -> tuple[str | None, str | None]:
    """The old id and the new; the text completes what the fields do not name, where it does not contradict them."""
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


def read_template_news(waba_id: str | None, field: str, item: Mapping[str, Any], received_at: datetime) -> TemplateNews:
    """The news in a webhook. Raises Undecodable where it names no template."""
    name, language = item.get("message_template_name"), item.get("message_template_language")
    if waba_id is None or not isinstance(name, str) or not isinstance(language, str):
        raise Undecodable("bad_change", "the webhook names no account, no template or no language")
    news = TemplateNews(waba_id, name, language, TEMPLATE_FIELDS[field], None, _at(item, received_at))
    match news.kind:
        case "status":
            return news._replace(word=_status(item), reason=_reason(item))
        case "category":
            return news._replace(word=_known(item.get("new_category"), _CATEGORIES))  # none in a notice of what will be
        case "quality":
            return news._replace(word=_known(item.get("new_quality_score"), _QUALITIES))
        case "components":
            return news._replace(components=_components(item))


def _status(item: Mapping[str, Any]) -> str | None:
    info = item.get("other_info")
    title = _upper(info.get("title")) if isinstance(info, dict) else None
    event = _upper(item.get("event"))
    if event in _APPROVED or title in _APPROVED:
        return "APPROVED"
    return event if event in _NOT_SENDABLE else None


def _reason(item: Mapping[str, Any]) -> str | None:
    """Why: of a rejection Meta's word for it, of a pause which one it is."""
    info = item.get("other_info")
    for found in (item.get("reason"), info.get("title") if isinstance(info, dict) else None):
        word = _upper(found)
        if word and word != "NONE":
            return word[:_MAX_REASON]
    return None


def _components(item: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Header, body and footer as they are now. Of the buttons the webhook names only some, so none are taken."""
    body, header, footer = (item.get(f"message_template_{name}") for name in ("element", "title", "footer"))
    if not isinstance(body, str):
        return None
    found: list[dict[str, Any]] = [{"type": "BODY", "text": body}]
    if isinstance(header, str) and header:
        found.insert(0, {"type": "HEADER", "format": "TEXT", "text": header})
    if isinstance(footer, str) and footer:
        found.append({"type": "FOOTER", "text": footer})
    return found


def _known(value: object, words: frozenset[str]) -> str | None:
    word = _upper(value)
    return word if word in words else None


def _upper(value: object) -> str | None:
    return value.strip().upper() if isinstance(value, str) else None


def _at(item: Mapping[str, Any], received_at: datetime) -> datetime:
    """Meta's time of the news, never later than its receipt: a wrong clock must not outlive what we learn ourselves."""
    at = item.get("entry_time")
    if isinstance(at, bool) or not isinstance(at, int | float) or not 0 < at < received_at.timestamp():
        return received_at
    return datetime.fromtimestamp(at, tz=UTC)
