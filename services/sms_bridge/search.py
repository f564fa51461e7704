"""Evidence for an SMS whose answer was lost: ids that came late, statuses that echo its reference, then the provider's own list.

What the list proves is said in ``evidence``. Here it is read, once for each pair of numbers and, before its silence
proves anything, once for each sender: a record whose recipient is shown otherwise may be missing from the answer to a
question for that recipient. When the list is away, that is kept for all replicas. What became of an SMS that is found
is kept as if a callback had told it, until the send is settled.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from libs.common.bridge.link_codes import CODE_LENGTH, MASKED_CODE, LinkCodes
from libs.common.db.pool import Pool
from libs.common.errors import Transient
from libs.common.gsm7 import economical
from libs.common.ids import callback_data
from libs.common.logging import get_logger
from libs.common.sending.outcomes import Absent, Accepted, Denied, Evidence, Found, Unclear
from libs.common.sending.pauses import Key
from libs.common.sending.rows import SendRow
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.statuses import ProviderStatus
from services.sms_bridge import evidence_queries
from services.sms_bridge.command import bridge_text, command_of, is_bridge
from services.sms_bridge.compose import Composed
from services.sms_bridge.evidence import AbsenceRule, LostSend, Resolution, resolve
from services.sms_bridge.providers import ListedSms, ListUnavailable, SmsProvider

log = get_logger()

_LISTS_AT_ONCE = 8
_CODE = re.compile(f"[0-9A-Za-z]{{{CODE_LENGTH}}}")

Pair = tuple[str, str]
"""sender, recipient"""
AskedT = TypeVar("AskedT", str, Pair)


@dataclass(frozen=True, slots=True)
class Search:
    """What is needed to find our texts again, and when a list's silence proves something: see ``evidence.AbsenceRule``."""

    link_codes: LinkCodes
    portal_host: str | None
    grace: timedelta
    settling: timedelta


async def seek(
    pool: Pool, provider: SmsProvider, search: Search, rows: Sequence[SendRow], now: datetime
) -> dict[Key, Evidence]:
    """What is known of each send; a row that is missing is as unclear as before."""
    async with pool.acquire() as db:
        late = await evidence_queries.ids_of_sends(db, provider.account, rows)
    evidence: dict[Key, Evidence] = {key: known_evidence(ids, provider) for key, ids in late.items()}
    sought = {row.key: (row, lost_send(row, search)) for row in rows if row.key not in evidence}
    theirs = {one.provider_id for found in late.values() for one in found}
    seen = await _look(pool, provider, [lost for _row, lost in sought.values()], theirs=theirs, now=now, search=search)
    fates = [told for key, one in seen.items() for told in _told_by(one, sought[key][0], provider, now)]
    if fates:
        async with pool.acquire() as db, db.transaction():
            await receive_statuses(db, fates, now)
    return evidence | {key: one.evidence for key, one in seen.items()}


def lost_send(row: SendRow, search: Search) -> LostSend:
    """What is looked for in the list.

    The words of a text are written anew from its command, and may differ by now: then its digest tells.
    """
    called_at = row.claimed_at or row.created_at
    before = row.resends + int((row.outcome or {}).get("refusals", 0))
    return LostSend(
        key=row.key,
        sender=row.account,
        to=str(row.command.get("to") or ""),
        since=row.created_at if before else called_at,
        called_at=called_at,
        is_text=lambda text: row.text_hash in search.link_codes.fingerprints(text),
        has_words=_words_of(row, search.portal_host),
        unique=is_bridge(row),
        before=before,
    )


def known_evidence(ids: Sequence[evidence_queries.KnownId], provider: SmsProvider) -> Found | Denied:
    """What the ids come to that a send is known to have got: accepted, unless all that is known of them is that creation was refused."""
    taken = {(one.account, one.provider_id) for one in ids if one.status != "failed"}
    refused = [no for one in ids if one.status == "failed" and (no := provider.refusal(one.code)) is not None]
    taken |= {
        (one.account, one.provider_id) for one in ids if one.status == "failed" and provider.refusal(one.code) is None
    }
    if not taken and refused:
        return Denied(refused[0])
    return Found(tuple(Accepted(*one) for one in sorted(taken)))


