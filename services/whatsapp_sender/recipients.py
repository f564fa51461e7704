"""Binds the ids by which Meta's answers name recipients to their customers, before the answers are recorded.

Rule 1: an answer with the ids that the gate has read causes no statement.
Rule 2: a failed binding harms no message: it is logged. Statuses bind an id that the send did not go to.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from libs.common.db.pool import Connection
from libs.common.directory.identities import Binding, bind
from libs.common.logging import get_logger
from libs.common.retryable import is_retryable
from libs.common.sending.outcomes import Accepted, SendOutcome
from libs.common.sending.rows import Claim, SendRow
from services.whatsapp_sender import queries
from services.whatsapp_sender.gate import Ready

log = get_logger()


async def learn(db: Connection, answers: Iterable[tuple[Claim[Ready], SendOutcome]], now: datetime) -> None:
    """Bind number, wa_id and BSUID of each recipient that an answer names by a new id.

    Call in a transaction that holds no rows yet.
    """
    accepted_rows = [
        (claim.row, outcome)
        for claim, outcome in answers
        if isinstance(outcome, Accepted) and _is_news(outcome, claim.prepared)
    ]
    if not accepted_rows:
        return
    try:
        async with db.transaction():
            await _bind(db, accepted_rows, now)
    except Exception as error:
        if is_retryable(error):
            raise
        log.exception("task.failed", task="bind")


async def _bind(db: Connection, accepted_rows: Sequence[tuple[SendRow, Accepted]], now: datetime) -> None:
    customers = await queries.customers_of(db, [(row.org_id, row.conversation_id) for row, _ in accepted_rows])
    await bind(
        db,
        [
            Binding(
                org_id=row.org_id,
                phone_number_id=row.account,
                customer_id=customer_id,
                wa_id=accepted.wa_id,
                bsuid=accepted.bsuid or row.command.get("recipient"),
                phone=row.command.get("to"),
                at=row.claimed_at or now,
                source="answer",
            )
            for (row, accepted), customer_id in zip(accepted_rows, customers, strict=True)
        ],
        now,
    )


def _is_news(accepted: Accepted, known: Ready) -> bool:
    return accepted.wa_id not in (None, known.wa_id) or accepted.bsuid not in (None, known.bsuid)
