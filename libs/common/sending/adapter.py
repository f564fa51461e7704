"""The contract between the engine and a channel. WhatsApp and SMS implement it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from libs.common.db.pool import Connection
from libs.common.ids import SendKey
from libs.common.providers import Provider, Transport
from libs.common.sending.outcomes import Evidence, PreparedT, SendOutcome, Verdict
from libs.common.sending.rows import Claim, PendingEvents, SendRow, Settled


class ProviderAdapter(Protocol[PreparedT]):
    """The adapter of one channel. ``transport`` takes its new sends.

    ``evidence_of``: the providers that can be asked what became of a call. A claim that another provider took is left
    to processes that can ask it.

    A method that takes ``db`` runs inside the engine's transaction, in which the rows of ``sends`` are locked already.
    It makes no network call and lets errors of PostgreSQL escape.
    """

    transport: Transport
    evidence_of: tuple[Provider, ...]

    async def judge(
        self, db: Connection, rows: Sequence[SendRow], now: datetime, *, stored: bool
    ) -> Mapping[SendKey, Verdict[PreparedT]]:
        """The gate: a verdict for every row, on facts read afresh in this transaction.

        ``stored``: the rows come from the table, where another release may have put them. Otherwise their commands were
        read from Kafka just now.

        Expiry and pauses were checked before. The gate is total: for an odd row it refuses and raises nothing.
        """

    async def call(self, claim: Claim[PreparedT]) -> SendOutcome:
        """Call the provider. The call ends within the timeout and raises nothing."""

    async def answers(self, claim: Claim[PreparedT]) -> bool:
        """Whether the provider answers a read about the sender, which can send nothing. Ends and raises as ``call``.

        False: had it been a call, the outcome would be open. A refusal is an answer.
        """

    async def learn_recipients(
        self, db: Connection, answers: Sequence[tuple[Claim[PreparedT], SendOutcome]], now: datetime
    ) -> None:
        """Bind the ids by which the answers name the recipients.

        The engine calls this first in the transaction that records the answers, before any row is locked.
        """

    async def apply_effects(
        self, db: Connection, settled: Sequence[Settled], now: datetime
    ) -> Mapping[SendKey, PendingEvents]:
        """Store the effects of the end of these sends, in the transaction that ends them. Returns the events of each.

        Accepted sends have provider ids. Keys of sends without events may be left out.
        """

    async def keep_evidence(self, db: Connection, late: Sequence[Settled], now: datetime) -> None:
        """Store the provider ids of acceptances whose claim was lost, as evidence. They have no effect yet."""

    async def find_evidence(self, rows: Sequence[SendRow], now: datetime) -> Mapping[SendKey, Evidence]:
        """Evidence for calls whose answer was lost. Called outside of any transaction; may ask the provider."""

    async def committed(self, settled: Sequence[Settled]) -> None:
        """Bring state outside of PostgreSQL in line, after the commit of ``apply_effects``.

        Best effort; raises nothing.
        """
