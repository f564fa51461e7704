"""What the core asks of a provider's side. Two stand behind it: WhatsApp and SMS."""

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

    Everything that takes ``db`` runs inside the core's transaction, in which the rows of ``sends`` are locked already;
    nothing there may speak to the network. Failures of PostgreSQL are left to escape.
    """

    transport: Transport
    evidence_of: tuple[Provider, ...]

    async def judge(
        self, db: Connection, rows: Sequence[SendRow], now: datetime
    ) -> Mapping[SendKey, Verdict[PreparedT]]:
        """The gate: a verdict for every row, on facts read afresh in this transaction.

        Expiry and pauses have been looked at already.

        Must be total: an odd row is refused, not raised about.
        """

    async def call(self, claim: Claim[PreparedT]) -> SendOutcome:
        """The provider call. Ends within the timeout, raises nothing."""

    async def learn_recipients(
        self, db: Connection, answers: Sequence[tuple[Claim[PreparedT], SendOutcome]], now: datetime
    ) -> None:
        """Whom the answers name as recipients.

        Called first in the transaction that records them: no row is locked yet.
        """

    async def apply_effects(
        self, db: Connection, settled: Sequence[Settled], now: datetime
    ) -> Mapping[SendKey, PendingEvents]:
        """Everything that follows from the end of these sends, in the transaction that ends them.

        For accepted sends provider ids are stored; rerouted and refused ones have their effects. Keys without news may
        be left out.
        """

    async def keep_evidence(self, db: Connection, late: Sequence[Settled], now: datetime) -> None:
        """Store the provider ids of acceptances whose claim was lost, as evidence. No effect follows yet."""

    async def find_evidence(self, rows: Sequence[SendRow], now: datetime) -> Mapping[SendKey, Evidence]:
        """Evidence for calls whose answer was lost. Outside of any transaction: may ask the provider."""

    async def committed(self, settled: Sequence[Settled]) -> None:
        """After the commit of ``apply_effects``: what lives outside of PostgreSQL is brought in line.

        Best effort, raises nothing.
        """
