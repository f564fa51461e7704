"""The WhatsApp adapter of the sending engine: gate, call, effects of an end, evidence."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice

from pydantic import TypeAdapter, ValidationError

from libs.common.db.pool import Connection, Pool
from libs.common.directory import templates
from libs.common.directory.address_marks import record_unreached
from libs.common.directory.addressing import WhatsAppAddress
from libs.common.directory.consents import refuse_marketing
from libs.common.directory.reports import MarketingStopped, SentTemplate, TemplateFailure, Unreached
from libs.common.errors import Transient
from libs.common.events.content import OutContent
from libs.common.events.outbound import OutboundRefused, WhatsappCommand
from libs.common.events.topics import WEBHOOKS
from libs.common.faults import RecipientFault, TemplateGone, TemplateNeedsSync, stops_marketing
from libs.common.ids import SendKey
from libs.common.providers import WHATSAPP_BY_META, Provider
from libs.common.providers.meta import fault_of
from libs.common.sending.breaker import ResendLimit
from libs.common.sending.coverage import Quiet, Waits, quiet
from libs.common.sending.coverage_queries import caught_up, cover
from libs.common.sending.outcomes import (
    Evidence,
    Inconclusive,
    NotSent,
    NotYet,
    Refused,
    Rerouted,
    SendOutcome,
    Verdict,
)
from libs.common.sending.resending import ResendRounds, lately_released
from libs.common.sending.rows import Claim, PendingEvents, SendRow, Settled
from libs.common.sending.status_effects import StatusEvents, store_provider_ids
from libs.common.sending.statuses import ProviderId, keep_provider_ids
from libs.common.thread.conversations import refuse_windows
from libs.common.thread.messages import LocalFailure, fail_locally
from libs.common.window import DOUBT_WAIT
from services.whatsapp_sender import queries
from services.whatsapp_sender.evidence import came_late, resolve
from services.whatsapp_sender.gate import Ready, WhatsappFacts, judge
from services.whatsapp_sender.graph import Graph
from services.whatsapp_sender.payloads import payload
from services.whatsapp_sender.recipients import learn

_COUNTED_FOR = timedelta(seconds=1)
_LOOKED_AT = 1000
"""So many of the latest second calls are checked for a late acceptance of the first call."""
CONTENT: TypeAdapter[OutContent] = TypeAdapter(OutContent)


class WhatsappAdapter:
    """``libs.common.sending.adapter.ProviderAdapter`` for Meta's WhatsApp Cloud API."""

    transport = WHATSAPP_BY_META
    evidence_of: tuple[Provider, ...] = (WHATSAPP_BY_META.provider,)

    def __init__(
        self,
        graph: Graph,
        pool: Pool,
        *,
        window_length: timedelta,
        window_doubt: timedelta,
        waits: Waits,
        partitions: Callable[[], Awaitable[int]],
    ) -> None:
        """``partitions`` returns how many ``webhooks.v1`` has. It raises Transient while the brokers are away."""
        self._graph = graph
        self._pool = pool
        self._window = window_length, window_doubt
        self._waits = waits
        self._partitions = partitions
        self._counted: tuple[datetime, int] | None = None
        self._resend_rounds = ResendRounds(pool, self.transport.provider, rest=waits.view)
        self._resend_limit = ResendLimit()

    async def judge(
        self, db: Connection, rows: Sequence[SendRow], now: datetime, *, stored: bool
    ) -> Mapping[SendKey, Verdict[Ready]]:
        """Judge window, consent, template, number and address on fresh facts, and whether it was sent already."""
        facts = await queries.facts(db, rows, self._window, now)
        return {row.key: _verdict(row, facts[row.key], now, stored=stored) for row in rows}

    async def call(self, claim: Claim[Ready]) -> SendOutcome:
        """Build the request and send it.

        Meta's refusal for a closed window counts from the claim, or from the customer's last message that was known.
        """
        row = claim.row
        content = CONTENT.validate_python(row.command["content"])
        body = payload(
            content,
            to=row.command.get("to"),
            recipient=row.command.get("recipient"),
            callback=claim.prepared.callback,
            quotes=row.command.get("quotes"),
        )
        outcome = await self._graph.send(row.account, body, token=claim.prepared.token)
        self._resend_limit.add(outcome)
        if isinstance(outcome, Rerouted) and outcome.reason == "window_closed":
            # the customer's last message may lie ahead of our clock; it must not outlive this answer
            at = [at for at in (row.claimed_at, claim.prepared.customer_at) if at is not None]
            if row.attempt > 1 and claim.prepared.doubtful_since is not None:
                at.append(claim.prepared.doubtful_since + DOUBT_WAIT)  # the second send of a doubt ends it
            return replace(outcome, refused_at=max(at))
        return outcome

    async def answers(self, claim: Claim[Ready]) -> bool:
        """Ask Meta for the id of the number, with the number's token."""
        return await self._graph.answers(claim.row.account, token=claim.prepared.token)

    async def learn_recipients(
        self, db: Connection, answers: Sequence[tuple[Claim[Ready], SendOutcome]], now: datetime
    ) -> None:
        """Bind the ids of each recipient to one customer."""
        await learn(db, answers, now)

    async def apply_effects(
        self, db: Connection, settled: Sequence[Settled], now: datetime
    ) -> Mapping[SendKey, PendingEvents]:
        """Store ids of accepted sends, failures of refused ones, and faults that rerouted ones show."""
        effects = await store_provider_ids(db, [i for s in settled for i in _ids(s)], now)
        failures = [_failure(s.row, s.final, now) for s in settled if isinstance(s.final, Refused)]
        effects.updates += await fail_locally(db, failures) if failures else []
        rerouted = [(s.row, s.final) for s in settled if isinstance(s.final, Rerouted)]
        if rerouted:
            effects.refusals += [
                OutboundRefused.of(row.key, row.conversation_id, final.reason, now, final.code)
                for row, final in rerouted
            ]
            await refuse_windows(
                db, [(row.org_id, row.conversation_id, f.refused_at) for row, f in rerouted if f.refused_at is not None]
            )
        stopped = [s.row for s in settled if _stops_marketing(s)]
        await refuse_marketing(db, [MarketingStopped(row.org_id, row.conversation_id, now) for row in stopped])
        if rerouted:
            await self._apply_faults(db, [(row, f.code) for row, f in rerouted if f.code is not None], now)
        return _news([s.row for s in settled], effects)

    async def _apply_faults(self, db: Connection, rerouted: Sequence[tuple[SendRow, str]], now: datetime) -> None:
        """Mark the addresses and templates that these answers show to be faulty, so that no send repeats a failure."""
        unreached: list[Unreached] = []
        gone: list[TemplateFailure] = []
        stale: list[TemplateFailure] = []
        for row, code in rerouted:
            used, address = _used(row), _address(row)
            match fault_of(code):
                case RecipientFault() as fault if to := address.to or address.recipient:
                    whose = row.org_id, row.conversation_id
                    unreached.append(Unreached(*whose, "whatsapp", to, fault, code, "answer", now))
                case TemplateGone(status) if used is not None:
                    gone.append((used, status, now))
                case TemplateNeedsSync() if used is not None:
                    stale.append((used, code, now))
                case _:
                    pass
        await record_unreached(db, unreached)
        await templates.record_failures(db, gone, stale)

    async def keep_evidence(self, db: Connection, late: Sequence[Settled], now: datetime) -> None:
        """Keep the ids of acceptances whose claim was lost. ``evidence`` finds them."""
        await keep_provider_ids(db, [i for s in late for i in _ids(s)], now)

    async def find_evidence(self, rows: Sequence[SendRow], now: datetime) -> Mapping[SendKey, Evidence]:
        """Evidence from statuses and late answers, else from their absence for the whole grace.

        Only a few sends at a time are reported as not sent: see ``_release``.
        """
        partitions = await self._known_partitions(now)
        async with self._pool.acquire() as db:
            # evidence is read last, so a status that ingest stores between these reads is not taken for silence
            known = await cover(db, self.transport.provider, now - self._waits.view)
            stretch = quiet(known, await caught_up(db, WEBHOOKS.name), partitions, self._waits, now)
            seen = await queries.evidence(db, [(row.key, row.account) for row in rows])
        evidence: dict[SendKey, Evidence] = {
            row.key: Inconclusive() if row.claimed_at is None else resolve(seen.get(row.key), stretch, row.claimed_at)
            for row in rows
        }
        late = [
            row.key
            for row in rows
            if row.claimed_at is not None and row.key in seen and came_late(seen[row.key], stretch, row.claimed_at)
        ]
        # a send that may not go any more is settled without a call; it must not use up the call that probes Meta
        again = {
            row.key: row.claimed_at
            for row in rows
            if row.resends == 0 and now < row.expires_at and row.claimed_at and isinstance(evidence[row.key], NotSent)
        }
        asked = dict(islice(again.items(), self._resend_limit.allowed(len(again), now)))
        released = await self._release(asked, late, stretch, now)
        self._resend_limit.released(len(released), now)
        return evidence | {key: Inconclusive() for key in again if key not in released}

    async def _release(
        self, again: Mapping[SendKey, datetime], late: Collection[SendKey], stretch: Quiet | None, now: datetime
    ) -> Collection[SendKey]:
        """The sends of ``again`` (by key, when they were claimed) that may be sent once more now.

        ``stretch``: the covered time that proved their silence. ``late``: sends that were accepted although silence had
        proved the contrary. The next round begins when late acceptances of this one would have come: after the grace,
        and after an outage, when Meta retries with pauses of minutes, after the settling.
        """
        if not again and not late:
            return ()
        outlived = stretch is not None and any(map(stretch.interrupted, again.values()))

        async def found_late(db: Connection, taken: int) -> set[SendKey]:
            return {*late, *(await self._turned_out(db, now) if taken else ())}

        return await self._resend_rounds.release(
            list(again),
            now,
            pace=max(self._waits.grace, self._waits.settling) if outlived else self._waits.grace,
            found_late=found_late,
            since=None if stretch is None else stretch.since,
        )

    async def _turned_out(self, db: Connection, now: datetime) -> set[SendKey]:
        """The sends released lately whose first call is now known to have been accepted."""
        lately = await lately_released(db, self.transport.provider, now - 2 * self._waits.view, _LOOKED_AT)
        seen = await queries.evidence(db, [(one.key, one.account) for one in lately])
        return {one.key for one in lately if one.key in seen and len(seen[one.key].ids) > one.called_again}

    async def _known_partitions(self, now: datetime) -> int:
        """The number of partitions of ``webhooks.v1``, asked at most once a second. 0 while the brokers are away.

        With 0, silence proves nothing. Statuses count all the same.
        """
        if self._counted is None or not timedelta(0) <= now - self._counted[0] < _COUNTED_FOR:
            try:
                self._counted = now, await self._partitions()
            except Transient:
                self._counted = now, 0
        return self._counted[1]

    async def committed(self, settled: Sequence[Settled]) -> None:
        """Do nothing: no state is outside of PostgreSQL."""


