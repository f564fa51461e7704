"""The effects of the end of an SMS: on the original message, the bridge, its slot, the recipient and the charges.

| the send | the original of a bridge | the slot |
| --- | --- | --- |
| accepted | failed, ``window_expired_bridge_sent`` | held for the whole hold from now, whatever becomes of the SMS |
| refused by the provider, unwritable | failed, ``window_expired_bridge_failed`` | given back; ``slot_freed`` (below) |
| refused by the gate | failed, with its reason | given back; ``slot_freed`` |
| back to the router: the window is open | stays pending | given back |
| of unknown outcome to the end | failed, ``unknown_outcome`` | held for the whole hold from now: it may have arrived |

``slot_freed``: the newest intent that the slot had silenced goes to the router. Plain text on the SMS channel has no
slot and no bridge: the message itself is pending, or failed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from libs.common.bridge import queries as slot_queries
from libs.common.bridge.link_codes import MASKED_CODE
from libs.common.bridge.slot import Slot
from libs.common.countries import country_of
from libs.common.db.pool import Connection
from libs.common.directory.address_marks import record_unreached
from libs.common.directory.reports import MarkSource, Unreached
from libs.common.events.outbound import BridgeReason, OutboundRefused
from libs.common.faults import RecipientFault
from libs.common.ids import SendKey, bridge_message_id
from libs.common.providers import fault_of
from libs.common.sending import sms_caps, sms_charges
from libs.common.sending.outcomes import Accepted, Refused, Rerouted
from libs.common.sending.rows import PendingEvents, SendRow, Settled
from libs.common.sending.sms_charges import Charge, Figure, SpentByMessage
from libs.common.sending.status_effects import store_provider_ids
from libs.common.sending.statuses import ProviderId
from libs.common.sms_reach import parts_of
from libs.common.thread.conversations import lock_known_against_merge
from libs.common.thread.failure_reasons import failure_reason
from libs.common.thread.message_status import PROVIDER_REFUSED, UNKNOWN_OUTCOME
from libs.common.thread.messages import LocalFailure, fail_locally
from services.sms_bridge import evidence_queries, queries
from services.sms_bridge.command import bridge_text, command_of, is_bridge, status_message_id
from services.sms_bridge.compose import Composed
from services.sms_bridge.spend import not_bought, unsent_answers


@dataclass(frozen=True, slots=True)
class BridgeConfig:
    """The settings of a bridge. ``portal_host`` is for organisations without one of their own."""

    window_length: timedelta
    window_doubt: timedelta
    hold: timedelta
    link_life: timedelta
    portal_host: str | None


@dataclass(slots=True)
class SlotOutcomes:
    """Bridge slots once these sends have ended: held from now on, given back, and those given back after a failure."""

    held: list[Slot] = field(default_factory=list)
    released: list[Slot] = field(default_factory=list)
    retried: list[Slot] = field(default_factory=list)


def slot_outcomes(settled: Sequence[Settled]) -> SlotOutcomes:
    """The slots of these sends after their end."""
    outcomes = SlotOutcomes()
    for one in settled:
        if not is_bridge(one.row):
            continue
        slot = Slot(one.row.org_id, one.row.conversation_id, one.row.message_id)
        match one.final:
            case Rerouted():
                outcomes.released.append(slot)
            case Refused(_, reason) if reason != UNKNOWN_OUTCOME:
                outcomes.released.append(slot)
                outcomes.retried.append(slot)
            case _:
                outcomes.held.append(slot)
    return outcomes


async def apply(
    db: Connection, settled: Sequence[Settled], now: datetime, config: BridgeConfig, spent: SpentByMessage
) -> dict[SendKey, PendingEvents]:
    """Record the effects in the transaction that ends the sends. Returns the events to publish for each.

    ``spent`` takes what is charged, by the message that it stands at.
    """
    settled = await _in_their_conversations(db, settled)
    news = {one.row.key: PendingEvents() for one in settled}
    events = {
        (one.row.org_id, message_id): news[one.row.key] for one in settled for message_id in _messages_of(one.row)
    }
    accepted = [(one.row, one.final) for one in settled if isinstance(one.final, tuple)]

    await sms_caps.give_back(db, not_bought(settled))
    await queries.write_bridges(db, [b for row, _ in accepted if (b := _bridge_message(row, config)) is not None], now)
    taken = [i for row, ids in accepted for i in provider_ids(row, ids)]
    # before the statuses that came early: one of them may tell the price
    await sms_charges.charge(db, [_charge(row, ids) for row, ids in accepted], day=now.date(), now=now, spent=spent)
    await sms_charges.keep_figures(db, [f for row, ids in accepted for f in _figures(row, ids)], spent)
    effects = await store_provider_ids(db, taken, now)
    await evidence_queries.add_unconfirmed(db, taken, now)
    updates = await fail_locally(db, [f for one in settled if (f := _failure(one, now)) is not None])
    unreached = [u for one in settled if (u := _unreached(one, now)) is not None]
    outcomes = slot_outcomes(settled)
    concerned: list[Slot | Unreached] = [*outcomes.held, *outcomes.released, *unreached]
    await lock_known_against_merge(db, {(one.org_id, one.conversation_id) for one in concerned})

    await slot_queries.accept(db, [(slot, now) for slot in outcomes.held], config.hold)
    released = await slot_queries.release(db, outcomes.released)
    retried = {slot.intent_id for slot in outcomes.retried}
    freed = [slot for slot in released if slot.intent_id in retried]
    silenced = await slot_queries.newest_silenced(db, freed)
    await sms_caps.forget_unsent(db, unsent_answers(settled))
    await record_unreached(db, unreached)

    for key, changed in effects.spent.items():
        spent[key].join(changed)
    for update in [*effects.updates, *updates]:
        events[update.org_id, update.message_id].updates.append(update)
    for told in effects.told:
        events[told.org_id, told.message_id].told.append(told)
    for refusal in effects.refusals:  # a status that came before its id says that plain text is to be decided again
        events[refusal.org_id, refusal.intent_id].refusals.append(refusal)
    for row, _ in accepted:
        if is_bridge(row):
            news[row.key].message_ids.add(bridge_message_id(row.message_id))
    for one in settled:
        if isinstance(one.final, Rerouted):
            news[one.row.key].refusals.append(
                OutboundRefused.of(one.row.key, one.row.conversation_id, one.final.reason, now, one.final.code)
            )
    for silent in silenced:
        events[silent.org_id, silent.holder].refusals.append(silent.freed(now))
    return news


def provider_ids(row: SendRow, ids: Sequence[Accepted]) -> list[ProviderId]:
    """The ids that the provider of the latest claim gave the send, for the message whose status they feed."""
    if row.provider is None:
        return []
    return [
        ProviderId(
            channel="sms",
            provider=row.provider,
            account=got.account,
            provider_id=provider_id,
            org_id=row.org_id,
            message_id=status_message_id(row),
            send_id=row.message_id,
            attempt=row.attempt,
        )
        for got in ids
        for provider_id in (got.provider_id, *got.parts)
    ]


async def _in_their_conversations(db: Connection, settled: Sequence[Settled]) -> list[Settled]:
    """The same sends under their present conversations: one may have been merged into another meanwhile."""
    moved = await queries.merged(db, {(one.row.org_id, one.row.conversation_id) for one in settled})
    return [
        replace(one, row=one.row._replace(conversation_id=moved[at]))
        if (at := (one.row.org_id, one.row.conversation_id)) in moved
        else one
        for one in settled
    ]


def _messages_of(row: SendRow) -> set[UUID]:
    return {row.message_id, status_message_id(row)}


def _bridge_message(row: SendRow, config: BridgeConfig) -> queries.BridgeMessage | None:
    command = command_of(row)
    if command is None or command.route != "bridge":
        return None
    text = bridge_text(command, config.portal_host, MASKED_CODE)
    return queries.BridgeMessage(
        org_id=row.org_id,
        message_id=bridge_message_id(row.message_id),
        conversation_id=row.conversation_id,
        account=row.account,
        masked=text.masked if isinstance(text, Composed) else "",
        parent_id=row.message_id,
        attempt=row.attempt,
    )


def _failure(one: Settled, now: datetime) -> LocalFailure | None:
    row, bridge = one.row, is_bridge(one.row)
    match one.final:
        case Rerouted():
            return None
        case Refused(code, reason):
            if bridge and reason == PROVIDER_REFUSED:
                reason = failure_reason("bridge_failed", _closed_by(row))
            return LocalFailure(row.org_id, row.message_id, row.attempt, reason, code, now)
        case _:
            if not bridge:
                return None
            reason = failure_reason("bridge_sent", _closed_by(row))
            return LocalFailure(row.org_id, row.message_id, row.attempt, reason, None, now)


def _closed_by(row: SendRow) -> BridgeReason | None:
    """What closed WhatsApp to the original, by the decision."""
    command = command_of(row)
    return None if command is None else command.reason


def _unreached(one: Settled, now: datetime) -> Unreached | None:
    match one.final:
        case Refused(str(code), _) if one.row.provider is not None:
            fault = fault_of(one.row.provider, code)
            if not isinstance(fault, RecipientFault):
                return None
            source: MarkSource = "answer" if one.row.unknown_since is None else "list"
            to = str(one.row.command.get("to"))
            return Unreached(one.row.org_id, one.row.conversation_id, "sms", to, fault, code, source, now)
        case _:
            return None


def _charge(row: SendRow, ids: Sequence[Accepted]) -> Charge:
    """Each id is a message that was bought. A bridge is one segment (``compose``)."""
    parts = 1 if is_bridge(row) else parts_of(str(row.command.get("text") or ""))
    return Charge(
        org_id=row.org_id,
        message_id=status_message_id(row),
        attempt=row.attempt,
        conversation_id=row.conversation_id,
        provider=row.provider,
        category="bridge" if is_bridge(row) else "sms",
        account=ids[0].account if ids else "",
        sender=row.account,
        provider_ids=tuple(got.provider_id for got in ids),
        segments=parts * max(1, len(ids)),
        country=country_of(str(row.command.get("to") or "")),
    )


def _figures(row: SendRow, ids: Sequence[Accepted]) -> list[Figure]:
    """The prices that came with the answers."""
    message_id = status_message_id(row)
    return [
        Figure(row.org_id, message_id, row.attempt, got.provider_id, got.cost) for got in ids if got.cost is not None
    ]
