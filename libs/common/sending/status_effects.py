"""What statuses of providers change: the messages they feed, and what concerns others.

Rule 1: a failure that another route or another try may mend does not end its message. It becomes a refusal, and the
        router decides again.
Rule 2: what a failure says of others (window, address, template, account) counts from the time of the send. It is kept
        only while the message waits for this attempt: a repeated or late failure may have been mended since.
Rule 3: a message that reached the customer is not decided again, whatever was reported before. A failure told beside
        that, in whatever order, says nothing of others. One that was told before closes its window no longer.
Rule 4: a bridge SMS that fails after its acceptance has used the slot of its conversation. The original message keeps
        its reason; the bridge's own message shows what became of the SMS.
Rule 5: a status of what staff wrote in the WhatsApp Business app moves its message and nothing else. It was no send of
        ours: it has no price here, proves nothing of an account, and is not decided again.

Matching and early statuses: ``statuses``. The status machine: ``libs.common.thread.message_status``. Whose fault a code
is: ``libs.common.providers``.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common import metrics
from libs.common.db.pool import Connection
from libs.common.directory import templates
from libs.common.directory.address_marks import clear, record_unreached
from libs.common.directory.consents import refuse_marketing
from libs.common.directory.reports import (
    MarketingStopped,
    SentTemplate,
    SignOfLife,
    TemplateFailure,
    Unreached,
)
from libs.common.events.outbound import NewStatus, OutboundRefused, RefusalReason
from libs.common.faults import (
    AccountFault,
    AccountScope,
    CountryClosed,
    RecipientFault,
    TemplateGone,
    TemplateNeedsSync,
    TransientFault,
    WindowClosed,
    reroute_reason,
    stops_marketing,
)
from libs.common.ids import SendKey
from libs.common.providers import Provider, ProviderChannel, Transport
from libs.common.providers.cost import read_cost
from libs.common.sending import country_pauses, pause_queries, refusals, refused_windows, sms_charges
from libs.common.sending.country_pauses import Closed, way_of
from libs.common.sending.pricing import Pricing, keep_pricing, pricing_of
from libs.common.sending.refused_windows import RefusedSend
from libs.common.sending.rows import EVERY_ACCOUNT, StatusLine, at_account
from libs.common.sending.sms_charges import Figure, SpentByMessage
from libs.common.sending.spent import Spent
from libs.common.sending.statuses import (
    KnownSends,
    Matched,
    MatchedSend,
    ProviderId,
    find_sends,
    match_statuses,
    take_early_statuses,
)
from libs.common.thread.message_status import (
    DELIVERY_STATUSES,
    PROVIDER_REFUSED,
    Failed,
    ProviderStatus,
    Reached,
    advance,
)
from libs.common.thread.messages import LockedMessage, delivery_update, lock_messages, write_states

_UNSETTLED = frozenset({"pending", "sent"})
_ARRIVED = frozenset({"delivered", "read"})


@dataclass(slots=True)
class StatusEvents:
    """What statuses come to. ``told`` and ``spent``: what the log says of them, after the commit."""

    updates: list[NewStatus] = field(default_factory=list)
    refusals: list[OutboundRefused] = field(default_factory=list)
    told: list[StatusLine] = field(default_factory=list)
    spent: SpentByMessage = field(default_factory=lambda: SpentByMessage(Spent))


async def receive_statuses(
    db: Connection, statuses: Sequence[ProviderStatus], now: datetime, known: KnownSends | None = None
) -> StatusEvents:
    """Apply the statuses whose sends are known, and keep the others.

    ``known``: what ``statuses.find_sends`` has found of these in this transaction. Call inside a transaction; publish
    after its commit.
    """
    known = await find_sends(db, statuses, now) if known is None else known
    return await _apply(db, await match_statuses(db, statuses, now, known), now)


async def store_provider_ids(db: Connection, ids: Sequence[ProviderId], now: datetime) -> StatusEvents:
    """Store the ids that our sends got and apply the statuses that arrived before.

    Call inside a transaction; publish after its commit.
    """
    return await _apply(db, await take_early_statuses(db, ids, now), now)


class AccountTrouble(NamedTuple):
    """An account that was not in order when a send was called, as a late status says."""

    channel: ProviderChannel
    provider: Provider
    account: str
    scope: AccountScope
    called_at: datetime
    code: str


@dataclass(slots=True)
class StatusEffects:
    """What a batch of statuses comes to. Pure: ``_apply`` writes it."""

    events: StatusEvents = field(default_factory=StatusEvents)
    closed_windows: list[RefusedSend] = field(default_factory=list)
    """Free-form sends that Meta refused because the window was closed."""
    arrived_after_all: list[RefusedSend] = field(default_factory=list)
    """Sends on WhatsApp that reached the customer though the router had decided again."""
    unreached: list[Unreached] = field(default_factory=list)
    signs: list[SignOfLife] = field(default_factory=list)
    gone: list[TemplateFailure] = field(default_factory=list)
    stale: list[TemplateFailure] = field(default_factory=list)
    troubles: dict[tuple[ProviderChannel, Provider, str, AccountScope], AccountTrouble] = field(default_factory=dict)
    """Of each account the trouble of its latest call."""
    closed_countries: list[Closed] = field(default_factory=list)
    pricing: list[Pricing] = field(default_factory=list)
    receipts: list[Figure] = field(default_factory=list)
    """What delivery receipts of SMS say of the price of a part."""
    stopped: list[MarketingStopped] = field(default_factory=list)
    proofs: defaultdict[Provider, list[SendKey]] = field(default_factory=lambda: defaultdict(list))
    """Sends that prove their account to be in order."""
    faults: list[tuple[UUID, MatchedSend, ProviderStatus]] = field(default_factory=list)
    """Failures of messages that waited for their attempt, with the conversation."""

    def add(self, message: LockedMessage, conversation_id: UUID, send: MatchedSend, status: ProviderStatus) -> None:
        """Take in one status, and advance its message."""
        if not send.is_echo and self._is_refused(message, conversation_id, send, status):
            return
        before = message.state
        if status.status == "failed":
            message.state = advance(message.state, Failed(send.attempt, PROVIDER_REFUSED, status.code, status.at))
        elif status.status in DELIVERY_STATUSES:
            reached = Reached(send.attempt, status.status, status.at)  # type: ignore[arg-type]  # one of them
            message.state = advance(message.state, reached)
        if (update := delivery_update(message)) is not None:
            self.events.updates.append(update)
            self.events.told.append(
                told_of(message, update, status.status, is_new=message.state is not before, is_bridge=send.is_bridge)
            )
        if status.status in _ARRIVED and (address := send.address) is not None:
            self.signs.append(SignOfLife(send.org_id, status.channel, address, status.at))
        if status.status in _ARRIVED and status.channel == "whatsapp" and send.attempt < before.attempt:
            self.arrived_after_all.append(RefusedSend(send.org_id, conversation_id, *send.send[1:]))

    def _is_refused(
        self, message: LockedMessage, conversation_id: UUID, send: MatchedSend, status: ProviderStatus
    ) -> bool:
        """Note what the status says beside its message. Whether the message is decided again, and has not failed."""
        self._note_price(send, status)
        if status.status != "failed":
            self.proofs[status.provider].append(send.send)
            return False
        if stops_marketing(status.fault):
            self.stopped.append(MarketingStopped(send.org_id, conversation_id, status.at))
        waits = _is_current_attempt(message, send)
        if waits:
            self.faults.append((conversation_id, send, status))
        if (reason := _refusal_reason(send, status)) is None:
            return False
        if waits:
            self.events.refusals.append(OutboundRefused.of(send.send, conversation_id, reason, status.at, status.code))
        return True

    def conclude(self, messages: dict[tuple[str, UUID], LockedMessage]) -> None:
        """After the last status: what failures say of others, and refusals. None is of a message that arrived."""
        if not (self.faults or self.events.refusals):
            return
        arrived = {key for key, message in messages.items() if message.state.status in _ARRIVED}
        for conversation_id, send, status in self.faults:
            if (send.org_id, send.message_id) not in arrived:
                self._note_fault(conversation_id, send, status)
        self.events.refusals = [one for one in self.events.refusals if (one.org_id, one.intent_id) not in arrived]

    def _note_price(self, send: MatchedSend, status: ProviderStatus) -> None:
        if status.channel == "sms":
            if (cost := read_cost(None, status.item.get("price"), status.item.get("currency"))) is not None:
                self.receipts.append(Figure(send.org_id, send.message_id, send.attempt, status.provider_id, cost))
            return
        price = pricing_of(
            status.item,
            org_id=send.org_id,
            message_id=send.message_id,
            provider_id=status.provider_id,
            attempt=send.attempt,
            order=status.order,
        )
        if price is not None:
            self.pricing.append(price)

    def _note_fault(self, conversation_id: UUID, send: MatchedSend, status: ProviderStatus) -> None:
        """Note what a failure says about others."""
        code = status.code or ""
        called_at = send.called_at or status.at
        used = None
        if send.route == "template" and send.sender and send.template and send.language:
            used = SentTemplate(send.org_id, send.sender, send.template, send.language)
        match status.fault:
            case WindowClosed() if send.route != "template":
                self.closed_windows.append(RefusedSend(send.org_id, conversation_id, *send.send[1:], called_at))
            case AccountFault(scope, every_sender) if send.sender is not None:
                of = None if status.channel == "whatsapp" else status.account
                account = at_account(EVERY_ACCOUNT if every_sender else send.sender, status.provider, of)
                held: AccountScope = scope if send.route == "template" else "all"
                trouble = AccountTrouble(status.channel, status.provider, account, held, called_at, code)
                self.troubles[trouble[:4]] = max(self.troubles.get(trouble[:4], trouble), trouble)
            case CountryClosed() if send.sender is not None:
                way = way_of(status.provider, status.account, send.sender, send.address)
                self.closed_countries += [] if way is None else [Closed(way, code, send.org_id, called_at)]
            case TemplateGone(template_status) if used is not None:
                self.gone.append((used, template_status, max(status.at, called_at)))
            case TemplateNeedsSync() if used is not None:
                self.stale.append((used, code, max(status.at, called_at)))
            case RecipientFault() as fault if send.address is not None:
                self.unreached.append(
                    Unreached(
                        org_id=send.org_id,
                        conversation_id=conversation_id,
                        channel=status.channel,
                        address=send.address,
                        fault=fault,
                        code=code,
                        source="status",
                        at=status.at,
                    )
                )
            case _:
                pass


def told_of(
    message: LockedMessage, update: NewStatus, status: str, *, is_new: bool, is_bridge: bool = False
) -> StatusLine:
    """What the log says of ``status``, of which ``update`` came."""
    newest = not is_new or status == update.status
    return StatusLine(
        message.org_id,
        message.conversation_id,
        message.message_id,
        update.channel if newest else message.channel,
        update.status if newest else status,
        update.reason if newest else None,
        update.provider_code if newest else None,
        "moved" if is_new else "known",
        "bridge" if is_bridge else None,
    )


def _is_current_attempt(message: LockedMessage, send: MatchedSend) -> bool:
    """Whether the message waits for this attempt."""
    return message.state.status in _UNSETTLED and message.state.attempt == send.attempt


def _refusal_reason(send: MatchedSend, status: ProviderStatus) -> RefusalReason | None:
    """Why the message is decided again; None where it fails with the code.

    An SMS in plain text is decided again only when its account is well, or once more. A bridge is not: it has used its
    slot.
    """
    fault = status.fault
    if status.channel == "sms" and (send.route == "bridge" or not isinstance(fault, AccountFault | TransientFault)):
        return None
    return reroute_reason(fault, template=send.route == "template")


async def _apply(db: Connection, matched: Iterable[Matched], now: datetime) -> StatusEvents:
    effects = StatusEffects()
    if not (pairs := list(matched)):
        return effects.events
    messages = await lock_messages(db, {(send.org_id, send.message_id) for send, _ in pairs})
    for send, status in pairs:
        message = messages.get((send.org_id, send.message_id))
        if message is not None and message.conversation_id is not None:
            effects.add(message, message.conversation_id, send, status)
    effects.conclude(messages)
    await write_states(db, messages.values())
    await refused_windows.close(db, effects.closed_windows)
    await refused_windows.reopen(db, effects.arrived_after_all)
    metrics.SENDS_AFTER_WINDOW.inc(len(effects.closed_windows))
    await record_unreached(db, effects.unreached)
    await keep_pricing(db, effects.pricing)
    await sms_charges.keep_figures(db, effects.receipts, effects.events.spent, of_parts=True)
    await refuse_marketing(db, effects.stopped)
    await clear(db, effects.signs)
    await templates.record_failures(db, effects.gone, effects.stale)
    await _pause_accounts(db, effects, now)  # pauses are locked after what leads to messages
    await country_pauses.pause(db, effects.closed_countries, now)
    await refusals.keep(db, effects.events.refusals, now)
    return effects.events


async def _pause_accounts(db: Connection, effects: StatusEffects, now: datetime) -> None:
    for provider, sends in sorted(effects.proofs.items()):
        await pause_queries.prove(db, provider, sends)
    for channel, provider, account, scope, called_at, code in sorted(effects.troubles.values()):
        await pause_queries.pause_account(
            db, Transport(channel, provider), account, code, now, proof="status", scope=scope, called_at=called_at
        )
