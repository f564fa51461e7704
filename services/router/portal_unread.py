"""Answers that were given in the portal and stay unread are decided again, as if the portal were not live.

Rule 1: an answer in the portal has no send. A row of ``portal_answers`` represents it until it is over.
Rule 2: a row is over when its message was read, or is at another attempt. It is deleted in the transaction that refuses
        its answer, so a kill at any point refuses it once.
Rule 3: ``reconcile`` decides on the refusal, as on all that wait. A message that is read before is left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from libs.common.events.outbound import OutboundRefused
from libs.common.logging import get_logger
from libs.common.periodic import Task
from libs.common.sending import refusals
from services.router import portal_unread_queries as queries
from services.router.portal_unread_queries import PortalAnswer
from services.router.worker import Deps

log = get_logger()

DEFAULT_MINUTES = 30
LEAST_MINUTES, MOST_MINUTES = 1 / 60, 7 * 24 * 60  # a second, a week
SLICE = 500
ROUNDS = 20
"""The most slices in one round."""


@dataclass(frozen=True, slots=True)
class UnreadAnswers:
    """``after``: how long refusals wait before the reconciler decides on them."""

    deps: Deps
    after: timedelta

    @property
    def tasks(self) -> Mapping[str, Task]:
        return {"portal.unread": (self.after / 12, self.refuse)}

    async def refuse(self) -> None:
        """Look at the answers that are due."""
        for _round in range(ROUNDS):
            now = self.deps.now()
            async with self.deps.pool.acquire() as db, db.transaction():
                answers = await queries.take(db, now, SLICE)
                waiting = {a.key: due_at(a) for a in answers if a.is_unread and now < due_at(a)}
                unread = [a for a in answers if a.is_unread and a.key not in waiting]
                await queries.postpone(db, list(waiting.items()))
                await queries.forget(db, [a.key for a in answers if a.key not in waiting])
                await refusals.keep(db, [_refusal(answer, now) for answer in unread], now - self.after)
            for answer in unread:
                log.info(
                    "send.refused",
                    org_id=answer.org_id,
                    conversation_id=str(answer.conversation_id),
                    intent_id=str(answer.message_id),
                    attempt=answer.attempt,
                    channel="portal",
                    reason="portal_unread",
                )
            if len(answers) < SLICE:
                return


def unread_after(minutes: str | None) -> timedelta:
    """How long an answer may be unread: so many minutes. Without a number, or with one out of bounds, 30."""
    number = DEFAULT_MINUTES if minutes is None else float(minutes)
    return timedelta(minutes=number if LEAST_MINUTES <= number <= MOST_MINUTES else DEFAULT_MINUTES)


def due_at(answer: PortalAnswer) -> datetime:
    """When the answer has been unread for too long."""
    return answer.answered_at + unread_after(answer.minutes)


def _refusal(answer: PortalAnswer, now: datetime) -> OutboundRefused:
    return OutboundRefused.of(answer.key, answer.conversation_id, "portal_unread", now)