def is_readable(row: SendRow) -> bool:
    """Whether this release can read the command. A later release may have stored the row."""
    try:
        CONTENT.validate_python(WhatsappCommand.model_validate(row.whole_command).content)
    except ValidationError:
        return False
    return True


def _verdict(row: SendRow, facts: WhatsappFacts, now: datetime, *, stored: bool) -> Verdict[Ready]:
    address = _address(row)
    if not any(address):
        return Refused(None)
    if stored and not is_readable(row):
        return NotYet("unknown_value")
    return judge(_route(row), address, facts, now)


def _stops_marketing(settled: Settled) -> bool:
    return isinstance(settled.final, Refused | Rerouted) and stops_marketing(fault_of(settled.final.code))


def _route(row: SendRow) -> str:
    return str(row.command.get("route"))


def _address(row: SendRow) -> WhatsAppAddress:
    """The command's address. It is empty where a customer without a user id has lost the number."""
    return WhatsAppAddress(row.command.get("to"), row.command.get("recipient"))


def _used(row: SendRow) -> SentTemplate | None:
    """The template that was sent; None of a free-form message."""
    name, language = queries.template_of(row)
    return None if name is None or language is None else SentTemplate(row.org_id, row.account, name, language)


def _ids(settled: Settled) -> list[ProviderId]:
    row = settled.row
    if not isinstance(settled.final, tuple):
        return []
    return [
        ProviderId(
            "whatsapp", "meta", i.account, i.provider_id, row.org_id, row.message_id, row.message_id, row.attempt
        )
        for i in settled.final
    ]


def _failure(row: SendRow, final: Refused, now: datetime) -> LocalFailure:
    return LocalFailure(row.org_id, row.message_id, row.attempt, final.reason, final.code, now)


def _news(rows: Sequence[SendRow], effects: StatusEvents) -> dict[SendKey, PendingEvents]:
    """The events by row. An event of none of the rows (Meta gave a wamid twice) is published with the first."""
    news = {row.key: PendingEvents() for row in rows}
    keys = {(row.org_id, row.message_id): row.key for row in rows}
    for update in effects.updates:
        news[keys.get((update.org_id, update.message_id), rows[0].key)].updates.append(update)
    for told in effects.told:
        news[keys.get((told.org_id, told.message_id), rows[0].key)].told.append(told)
    for refusal in effects.refusals:
        news[keys.get((refusal.org_id, refusal.intent_id), rows[0].key)].refusals.append(refusal)
    return news
