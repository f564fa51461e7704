"""What staff wrote in the WhatsApp Business app is stored in the thread, once, and told. It holds the AI.

Rule 1: a wamid is one message. What a sender of ours has sent is no echo, and an echo that comes again changes nothing.
Rule 2: it opens no window, has no price and confirms no address.
Rule 3: it holds the AI as what staff write in the inbox does, from the time at which it was written. A hold that would
        be over by now is none, and a newer word about the conversation stands. Reactions, edits and revocations hold
        nothing.
Rule 4: its statuses follow it. One that came before is taken where it was kept (``statuses``).

Locks: provider's ids, conversations, messages, holds.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from libs.common.db.locks import PROVIDER_IDS, lock
from libs.common.db.pool import Connection
from libs.common.directory import holds
from libs.common.directory.holds import Hold
from libs.common.errors import Transient
from libs.common.events.topics import DELIVERY_UPDATES, DIRECTORY_CHANGES
from libs.common.inbox_policy import inbox_policy_of
from libs.common.kafka.producer import Record
from libs.common.logging import get_logger
from libs.common.sending.status_effects import store_provider_ids
from libs.common.sending.statuses import ProviderId
from libs.common.thread import conversations
from libs.common.thread.message_status import ECHO
from libs.common.thread.messages import LockedMessage, delivery_update, lock_messages
from services.ingest import echo_queries, identity
from services.ingest.echo_queries import EchoId, Known
from services.ingest.items import StaffEcho
from services.ingest.queries import Place
from services.ingest.worker_deps import Deps

log = get_logger()

_CHANGES = frozenset({"edit", "revoke"})


async def store_echoes(echoes: Sequence[StaffEcho], deps: Deps) -> tuple[list[Record], list[Hold]]:
    """Store each once. Returns what is to be published, and the holds among it, for ``mark_published``."""
    unique: dict[EchoId, StaffEcho] = {}
    for echo in echoes:
        unique.setdefault((echo.phone_number_id, echo.provider_id), echo)
    places = await identity.places(deps.pool, list(unique.values()), deps.now())
    placed = [(echo, place) for echo, place in zip(unique.values(), places, strict=True) if place is not None]
    async with deps.pool.acquire() as db, db.transaction():
        now = deps.now()
        stored = await store_placed(db, placed, now)
    records = []
    for key, message in stored.messages.items():
        if (update := delivery_update(message)) is not None:
            records.append(Record(DELIVERY_UPDATES, update.key, update.encode()))
            _log(unique[key], message, now, is_new=key in stored.fresh)
    records += [Record(DIRECTORY_CHANGES, one.key, one.event().encode()) for one in stored.held]
    return records, stored.held


class StoredEchoes(NamedTuple):
    """The messages of echoes, which of them are new, and the holds that began with them."""

    messages: dict[EchoId, LockedMessage]
    fresh: Collection[EchoId]
    held: list[Hold]


async def store_placed(db: Connection, placed: Sequence[tuple[StaffEcho, Place]], now: datetime) -> StoredEchoes:
    """Store each where it belongs; each wamid is named once. Call inside a transaction.

    Raises Transient where a conversation was merged away or resolved anew since its place was found.
    """
    ids = {(echo.phone_number_id, echo.provider_id): (echo, place) for echo, place in placed}
    await lock(db, PROVIDER_IDS, [f"meta:{number}:{wamid}" for number, wamid in sorted(ids)])
    known = await echo_queries.known_ids(db, ids)
    fresh = {key: one for key, one in ids.items() if key not in known}
    await _keep_places(db, [place for _, place in fresh.values()])
    stored = await echo_queries.store(db, list(fresh.values()))
    await store_provider_ids(db, [_provider_id(key, fresh[key][1], id_) for key, id_ in stored.items()], now)
    known |= {key: Known(fresh[key][1].org_id, id_, ECHO) for key, id_ in stored.items()}
    ours = {key: (one.org_id, one.message_id) for key, one in known.items() if one.attempt == ECHO}
    locked = await lock_messages(db, set(ours.values()))
    held = await holds.echoed(db, await _holds(db, list(fresh.values()), now))
    return StoredEchoes({key: locked[of] for key, of in ours.items() if of in locked}, fresh.keys(), held)


async def mark_published(held: Sequence[Hold], deps: Deps) -> None:
    """Kafka has these."""
    if held:
        async with deps.pool.acquire() as db:
            await holds.mark_published(db, held)


async def _keep_places(db: Connection, places: Sequence[Place]) -> None:
    """None of these conversations is merged away until the transaction ends.

    Raises Transient where one was, or was resolved anew, since it was found. It may be resolved anew after this: then
    the echo stands in it as one that came just before.
    """
    asked = [(place.org_id, place.conversation_id) for place in places]
    await conversations.lock_against_merge(db, asked)
    versions = await conversations.identity_versions(db, asked)
    if versions != [place.identity_version for place in places]:
        raise Transient("who is behind a conversation was resolved anew meanwhile")


async def _holds(db: Connection, placed: Sequence[tuple[StaffEcho, Place]], now: datetime) -> list[Hold]:
    """The holds of new echoes that last until after now."""
    policies = await echo_queries.policies(db, {place.org_id for _, place in placed})
    found = []
    for echo, place in placed:
        until = echo.at + inbox_policy_of(policies.get(place.org_id)).hold
        if until > now and not _is_change(echo):
            found.append(Hold(place.org_id, place.conversation_id, None, echo.at, until))
    return found


def _is_change(echo: StaffEcho) -> bool:
    """Whether it says nothing by itself."""
    kind = echo.content["kind"]
    return kind == "reaction" or (kind == "unsupported" and echo.content.get("type") in _CHANGES)


def _provider_id(key: EchoId, place: Place, message_id: UUID) -> ProviderId:
    number, wamid = key
    return ProviderId("whatsapp", "meta", number, wamid, place.org_id, message_id, message_id, ECHO)


def _log(echo: StaffEcho, message: LockedMessage, now: datetime, *, is_new: bool) -> None:
    log.info(
        "message.echoed",
        org_id=message.org_id,
        conversation_id=str(message.conversation_id),
        message_id=str(message.message_id),
        channel="whatsapp",
        kind=echo.content["kind"],
        outcome="stored" if is_new else "known",
        lag_ms=round((now - echo.received_at).total_seconds() * 1000),
    )
