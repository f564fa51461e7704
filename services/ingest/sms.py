"""Customers' SMS, from the gate to what is published (docs/architecture/inbound-sms.md).

Rule 1: an SMS belongs to the customer who holds its line, in the conversation that this customer goes on in. Its sender
        can be forged: it creates an unknown customer and changes no identity.
Rule 2: ``last_inbound_channel`` moves, but for a STOP or a START: it asks for no answer. The WhatsApp window does not.
Rule 3: a short code or a name is kept in a thread of its own. It is no phone, so nothing is sent there.
Rule 4: a STOP is stored in the transaction that stores its message, and excludes every claim of an SMS to that line
        until it is committed (``libs.common.db.locks.SMS_STOPS``).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from libs.common.bisection import run_bisected
from libs.common.db.pool import Connection
from libs.common.directory.address_marks import clear
from libs.common.directory.identities import Observation, resolve
from libs.common.directory.reports import SignOfLife
from libs.common.directory.sms_keywords import sms_word_of
from libs.common.directory.sms_stops import SmsWordSaid, lock_lines, stopped_lines, store_words
from libs.common.errors import Transient
from libs.common.kafka.producer import Record
from libs.common.logging import get_logger
from libs.common.phone import canonical
from libs.common.thread.newest import newest_of
from services.ingest import sms_queries
from services.ingest.events import inbound_record
from services.ingest.forms import number_of
from services.ingest.identity_queries import fixed_places
from services.ingest.items import SmsMedia
from services.ingest.queries import Place
from services.ingest.sms_parts import AT_ONCE, ROUNDS, WAIT, OrgSms, country_called, join_parts, joined
from services.ingest.sms_queries import IncomingSms, Writer
from services.ingest.worker_deps import Deps, window_of

log = get_logger()

_ROUNDS = 4
_FAMILIES = frozenset({"image", "video", "audio"})  # of MIME types; any other file is a document


async def store_batch(admitted: Sequence[OrgSms], deps: Deps) -> tuple[list[Record], list[UUID]]:
    """Store these SMS; what to publish, and the joins that are published by it."""
    whole = [one for one in admitted if one.sms.part is None or one.sms.part.total == 1]
    parts = [one for one in admitted if one.sms.part is not None and one.sms.part.total > 1]
    complete = await join_parts(deps.pool, parts)
    records = await _store([*whole, *complete], deps)
    return records, [one.join_id for one in complete if one.join_id is not None]


async def mark_published(join_ids: Sequence[UUID], deps: Deps) -> None:
    """These joined messages are published."""
    if join_ids:
        async with deps.pool.acquire() as db:
            await sms_queries.mark_joins_published(db, join_ids)


async def publish_overdue(deps: Deps) -> None:
    """Publish what is there of messages that waited for a part for too long. At rest this is one round trip."""
    async with deps.pool.acquire() as db:
        if not await sms_queries.any_overdue(db, WAIT):
            return
    for _round in range(ROUNDS):
        async with deps.pool.acquire() as db, db.transaction():
            overdue = await sms_queries.close_overdue(db, WAIT, AT_ONCE)
            countries = await sms_queries.countries_of(db, {join.org_id for join in overdue})
        if overdue:
            whole = [joined(join, country_called(countries.get(join.org_id), join.account)) for join in overdue]
            await run_bisected(whole, partial(_publish, deps=deps), key=lambda one: one.join_id, failed=_set_aside)
        if len(overdue) < AT_ONCE:
            return


async def _publish(messages: Sequence[OrgSms], deps: Deps) -> None:
    await deps.producer.publish(await _store(messages, deps))
    await mark_published([one.join_id for one in messages if one.join_id is not None], deps)


def _set_aside(one: OrgSms, error: Exception) -> None:
    """Its turn comes again; the others of its slice are published."""
    log.error("row.set_aside", task="sms_parts", org_id=one.org_id, exc_info=error)


async def _store(messages: Sequence[OrgSms], deps: Deps) -> list[Record]:
    unique: dict[tuple[str, str, str], OrgSms] = {}
    for one in messages:
        unique.setdefault((one.sms.provider, one.sms.to, one.sms.provider_id), one)
    if not unique:
        return []
    messages = list(unique.values())
    places = await _places(messages, deps)
    words = {n: word for n, one in enumerate(messages) if _is_number(one) and (word := _word(one)) is not None}
    async with deps.pool.acquire() as db, db.transaction():
        await lock_lines(db, [(messages[n].org_id, messages[n].sms.sender) for n in words])
        keywords = await _keywords(db, messages, words)
        rows = [
            _incoming(one, place, keywords.get(n)) for n, (one, place) in enumerate(zip(messages, places, strict=True))
        ]
        stored = await sms_queries.store_sms(db, rows)
        await clear(db, [SignOfLife(m.org_id, "sms", m.sms.sender, _at(m)) for m in messages if _is_number(m)])
        await store_words(
            db,
            [
                SmsWordSaid(kept.org_id, kept.customer_id, one.sms.sender, kept.content["keyword"] == "start", kept.at)
                for one, kept in zip(messages, stored, strict=True)
                if kept.fresh and kept.customer_id is not None and "keyword" in kept.content
            ],
        )
    now = deps.now()
    return [inbound_record(one, window_of(one.opened_at, one, deps), now) for one in stored]


async def _keywords(db: Connection, messages: Sequence[OrgSms], words: dict[int, str]) -> dict[int, str]:
    """The keyword of each message that is one. A YES is one where the line's STOP stands."""
    maybe = {n: (messages[n].org_id, canonical(messages[n].sms.sender)) for n, w in words.items() if w == "maybe_start"}
    stopped = await stopped_lines(db, set(maybe.values())) if maybe else set()
    sure = {n: word for n, word in words.items() if n not in maybe}
    return sure | {n: "start" for n, line in maybe.items() if line in stopped}


