"""The search for an SMS whose answer was lost: late ids, statuses with its reference, then the provider's list.

``evidence`` decides what the list proves. Here the list is read, once for each pair of numbers. Before an empty list
proves anything, it is read once more for each sender: a record that shows its recipient masked may not be found by the
recipient's number. An outage of the list is stored for all replicas. The status of an SMS that is found is stored as if
a callback had brought it.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from libs.common.bridge.link_codes import CODE_LENGTH, MASKED_CODE, LinkCodes
from libs.common.db.pool import Pool
from libs.common.errors import Transient
from libs.common.gsm7 import economical
from libs.common.ids import SendKey, callback_data
from libs.common.logging import get_logger
from libs.common.providers.accounts import AccountKey
from libs.common.sending.outcomes import Accepted, Confirmed, Denied, Evidence, Inconclusive, NotSent
from libs.common.sending.rows import SendRow
from libs.common.sending.spent import Spent
from libs.common.sending.status_effects import receive_statuses
from libs.common.thread.message_status import ProviderStatus
from services.sms_bridge import evidence_queries
from services.sms_bridge.command import bridge_text, command_of, is_bridge
from services.sms_bridge.compose import Composed
from services.sms_bridge.evidence import AbsenceRule, LostSend, Resolution, resolve
from services.sms_bridge.providers import ListedSms, ListUnavailable, SmsLookup, SmsProvider

log = get_logger()

LISTS_AT_ONCE = 8
_CODE = re.compile(f"[0-9A-Za-z]{{{CODE_LENGTH}}}")

Pair = tuple[str, str]
"""sender, recipient"""
AskedT = TypeVar("AskedT", str, Pair)


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """What our texts are recognised by, and when an empty list proves something (``evidence.AbsenceRule``)."""

    link_codes: LinkCodes
    portal_host: str | None
    grace: timedelta
    settling: timedelta


async def find_evidence(
    pool: Pool, provider: SmsProvider, config: SearchConfig, rows: Sequence[SendRow], now: datetime
) -> dict[SendKey, Evidence]:
    """The evidence about each send. A row without evidence is left out."""
    async with pool.acquire() as db:
        late = await evidence_queries.ids_of_sends(db, *provider.key, rows)
    evidence: dict[SendKey, Evidence] = {key: known_evidence(ids, provider) for key, ids in late.items()}
    sought = {row.key: (row, lost_send(row, config)) for row in rows if row.key not in evidence}
    if (lookup := provider.lookup) is None:
        return evidence
    other_ids = {one.provider_id for found in late.values() for one in found}
    lost = [lost for _row, lost in sought.values()]
    found = await _search_lists(pool, lookup, provider.key, lost, other_ids=other_ids, now=now, config=config)
    statuses = [status for key, one in found.items() for status in _statuses_of(one, sought[key][0], provider.key, now)]
    if statuses:
        async with pool.acquire() as db, db.transaction():
            known = await receive_statuses(db, statuses, now)
        Spent.of(known.spent.values()).log()
    return evidence | {key: one.evidence for key, one in found.items()}


def lost_send(row: SendRow, config: SearchConfig) -> LostSend:
    """What is looked for in the list.

    The words are composed again from the command. They may differ from the text by now; then its fingerprint is
    compared.
    """
    called_at = row.claimed_at or row.created_at
    before = row.resends + int((row.outcome or {}).get("refused_calls", 0))
    return LostSend(
        key=row.key,
        sender=row.account,
        to=str(row.command.get("to") or ""),
        since=row.created_at if before else called_at,
        called_at=called_at,
        is_text=lambda text: row.text_hash in config.link_codes.fingerprints(text),
        has_words=_words_of(row, config.portal_host),
        unique=is_bridge(row),
        before=before,
    )


def known_evidence(ids: Sequence[evidence_queries.KnownId], provider: SmsProvider) -> Confirmed | Denied:
    """The evidence of the ids that a send is known to have: accepted, unless each of them is of a refused creation.

    Where nothing can be looked up there is no second call, and several ids are the parts of one SMS.
    """
    refusals = {one: provider.refusal(one.code) if one.status == "failed" else None for one in ids}
    taken = sorted({(one.account, one.provider_id) for one, refusal in refusals.items() if refusal is None})
    refused = [refusal for refusal in refusals.values() if refusal is not None]
    if not taken and refused:
        return Denied(refused[0])
    if provider.lookup is None:
        (account, first), parts = taken[0], tuple(provider_id for _account, provider_id in taken[1:])
        return Confirmed((Accepted(account, first, parts=parts),))
    return Confirmed(tuple(Accepted(account, provider_id) for account, provider_id in taken))


async def _search_lists(
    pool: Pool,
    lookup: SmsLookup,
    key: AccountKey,
    sends: Sequence[LostSend],
    *,
    other_ids: Collection[str],
    now: datetime,
    config: SearchConfig,
) -> dict[SendKey, Resolution]:
    """What the lists prove about these sends. Sends whose list cannot be read are left out."""
    pairs: dict[Pair, list[LostSend]] = {}
    for lost in sends:
        pairs.setdefault((lost.sender, lost.to), []).append(lost)
    if not pairs:
        return {}
    since = {pair: min(lost.since for lost in asked) for pair, asked in pairs.items()}
    lists, away = await _read(since, lambda pair, at: lookup.list_sent(sender=pair[0], to=pair[1], since=at))
    async with pool.acquire() as db:
        if away:
            await evidence_queries.record_list_outage(db, key.account, now)
        outage = await evidence_queries.latest_list_outage(db, key)
        # read before the ids: a call that ends in between is known by its id
        in_flight = await evidence_queries.calls_in_flight(db, {sender for sender, _to in pairs})
        ids = {record.provider_id for listed in lists.values() for record in listed if record.provider_id}
        taken = await evidence_queries.known_ids(db, *key, ids) if ids else set()
    taken.update(other_ids)
    absence = AbsenceRule(now, config.grace, None if outage is None else outage + config.settling)

    def resolved(pair: Pair, listed: Sequence[ListedSms]) -> dict[SendKey, Resolution]:
        return resolve(pairs[pair], listed, taken, absence, account=key.account, in_flight=pair in in_flight)

    found = {key: one for pair, listed in lists.items() for key, one in resolved(pair, listed).items()}
    silent = [pair for pair in lists if any(isinstance(found[lost.key].evidence, NotSent) for lost in pairs[pair])]
    oldest: dict[str, datetime] = {}
    asked: dict[str, set[str]] = {}
    for sender, to in silent:
        oldest[sender] = min(since[sender, to], oldest.get(sender, now))
        asked.setdefault(sender, set()).add(to)
    others, away = await _read(
        oldest, lambda sender, at: lookup.list_obscured(sender=sender, to=asked[sender], since=at)
    )
    ids = {record.provider_id for listed in others.values() for record in listed if record.provider_id}
    if away or ids:
        async with pool.acquire() as db:
            if away:
                await evidence_queries.record_list_outage(db, key.account, now)
            taken |= await evidence_queries.known_ids(db, *key, ids)
    for pair in silent:
        if pair[0] in others:
            found |= resolved(pair, _merged(lists[pair], others[pair[0]]))
        else:
            found |= {
                lost.key: Resolution(Inconclusive())
                for lost in pairs[pair]
                if isinstance(found[lost.key].evidence, NotSent)
            }
    return found


async def _read(
    since: Mapping[AskedT, datetime], ask: Callable[[AskedT, datetime], Awaitable[Sequence[ListedSms]]]
) -> tuple[dict[AskedT, Sequence[ListedSms]], bool]:
    """The lists that could be read, and whether the provider's list is away: more of them failed than were read.

    After ``LISTS_AT_ONCE`` failures and nothing read the others are left for the next look: each may take a timeout.
    """
    few = asyncio.Semaphore(LISTS_AT_ONCE)
    found: dict[AskedT, Sequence[ListedSms]] = {}
    failures = 0

    async def read(of: AskedT) -> None:
        nonlocal failures
        async with few:
            if failures >= LISTS_AT_ONCE and not found:
                return
            try:
                found[of] = await ask(of, since[of])
            except Transient as error:
                failures += isinstance(error, ListUnavailable)
                log.warning("task.retried", task="sms_evidence", exc_info=error)

    some_first = random.sample(list(since), len(since))  # or the same few could hide the others at every look
    await asyncio.gather(*map(read, some_first))
    return found, failures > len(found)


def _merged(listed: Sequence[ListedSms], others: Sequence[ListedSms]) -> list[ListedSms]:
    """Both, newest first, each record once. Every record without an id is kept."""
    known = {record.provider_id for record in listed if record.provider_id is not None}
    more = [record for record in others if record.provider_id is None or record.provider_id not in known]
    return sorted([*listed, *more], key=lambda record: record.created_at, reverse=True)


def _statuses_of(found: Resolution, row: SendRow, key: AccountKey, now: datetime) -> list[ProviderStatus]:
    """The status on record of an SMS that was taken, as a callback of its send would bring it."""
    sms = found.record
    if sms is None or sms.provider_id is None or sms.refusal is not None or sms.status.status is None:
        return []
    parties = {"From": row.account, "To": row.command.get("to")}
    status = ProviderStatus(
        "sms",
        *key,
        sms.provider_id,
        sms.status.status,
        now,
        sms.status.code,
        callback_data(*row.key),
        parties,
    )
    return [status]


def _words_of(row: SendRow, portal_host: str | None) -> Callable[[str], bool]:
    """Whether a text has the words of this send, whatever the code of its link is.

    No text has them where the command can no longer be composed.
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
