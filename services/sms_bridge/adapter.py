"""The adapter between the sending core and an SMS provider. Gate, effects and evidence are modules of their own.

The gate composes the text, because the code of its link is stored before the SMS leaves. A customer may open the link
before the send is recorded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

from libs.common.bridge.link_codes import LinkCode, LinkCodes
from libs.common.bridge.redis_gate import RedisGate
from libs.common.db.pool import Connection, Pool
from libs.common.directory.sms_stops import share_lines
from libs.common.events.directory import SmsProviderName
from libs.common.gsm7 import economical
from libs.common.ids import AttemptKey, SendKey, callback_data
from libs.common.logging import get_logger
from libs.common.providers import Provider, Route, Transport
from libs.common.providers.accounts import AccountKey, SmsAccount, SmsAccounts
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
from libs.common.sending.sms_charges import SpentByMessage
from libs.common.sending.spent import Spent
from libs.common.sending.statuses import keep_provider_ids
from libs.common.thread.failure_reasons import failure_reason
from services.sms_bridge import country_pauses, effects, evidence_queries, queries, search, spend
from services.sms_bridge.command import bridge_text, command_of, is_bridge, link_host, status_message_id
from services.sms_bridge.compose import Unwritable
from services.sms_bridge.effects import BridgeConfig, provider_ids, slot_outcomes
from services.sms_bridge.gate import GateFacts, refusal_reason
from services.sms_bridge.providers import OutgoingSms, SmsProvider

log = get_logger()

_LONGEST_VALIDITY = timedelta(hours=4)
"""A phone that is off for longer does not get the SMS: hours after its reason it would only confuse."""


class SmsAdapter:
    """Sends the rows of channel ``sms``: bridges, and plain text where the router decided for SMS.

    The organisation has an account at the time of the claim (``accounts``), and the claim keeps it. Only that account
    is asked for evidence of the call and called a second time, so an organisation can change its account meanwhile.
    """

    def __init__(
        self,
        *,
        accounts: SmsAccounts,
        providers: Mapping[AccountKey, SmsProvider],
        pool: Pool,
        redis_gate: RedisGate,
        link_codes: LinkCodes,
        config: BridgeConfig,
        grace: timedelta,
        settling: timedelta,
    ) -> None:
        self._accounts = accounts
        self._providers = providers
        routes = tuple(Route(provider, name, *account.key) for provider, name, account in accounts.routes())
        self.transport = Transport("sms", accounts.default, routes)
        self.evidence_of: tuple[Provider, ...] = tuple(sorted({key.provider for key in providers}))
        self._pool = pool
        self._redis_gate = redis_gate
        self._link_codes = link_codes
        self._config = config
        self._search = search.SearchConfig(link_codes, config.portal_host, grace, settling)
        self._pace = settling
        self._spent: dict[AttemptKey, Spent] = {}
        """What transactions charge, until their commit is known."""
        self._resend_rounds = {
            key: ResendRounds(pool, key.name, rest=settling + grace, all_given_up=True) for key in providers
        }

    async def judge(
        self,
        db: Connection,
        rows: Sequence[SendRow],
        now: datetime,
        *,
        stored: bool,  # noqa: ARG002 -- every command is read here, for its text
    ) -> Mapping[SendKey, Verdict[OutgoingSms]]:
        """Ask the gate on fresh facts. What passes gets its text and, for a bridge, a fresh link.

        A STOP that is committed is among the facts: its line is shared before they are read.
        """
        accounts = await queries.account_names(db, {row.org_id for row in rows})
        known = await self._known_evidence(db, rows, accounts)
        await share_lines(db, [(row.org_id, to) for row in rows if isinstance(to := row.command.get("to"), str)])
        facts = await queries.facts_of(
            db, rows, window_length=self._config.window_length, window_doubt=self._config.window_doubt, now=now
        )
        verdicts: dict[SendKey, Verdict[OutgoingSms]] = {}
        links: dict[SendKey, queries.PortalLink] = {}
        going: list[country_pauses.Going] = []
        for row, about in zip(rows, facts, strict=True):
            match known.get(row.key):
                case Confirmed() as found:
                    verdicts[row.key] = found
                    continue
                case Denied(Refused() as refused):
                    verdicts[row.key] = refused
                    continue
            link = self._link_codes.fresh()
            verdict = verdicts[row.key] = self._verdict(row, about, accounts.get(row.org_id), link, now)
            if isinstance(verdict, Allowed) and about is not None:
                going.append((row, about, verdict.by))
                if verdict.link_hash is not None:
                    links[row.key] = self._portal_link(row, about, verdict.link_hash)
        resting = await country_pauses.resting(db, going, now)
        left = [(row, about) for row, about, _ in going if row.key not in resting]
        beyond = await spend.beyond_the_day(db, left, now)
        verdicts |= resting | beyond
        kept = [link for key, link in links.items() if isinstance(verdicts[key], Allowed)]
        # a row that was throttled has a link from its last claim, whose SMS certainly never left
        unsent = [(row.org_id, row.link_hash) for row in rows if row.link_hash is not None and row.resends == 0]
        await queries.replace_links(db, kept, unsent, expires_at=now + self._config.link_life, now=now)
        return verdicts

    async def call(self, claim: Claim[OutgoingSms]) -> SendOutcome:
        """One request to the provider."""
        return await self._providers[_taker(claim.row)].send(claim.prepared)

    async def answers(self, claim: Claim[OutgoingSms]) -> bool:
        """Ask the account that the call would go by."""
        return await self._providers[_taker(claim.row)].answers()

    async def learn_recipients(
        self, db: Connection, answers: Sequence[tuple[Claim[OutgoingSms], SendOutcome]], now: datetime
    ) -> None:
        """Do nothing: an SMS provider's answer names the recipient as we did."""

    async def apply_effects(
        self, db: Connection, settled: Sequence[Settled], now: datetime
    ) -> Mapping[SendKey, PendingEvents]:
        """See ``services.sms_bridge.effects``."""
        for one in settled:
            self._spent.pop(_charge_key(one.row), None)  # what an earlier try noted, whose transaction was rolled back
        spent = SpentByMessage(Spent)
        news = await effects.apply(db, settled, now, self._config, spent)
        self._spent |= spent
        await country_pauses.begin(db, settled, now)
        return news

    async def keep_evidence(self, db: Connection, late: Sequence[Settled], now: datetime) -> None:
        """Store the ids of SMS that were accepted after their claim was lost, for ``find_evidence``."""
        for one in late:
            self._spent.pop(_charge_key(one.row), None)  # of an earlier try, whose transaction was rolled back
        ids = [i for one in late if isinstance(one.final, tuple) for i in provider_ids(one.row, one.final)]
        await keep_provider_ids(db, ids, now)

    async def find_evidence(self, rows: Sequence[SendRow], now: datetime) -> Mapping[SendKey, Evidence]:
        """See ``search``. Of the sends that were not accepted a few at a time are called so, to be sent once more."""
        evidence: dict[SendKey, Evidence] = {}
        for key, taken in _by_taker(rows).items():
            if (provider := self._providers.get(key)) is not None:
                found = await search.find_evidence(self._pool, provider, self._search, taken, now)
                evidence |= await self._hold_back(key, taken, found, now)
        return evidence

    async def _known_evidence(
        self, db: Connection, rows: Sequence[SendRow], accounts: Mapping[str, queries.AccountName]
    ) -> dict[SendKey, Confirmed | Denied]:
        """What is known already of earlier calls of these rows.

        A row that was never claimed may have been called as well: a restored database lacks what came later.
        """
        asked: dict[AccountKey, list[SendRow]] = {}
        for row in rows:
            if row.provider is not None:
                asked.setdefault(_taker(row), []).append(row)
            elif (named := accounts.get(row.org_id)) is not None and (account := self._accounts.of(*named)) is not None:
                asked.setdefault(account.key, []).append(row)
        known: dict[SendKey, Confirmed | Denied] = {}
        for key, taken in asked.items():
            if (provider := self._providers.get(key)) is not None:
                found = await evidence_queries.ids_of_sends(db, *key, taken)
                for send, ids in found.items():
                    evidence = search.known_evidence(ids, provider)
                    known[send] = replace(evidence, by=key) if isinstance(evidence, Confirmed) else evidence
        return known

    async def _hold_back(
        self, key: AccountKey, rows: Sequence[SendRow], evidence: dict[SendKey, Evidence], now: datetime
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
        released = await self._resend_rounds[key].release(
            again, now, pace=self._pace, found_late=lambda db, _taken: given_up(db, key.name, found)
        )
        return evidence | {key: Inconclusive() for key in again if key not in released}

    async def committed(self, settled: Sequence[Settled]) -> None:
        """Set Redis to the slots in PostgreSQL, and log the bridges that were sent and what the SMS cost."""
        outcomes = slot_outcomes(settled)
        await self._redis_gate.sync(held=outcomes.held, released=outcomes.released)
        told = Spent()
        for one in settled:
            if (spent := self._spent.pop(_charge_key(one.row), None)) is not None:
                told.join(spent)
            if isinstance(one.final, tuple) and is_bridge(one.row):
                log.info(
                    "bridge.sent",
                    org_id=one.row.org_id,
                    conversation_id=str(one.row.conversation_id),
                    intent_id=str(one.row.message_id),
                    message_id=str(status_message_id(one.row)),
                    attempt=one.row.attempt,
                )
        told.log()

    def _verdict(
        self,
        row: SendRow,
        facts: GateFacts | None,
        named: queries.AccountName | None,
        link: LinkCode,
        now: datetime,
    ) -> Verdict[OutgoingSms]:
        command = command_of(row)
        if command is None:
            return NotYet("unknown_value")
        bridge = command.route == "bridge"
        refused = refusal_reason(
            bridge=bridge, sender=command.from_number, to=command.to, facts=facts, now=now, named=command.named
        )
        if refused is not None:
            return refused
        text = bridge_text(command, self._config.portal_host, link.code) if bridge else economical(command.text or "")
        if isinstance(text, Unwritable) or not text:
            return _unsendable(row, text.why if isinstance(text, Unwritable) else "empty_text")
        account = self._account_of(row, named)
        if not isinstance(account, SmsAccount):
            return account
        written = text if isinstance(text, str) else text.text
        sms = OutgoingSms(
            sender=command.from_number,
            to=command.to,
            text=written,
            validity=min(_LONGEST_VALIDITY, row.expires_at - now),
            reference=callback_data(row.org_id, row.message_id, row.attempt),
            messaging_service=account.messaging_service,
        )
        return Allowed(
            sms,
            link_hash=link.code_hash if bridge else None,
            text_hash=self._link_codes.fingerprint(written),
            by=account.key,
            last=self._providers[account.key].lookup is None,
        )

    def _portal_link(self, row: SendRow, facts: GateFacts | None, link_hash: bytes) -> queries.PortalLink:
        """What is stored of the link in this bridge, which the gate let pass."""
        command = command_of(row)
        host = None if command is None else link_host(command, self._config.portal_host)
        if facts is None or facts.reach.phone is None or host is None:
            raise AssertionError("a bridge that may go has a host and a phone")
        return queries.PortalLink(
            link_hash, row.org_id, row.conversation_id, status_message_id(row), host, facts.reach.phone
        )

    def _account_of(self, row: SendRow, named: queries.AccountName | None) -> SmsAccount | Refused | NotYet:
        """The account of the organisation, or that of the first call, which alone can tell of both calls.

        A name that is not configured is refused. No other account stands in for it.
        """
        if row.resends:
            taker = _taker(row)
            return next((one for one in self._accounts if one.key == taker), NotYet("unknown_account"))
        account = None if named is None else self._accounts.of(*named)
        if account is None:
            _log_refused(row, "unknown_account", "the organisation's sms_account is not configured here")
            return Refused(None, failure_reason("sms_unavailable"))
        return account


def _charge_key(row: SendRow) -> AttemptKey:
    return row.org_id, status_message_id(row), row.attempt


def _unsendable(row: SendRow, why: str) -> Refused:
    """The refusal of an SMS that cannot be written. There is no provider's code; the log has the reason."""
    _log_refused(row, why)
    return Refused(None)


def _log_refused(row: SendRow, reason: str, detail: str | None = None) -> None:
    log.error(
        "send.refused",
        org_id=row.org_id,
        message_id=str(row.message_id),
        attempt=row.attempt,
        channel="sms",
        reason=reason,
        **({} if detail is None else {"detail": detail}),
    )


def _taker(row: SendRow) -> AccountKey:
    """The account that took the latest claim of the row."""
    return AccountKey(cast("SmsProviderName", row.provider), row.provider_account or "")


def _by_taker(rows: Sequence[SendRow]) -> dict[AccountKey, list[SendRow]]:
    found: dict[AccountKey, list[SendRow]] = {}
    for row in rows:
        found.setdefault(_taker(row), []).append(row)
    return found
