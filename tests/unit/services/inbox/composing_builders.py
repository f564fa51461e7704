"""Situations and templates that are in order by default."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.inbox.composing import Situation
from services.inbox.picker import PickTemplate

NOW = datetime(2026, 11, 25, 14, 8, tzinfo=UTC)


def a_situation(**changes: Any) -> Situation:
    """An open window, an active portal, an SMS possible."""
    base = Situation(
        now=NOW,
        may_send=True,
        window="open",
        window_open=True,
        closes_at=NOW + timedelta(hours=20),
        length=timedelta(hours=24),
        last_channel="whatsapp",
        last_at=NOW - timedelta(hours=4),
        portal="active",
        portal_at=NOW - timedelta(days=1),
        obstacle=None,
    )
    return replace(base, **changes)


def expired(**changes: Any) -> Situation:
    """The window has closed an hour ago."""
    closed: dict[str, Any] = {
        "window": "expired",
        "window_open": False,
        "closes_at": NOW - timedelta(hours=1),
        "last_at": NOW - timedelta(hours=25),
    }
    return a_situation(**(closed | changes))


def a_template(name: str = "decision_needed", **changes: Any) -> PickTemplate:
    """Approved, English, with two named places."""
    body = {
        "type": "BODY",
        "text": "Hi {{customer_name}}, we need your decision on your {{vehicle}}.",
        "example": {"body_text_named_params": [{"param_name": "vehicle", "example": "VW Golf"}]},
    }
    base: dict[str, Any] = {
        "name": name,
        "language": "en_GB",
        "category": "UTILITY",
        "status": "APPROVED",
        "parameter_format": "NAMED",
        "components": [body],
    }
    return PickTemplate(**(base | changes))
