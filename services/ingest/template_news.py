"""Meta's webhooks about templates, understood. Pure.

Source: https://developers.facebook.com/docs/whatsapp/business-management-api/webhooks/components. Words come in either case; a word that is not known
here changes nothing, because Meta invents new ones.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from libs.common.directory.reports import TemplateNews

STATUS = "message_template_status_update"
CATEGORY = "template_category_update"

_APPROVED = frozenset({"APPROVED", "REINSTATED", "UNPAUSED", "UNPAUSE", "UNARCHIVED"})
_NOT_SENDABLE = frozenset(
    {
        *("PENDING", "REJECTED", "PAUSED", "DISABLED", "IN_APPEAL", "LIMIT_EXCEEDED", "ARCHIVED"),
        *("PENDING_DELETION", "DELETED", "LOCKED"),
    }
)  # FLAGGED is a warning: the template can be used
_CATEGORIES = frozenset({"UTILITY", "MARKETING", "AUTHENTICATION"})


def read(waba_id: str | None, field: str, item: Mapping[str, Any], received_at: datetime) -> TemplateNews | None:
    """The news in a webhook; None where it changes nothing."""
    name, language = item.get("message_template_name"), item.get("message_template_language")
    if waba_id is None or not isinstance(name, str) or not isinstance(language, str):
        return None
    kind: Literal["status", "category"] = "status" if field == STATUS else "category"
    word = _status(item) if kind == "status" else _category(item)
    return None if word is None else TemplateNews(waba_id, name, language, kind, word, _at(item, received_at))


def _status(item: Mapping[str, Any]) -> str | None:
    info = item.get("other_info")
    title = _upper(info.get("title")) if isinstance(info, dict) else None
    event = _upper(item.get("event"))
    if event in _APPROVED or title in _APPROVED:
        return "APPROVED"
    return event if event in _NOT_SENDABLE else None


def _category(item: Mapping[str, Any]) -> str | None:
    """A notice of what will change (``correct_category``) names no new category yet."""
    word = _upper(item.get("new_category"))
    return word if word in _CATEGORIES else None


def _upper(value: object) -> str | None:
    return value.strip().upper() if isinstance(value, str) else None


def _at(item: Mapping[str, Any], received_at: datetime) -> datetime:
    """Meta's time of the news, never later than we had it: a wrong clock of theirs must not outlive what we learn ourselves."""
    told = item.get("entry_time")
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 < told < received_at.timestamp():
        return received_at
    return datetime.fromtimestamp(told, tz=UTC)