# ── Places ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _places(messages: Sequence[OrgSms], deps: Deps) -> list[Place]:
    """The conversation of each. Unknown customers are created."""
    async with deps.pool.acquire() as db:
        for _ in range(_ROUNDS):
            found = await sms_queries.find_places(db, [_writer(one) for one in messages])
            if None in found:
                ids = [(one.org_id, one.sms.provider, one.sms.to, one.sms.provider_id) for one in messages]
                found = [place or fixed for place, fixed in zip(found, await fixed_places(db, ids), strict=True)]
            unknown = [one for one, place in zip(messages, found, strict=True) if place is None]
            if not unknown:
                return [place for place in found if place is not None]
            async with db.transaction():
                resolved = await resolve(db, [_observed(one) for one in unknown], deps.now())
                customers = [
                    (one.org_id, who.customer_id)
                    for one, who in zip(unknown, resolved, strict=True)
                    if who.customer_id is not None
                ]
                threads = await newest_of(db, customers)
            places = iter(
                None if who.customer_id is None else Place(one.org_id, *threads[one.org_id, who.customer_id])
                for one, who in zip(unknown, resolved, strict=True)
            )
            found = [place if place is not None else next(places) for place in found]
            if all(place is not None for place in found):
                return [place for place in found if place is not None]
    raise Transient("identities change all the time")


def _is_number(one: OrgSms) -> bool:
    return number_of(one.sms.sender) is not None


def _at(one: OrgSms) -> Any:
    return one.sms.at or one.sms.received_at


def _writer(one: OrgSms) -> Writer:
    if _is_number(one):
        return Writer(one.org_id, "phone", canonical(one.sms.sender), _at(one))
    return Writer(one.org_id, "sender", one.sms.sender, _at(one))


def _observed(one: OrgSms) -> Observation:
    if _is_number(one):
        return Observation(one.org_id, one.sms.sender, None, None, _at(one), "sms", origin="inbound")
    name = one.sms.sender
    return Observation(one.org_id, None, None, None, _at(one), "sms", name=name, origin="inbound", sender=name)


# ── Contents ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _word(one: OrgSms) -> str | None:
    if one.sms.opted is not None or len(one.parts) < one.total:
        return one.sms.opted  # what is not the whole text is no keyword
    return sms_word_of(one.sms.text, one.country, one.sms.provider)


def _incoming(one: OrgSms, place: Place, keyword: str | None) -> IncomingSms:
    content = content_of(one) | ({} if keyword is None else {"keyword": keyword})
    sms = one.sms
    return IncomingSms(
        org_id=place.org_id,
        conversation_id=place.conversation_id,
        identity_version=place.identity_version,
        provider=sms.provider,
        account=sms.to,
        provider_id=sms.provider_id,
        kind=content["kind"],
        content=content,
        at=_at(one),
        received_at=sms.received_at,
        from_wa_id=sms.sender.removeprefix("+") if _is_number(one) else None,
    )


def content_of(one: OrgSms) -> dict[str, Any]:
    """The content of the SMS and what stands beside it, in the words of ``inbound.messages.v1``.

    A file of an MMS stays a link; it is never fetched. Of several files the first is the content, and all are beside.
    """
    sms = one.sms
    if sms.media:
        files = [_file(media) for media in sms.media]
        content: dict[str, Any] = files[0] | ({"caption": sms.text} if sms.text else {})
        if len(files) > 1:
            content["media"] = files
    elif sms.text is None:
        content = {"kind": "unsupported", "type": "binary"}
    else:
        content = {"kind": "text", "text": sms.text}
    if one.parts and len(one.parts) < one.total:
        content["incomplete"] = {"parts": list(one.parts), "total": one.total}
    return content | {"verified": False}


def _file(media: SmsMedia) -> dict[str, Any]:
    family = (media.mime_type or "").partition("/")[0].lower()
    return {"kind": family if family in _FAMILIES else "document", "link": media.link} | (
        {} if media.mime_type is None else {"mime_type": media.mime_type}
    )
