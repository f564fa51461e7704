"""Lets what follows a file wait until WhatsApp is likely to have delivered the file.

Meta takes calls in order and delivers a small text before the picture that was sent before it: "order is not
guaranteed". So a text that is decided right after a file of the same conversation is not sent before ``WAIT`` is over.

Rule 1: a file waits for no file: an album goes as fast as it can. Only what is no file waits, and by that whatever
        comes behind it in its conversation. A file behind it goes when it goes, and what follows waits from then on.
Rule 2: nothing waits beyond its own expiry, or into the last ``WAIT`` of its window: what is behind it has to go, too.
Rule 3: the state is this process's alone, and lasts for ``WAIT``. The records of a conversation come to one router,
        save for the moments of a rebalance. Then a text may overtake its picture, as Meta allows itself.

Source: https://developers.facebook.com/docs/whatsapp/cloud-api/guides/send-messages.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from libs.common.events.content import OutMedia
from libs.common.events.intents import Intent
from services.router.decide import Decision, Session, Template
from services.router.facts import Attempt

WAIT: Final = timedelta(seconds=4)
_FILES: Final = frozenset({"image", "video", "document"})


class _File(NamedTuple):
    """When the latest file of a conversation goes, and when the next one would go behind it."""

    at: datetime
    next_at: datetime


Files = dict[tuple[str, UUID], _File]


class MediaOrder:
    """The conversations in which a file was decided to be sent within ``WAIT``, or later."""

    def __init__(self) -> None:
        self._files: Files = {}

    def arrange(self, attempts: Sequence[Attempt], decisions: Sequence[Decision], now: datetime) -> Files:
        """Set ``not_before`` of what follows a file. The attempts are in their order within each conversation.

        Returns what ``keep`` takes once the decisions are recorded. A batch that comes again before waits no longer.
        """
        files: Files = {}
        for attempt, decision in zip(attempts, decisions, strict=True):
            thread = attempt.facts.conversation_id
            if thread is None or decision.channel != "whatsapp":
                continue
            key = (attempt.intent.org_id, thread)
            file = files.get(key) or self._files.get(key)
            if _is_file(attempt, decision):
                at = now if file is None else max(now, file.next_at)
                files[key] = _File(at, at)
            elif file is not None and now < (until := file.at + WAIT) and _may_wait(attempt, decision, until):
                attempt.not_before = until
                files[key] = _File(file.at, until)
        return files

    def keep(self, files: Files, now: datetime) -> None:
        """Add these, and forget what is over."""
        self._files = {key: file for key, file in (self._files | files).items() if file.at + WAIT > now}


def _is_file(attempt: Attempt, decision: Decision) -> bool:
    match decision:
        case Template(template=template):
            return template.header is not None and str(template.header.get("type")).lower() in _FILES
        case Session():
            return isinstance(attempt.intent, Intent) and isinstance(attempt.intent.content, OutMedia)
        case _:
            return False


def _may_wait(attempt: Attempt, decision: Decision, until: datetime) -> bool:
    intent = attempt.intent
    if isinstance(intent, Intent) and intent.expires_at is not None and intent.expires_at <= until:
        return False
    return isinstance(decision, Template) or attempt.facts.open(until + WAIT)