async def _look(
    pool: Pool,
    provider: SmsProvider,
    sends: Sequence[LostSend],
    *,
    theirs: Collection[str],
    now: datetime,
    search: Search,
) -> dict[Key, Resolution]:
    """What the list says of these sends; those whose list cannot be read are left out.

    ``theirs`` are ids of other sends.
    """
    pairs: dict[Pair, list[LostSend]] = {}
    for lost in sends:
        pairs.setdefault((lost.sender, lost.to), []).append(lost)
    if not pairs:
        return {}
    since = {pair: min(lost.since for lost in asked) for pair, asked in pairs.items()}
    lists, away = await _read(since, lambda pair, at: provider.list_sent(sender=pair[0], to=pair[1], since=at))
    async with pool.acquire() as db:
        if away:
            await evidence_queries.record_list_outage(db, provider.account, now)
        outage = await evidence_queries.latest_list_outage(db, provider.account)
        # asked before the ids: a call that ends in between is known by its id
        in_flight = await evidence_queries.calls_in_flight(db, {sender for sender, _to in pairs})
        ids = {record.provider_id for listed in lists.values() for record in listed if record.provider_id}
        taken = await evidence_queries.known_ids(db, provider.account, ids) if ids else set()
    taken.update(theirs)
    silence = AbsenceRule(now, search.grace, None if outage is None else outage + search.settling)

    def weighed(pair: Pair, listed: Sequence[ListedSms]) -> dict[Key, Resolution]:
        return resolve(pairs[pair], listed, taken, silence, account=provider.account, in_flight=pair in in_flight)

    seen = {key: one for pair, listed in lists.items() for key, one in weighed(pair, listed).items()}
    silent = [pair for pair in lists if any(isinstance(seen[lost.key].evidence, Absent) for lost in pairs[pair])]
    oldest: dict[str, datetime] = {}
    asked: dict[str, set[str]] = {}
    for sender, to in silent:
        oldest[sender] = min(since[sender, to], oldest.get(sender, now))
        asked.setdefault(sender, set()).add(to)
    others, away = await _read(
        oldest, lambda sender, at: provider.list_obscured(sender=sender, to=asked[sender], since=at)
    )
    ids = {record.provider_id for listed in others.values() for record in listed if record.provider_id}
    if away or ids:
        async with pool.acquire() as db:
            if away:
                await evidence_queries.record_list_outage(db, provider.account, now)
            taken |= await evidence_queries.known_ids(db, provider.account, ids)
    for pair in silent:
        if pair[0] in others:
            seen |= weighed(pair, _merged(lists[pair], others[pair[0]]))
        else:
            seen |= {
                lost.key: Resolution(Unclear()) for lost in pairs[pair] if isinstance(seen[lost.key].evidence, Absent)
            }
    return seen


async def _read(
    since: Mapping[AskedT, datetime], ask: Callable[[AskedT, datetime], Awaitable[Sequence[ListedSms]]]
) -> tuple[dict[AskedT, Sequence[ListedSms]], bool]:
    """The lists that could be read, and whether the list is away: more could not be read than could.

    A single failure speaks of itself alone.
    """
    few = asyncio.Semaphore(_LISTS_AT_ONCE)
    failures = 0

    async def read(of: AskedT) -> Sequence[ListedSms] | None:
        nonlocal failures
        async with few:
            try:
                return await ask(of, since[of])
            except Transient as error:
                failures += isinstance(error, ListUnavailable)
                log.warning("task.retried", task="sms_evidence", exc_info=error)
                return None

    answers = zip(since, await asyncio.gather(*map(read, since)), strict=True)
    found = {of: listed for of, listed in answers if listed is not None}
    return found, failures > len(found)


def _merged(listed: Sequence[ListedSms], others: Sequence[ListedSms]) -> list[ListedSms]:
    """Both, newest first, each record once; one without an id is kept, whatever else is there."""
    known = {record.provider_id for record in listed if record.provider_id is not None}
    more = [record for record in others if record.provider_id is None or record.provider_id not in known]
    return sorted([*listed, *more], key=lambda record: record.created_at, reverse=True)


def _told_by(seen: Resolution, row: SendRow, provider: SmsProvider, now: datetime) -> list[ProviderStatus]:
    """What a record says of an SMS that was taken, as a callback of that send would."""
    sms = seen.record
    if sms is None or sms.provider_id is None or sms.refusal is not None or sms.status.status is None:
        return []
    parties = {"From": row.account, "To": row.command.get("to")}
    told = ProviderStatus(
        "sms",
        provider.account,
        sms.provider_id,
        sms.status.status,
        now,
        sms.status.code,
        callback_data(*row.key),
        parties,
    )
    return [told]


def _words_of(row: SendRow, portal_host: str | None) -> Callable[[str], bool]:
    """Whether a text says what this send says, whatever the code of its link is.

    What cannot be written any more is said by nothing.
    """
    command = command_of(row)
    if command is None:
        return lambda _text: False
    if not is_bridge(row):
        plain = economical(command.text or "")
        return lambda text: text == plain
    composed = bridge_text(command, portal_host, MASKED_CODE)
    if not isinstance(composed, Composed):
        return lambda _text: False
    words = composed.text.removesuffix(MASKED_CODE)
    return lambda text: text.startswith(words) and _CODE.fullmatch(text, len(words)) is not None
