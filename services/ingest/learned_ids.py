"""Binds ids that Meta names beside the id that a message came by.

They are bound before senders are looked up and statuses are applied.

From messages (``learn_from_messages``):

Rule 1: a number shared on request is the sender's own (``fields.own_number``).
Rule 2: a reply to a message of ours by a BSUID that is unknown comes from the customer whom that message was meant for,
        unless they are known by another BSUID. Only the recipient has the message to reply to.
Rule 3: an item that is older than Meta's seven days binds nothing, and neither does one of a customer who was erased.

From statuses (``learn_from_statuses``), which name whom our messages reached:

Rule 4: the ids that the send went to, and those that the conversation is reached by already, are no news. A batch whose
        statuses name the former alone costs nothing.
Rule 5: a status belongs to a send by its provider id, or, before that is stored, by the callback data that it echoes.
Rule 6: a failure that names a number alone says nothing: Meta repeats what we gave it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from libs.common.db.pool import Connection, Pool
from libs.common.directory import numbers
from libs.common.directory.identities import STALE, Binding, bind
from libs.common.ids import read_callback
from libs.common.sending.statuses import MatchedSend, StatusId
from libs.common.thread.message_status import ProviderStatus
from services.ingest.fields import recipient_of
from services.ingest.identity_queries import SentTo, fixed_places, replied_to, sent_to
from services.ingest.items import CustomerMessage, MessageStatus, Sender


async def learn_from_messages(pool: Pool, messages: Iterable[CustomerMessage], now: datetime) -> None:
    """Bind the ids that these messages name.

    A batch in which none shares a number or replies by a BSUID alone costs nothing.
    """
    by_bsuid = [
        one for one in messages if one.sender.wa_id is None and one.sender.bsuid and one.received_at - one.at <= STALE
    ]
    shared = [one for one in by_bsuid if one.shared]
    replies = [one for one in by_bsuid if one.reply_to]
    if not shared and not replies:
        return
    async with pool.acquire() as db:
        gone = await fixed_places(db, [(None, "meta", one.phone_number_id, one.provider_id) for one in by_bsuid])
        erased = {one.provider_id for one, place in zip(by_bsuid, gone, strict=True) if place is not None}
        shared, replies = ([one for one in some if one.provider_id not in erased] for some in (shared, replies))
        bindings = [*await _shared(db, shared), *await _replied(db, replies)]
        if bindings:
            async with db.transaction():
                await bind(db, bindings, now)


async def _shared(db: Connection, messages: Sequence[CustomerMessage]) -> list[Binding]:
    if not messages:
        return []
    owners = await numbers.owners(db, sorted({one.phone_number_id for one in messages}))
    return [
        Binding(
            org_id=owners[one.phone_number_id].org_id,
            phone_number_id=one.phone_number_id,
            customer_id=None,
            wa_id=None,
            bsuid=one.sender.bsuid,
            phone=one.shared,
            at=one.at,
            source="shared",
        )
        for one in messages
        if one.phone_number_id in owners
    ]


async def _replied(db: Connection, messages: Sequence[CustomerMessage]) -> list[Binding]:
    if not messages:
        return []
    customers = await replied_to(db, [(one.phone_number_id, one.reply_to, one.sender.bsuid) for one in messages])
    return [
        Binding(
            org_id=customer[0],
            phone_number_id=one.phone_number_id,
            customer_id=customer[1],
            wa_id=None,
            bsuid=one.sender.bsuid,
            phone=None,
            at=one.at,
            source="message",
        )
        for one, customer in zip(messages, customers, strict=True)
        if customer is not None
    ]


async def learn_from_statuses(
    db: Connection, statuses: Sequence[MessageStatus], known: Mapping[StatusId, MatchedSend], now: datetime
) -> None:
    """Bind the ids that these statuses name. Call in a transaction that holds no locks yet.

    ``known``: what ``find_sends`` has found of these statuses.
    """
    naming = [
        (one.status, recipient)
        for one in statuses
        if ((send := known.get(one.status.id)) is not None or one.status.callback is not None)
        and (recipient := recipient_of(one)) is not None
        and _is_news(one.status, recipient, send)
    ]
    if not naming:
        return
    sends = []
    for status, _ in naming:
        callback = read_callback(status.callback)
        named = (None, None) if callback is None else (callback.message_id, callback.attempt)
        sends.append((status.account, status.provider_id, *named))
    bindings = [
        Binding(
            org_id=send.org_id,
            phone_number_id=send.phone_number_id,
            customer_id=send.customer_id,
            wa_id=recipient.wa_id,
            bsuid=recipient.bsuid,
            phone=send.sent_to,
            at=status.at,
            source="status",
        )
        for (status, recipient), send in zip(naming, await sent_to(db, sends), strict=True)
        if send.org_id is not None and send.customer_id is not None and _is_new_address(recipient, send)
    ]
    if bindings:
        await bind(db, list(dict.fromkeys(bindings)), now)


def _is_news(status: ProviderStatus, recipient: Sender, send: MatchedSend | None) -> bool:
    """Whether the status may name an id that is not known: the send says so, or its callback data must be looked up."""
    if status.status == "failed" and recipient.bsuid is None:
        return False
    if send is None:
        return read_callback(status.callback) is not None
    used = (None if send.to is None else send.to.removeprefix("+")), send.recipient
    return recipient.wa_id not in (None, used[0]) or recipient.bsuid not in (None, used[1])


def _is_new_address(recipient: Sender, send: SentTo) -> bool:
    return recipient.wa_id not in (None, send.wa_id) or recipient.bsuid not in (None, send.bsuid)
