"""The adapter between the sending core and an SMS provider. Gate, effects and evidence are modules of their own.

The gate composes the text, because the code of its link is stored before the SMS leaves. A customer may open the link
before the send is recorded.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from libs.common.bridge.link_codes import LinkCode, LinkCodes
from libs.common.bridge.redis_gate import RedisGate
from libs.common.db.pool import Connection, Pool
from libs.common.directory.sms_stops import share_lines
from libs.common.events.outbound import SmsCommand
from libs.common.gsm7 import economical
from libs.common.ids import SendKey, callback_data
from libs.common.logging import get_logger
from libs.common.providers import Provider, Transport
from libs.common.sending.outcomes import (
    Allowed,
    Confirmed,
    Denied,
    Evidence,
    Inconclusive,
    NotSent,
    NotYet,
    Refused,
    SendOutcome,
    Verdict,
)
from libs.common.sending.resending import ResendRounds, given_up
from libs.common.sending.rows import Claim, PendingEvents, SendRow, Settled
from libs.common.sending.statuses import keep_provider_ids
from services.sms_bridge import effects, evidence_queries, queries, search
from services.sms_bridge.command import bridge_text, command_of, is_bridge, link_host, status_message_id
from services.sms_bridge.compose import Unwritable
from services.sms_bridge.effects import BridgeConfig, provider_ids, slot_outcomes
from services.sms_bridge.gate import GateFacts, refusal_reason
from services.sms_bridge.providers import OutgoingSms, SmsProvider

log = get_logger()

CALLS_AT_ONCE = 160  # of one number at most 128
_LONGEST_VALIDITY = timedelta(hours=4)
"""A phone that is off for longer does not get the SMS: hours after its reason it would only confuse."""


class SmsAdapter:
    """Sends the rows of channel ``sms``: bridges, and plain text where the router decided for SMS.

    The first of ``providers`` takes new sends. Each of them is asked for evidence of the calls that it took, so that
    the provider can be changed while calls have an unknown outcome.
    """

    def __init__(
        self,
        *,
        providers: Sequence[SmsProvider],
        pool: Pool,
        redis_gate: RedisGate,
        link_codes: LinkCodes,
        config: BridgeConfig,
        grace: timedelta,
        settling: timedelta,
    ) -> None:
        self._sms = providers[0]
        self._providers = {provider.name: provider for provider in providers}
        self.transport = Transport("sms", self._sms.name)
        self.evidence_of: tuple[Provider, ...] = tuple(self._providers)
        self._pool = pool
        self._redis_gate = redis_gate
        self._link_codes = link_codes
        self._config = config
        self._search = search.SearchConfig(link_codes, config.portal_host, grace, settling)
        self._pace = settling
        self._resend_rounds = {
            name: ResendRounds(pool, name, rest=settling + grace, all_given_up=True) for name in self._providers
        }

    async def judge(
        self, db: Connection, rows: Sequence[SendRow], now: datetime
    ) -> Mapping[SendKey, Verdict[OutgoingSms]]:
        """Ask the gate on fresh facts. What passes gets its text and, for a bridge, a fresh link.

        A STOP that is committed is among the facts: its line is shared before they are read.
        """
        known_ids = await evidence_queries.ids_of_sends(
            db, self._sms.name, self._sms.account, [row for row in rows if row.resends]
        )
        await share_lines(db, [(row.org_id, to) for row in rows if isinstance(to := row.command.get("to"), str)])
        facts = await queries.facts_of(
            db, rows, window_length=self._config.window_length, window_doubt=self._config.window_doubt, now=now
        )
        verdicts: dict[SendKey, Verdict[OutgoingSms]] = {}
        links: list[queries.PortalLink] = []
        for row, known in zip(rows, facts, strict=True):
            match known_ids.get(row.key) and search.known_evidence(known_ids[row.key], self._sms):
                case Confirmed() as found:
                    verdicts[row.key] = found
                    continue
                case Denied(Refused() as refused):
                    verdicts[row.key] = refused
                    continue
            link = self._link_codes.fresh()
            verdict = verdicts[row.key] = self._verdict(row, known, link, now)
            if isinstance(verdict, Allowed) and verdict.link_hash is not None:
                links.append(self._portal_link(row, known, verdict.link_hash))
        # a row that was throttled has a link from its last claim, whose SMS certainly never left
        unsent = [(row.org_id, row.link_hash) for row in rows if row.link_hash is not None and row.resends == 0]
        await queries.replace_links(db, links, unsent, expires_at=now + self._config.link_life, now=now)
        return verdicts

    async def call(self, claim: Claim[OutgoingSms]) -> SendOutcome:
        """One request to the provider."""
        return await self._sms.send(claim.prepared)

    async def learn_recipients(
        self, db: Connection, answers: Sequence[tuple[Claim[OutgoingSms], SendOutcome]], now: datetime
    ) -> None:
        """Do nothing: an SMS provider's answer names the recipient as we did."""

    async def apply_effects(
        self, db: Connection, settled: Sequence[Settled], now: datetime
    ) -> Mapping[SendKey, PendingEvents]:
        """See ``services.sms_bridge.effects``."""
        return await effects.apply(db, settled, now, self._config)

    async def keep_evidence(self, db: Connection, late: Sequence[Settled], now: datetime) -> None:
        """Store the ids of SMS that were accepted after their claim was lost, for ``find_evidence``."""
        ids = [i for one in late if isinstance(one.final, tuple) for i in provider_ids(one.row, one.final)]
        await keep_provider_ids(db, ids, now)

    async def find_evidence(self, rows: Sequence[SendRow], now: datetime) -> Mapping[SendKey, Evidence]:
        """See ``search``. Of the sends that were not accepted a few at a time are called so, to be sent once more."""
        evidence: dict[SendKey, Evidence] = {}
        for name, provider in self._providers.items():
            if taken := [row for row in rows if row.provider == name]:
                found = await search.find_evidence(self._pool, provider, self._search, taken, now)
                evidence |= await self._hold_back(name, taken, found, now)
        return evidence

    async def _hold_back(
        self, provider: Provider, rows: Sequence[SendRow], evidence: dict[SendKey, Evidence], now: datetime
    ) -> dict[SendKey, Evidence]:
        """The same evidence, with those sends unclear that must wait for a round before they are sent once more.

        A list may be later than the grace without having failed. A send that is found in it after all, although it was
        given up, counts as an outage of the list.
        """
        once = [row for row in rows if row.resends == 0]
        found = [row.key for row in once if isinstance(evidence.get(row.key), Confirmed)]
        again = [row.key for row in once if now < row.expires_at and isinstance(evidence.get(row.key), NotSent)]
        if not again and not found:
            return evidence
        released = await self._resend_rounds[provider].release(
            again, now, pace=self._pace, found_late=lambda db, _taken: given_up(db, provider, found)
        )
        return evidence | {key: Inconclusive() for key in again if key not in released}

    async def committed(self, settled: Sequence[Settled]) -> None:
        """Set Redis to the slots in PostgreSQL, and log the bridges that were sent."""
        outcomes = slot_outcomes(settled)
        await self._redis_gate.sync(held=outcomes.held, released=outcomes.released)
        for one in settled:
            if isinstance(one.final, tuple) and is_bridge(one.row):
                log.info(
                    "bridge.sent",
                    org_id=one.row.org_id,
                    conversation_id=str(one.row.conversation_id),
                    intent_id=str(one.row.message_id),
                    message_id=str(status_message_id(one.row)),
                    attempt=one.row.attempt,
                )

    def _verdict(self, row: SendRow, facts: GateFacts | None, link: LinkCode, now: datetime) -> Verdict[OutgoingSms]:
        command = command_of(row)
        if command is None:
            return NotYet("unknown_value")
        bridge = command.route == "bridge"
        refused = refusal_reason(
            bridge=bridge, sender=command.from_number, to=command.to, facts=facts, now=now, named=command.named
        )
        if refused is not None:
            return refused
        if not bridge:
            return (
                self._go(row, command, economical(command.text), now)
                if command.text
                else _unsendable(row, "empty_text")
            )
        text = bridge_text(command, self._config.portal_host, link.code)
        if isinstance(text, Unwritable):
            return _unsendable(row, text.why)
        return self._go(row, command, text.text, now, link)

    def _portal_link(self, row: SendRow, facts: GateFacts | None, link_hash: bytes) -> queries.PortalLink:
        """What is stored of the link in this bridge, which the gate let pass."""
        command = command_of(row)
        host = None if command is None else link_host(command, self._config.portal_host)
        if facts is None or facts.reach.phone is None or host is None:
            raise AssertionError("a bridge that may go has a host and a phone")
        return queries.PortalLink(
            link_hash, row.org_id, row.conversation_id, status_message_id(row), host, facts.reach.phone
        )

    def _go(
        self, row: SendRow, command: SmsCommand, text: str, now: datetime, link: LinkCode | None = None
    ) -> Allowed[OutgoingSms]:
        sms = OutgoingSms(
            sender=command.from_number,
            to=command.to,
            text=text,
            validity=min(_LONGEST_VALIDITY, row.expires_at - now),
            reference=callback_data(row.org_id, row.message_id, row.attempt),
        )
        return Allowed(
            sms, link_hash=None if link is None else link.code_hash, text_hash=self._link_codes.fingerprint(text)
        )


def _unsendable(row: SendRow, why: str) -> Refused:
    """The refusal of an SMS that cannot be written. There is no provider's code; the log has the reason."""
    log.error(
        "send.refused",
        org_id=row.org_id,
        message_id=str(row.message_id),
        attempt=row.attempt,
        channel="sms",
        reason=why,
    )
    return Refused(None)
