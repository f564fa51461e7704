"""Evidence for an SMS whose answer was lost: ids that came late, statuses that echo its reference, then the provider's own list.

A listed message is ours when it went between the same numbers, not before the claim, with the very text (by keyed
digest; a bridge's code makes it unique), and belongs to no other send of ours. It is read with its status and error: a
record of a refused creation is the refusal whose answer got lost, and what became of one that was taken is kept as if a
callback had told it, until the send is settled. A list that cannot be read to its end proves nothing, and before the
grace is over its silence proves nothing either.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from libs.common.db.pool import Pool
from libs.common.db.statuses import ProviderStatus, receive_statuses
from libs.common.errors import Transient
from libs.common.ids import callback_data
from libs.common.logging import get_logger
from libs.common.send_rows import Key, SendRow
from libs.common.sending.outcomes import Absent, Accepted, Denied, Evidence, Found, Unclear
from services.sms_bridge import queries
from services.sms_bridge.links import LinkMint
from services.sms_bridge.providers import Listed, SmsProvider

log = get_logger()

_LISTS_AT_ONCE = 8
_SKEW = timedelta(seconds=60)
"""How far the provider's clock may be behind ours."""


async def seek(
    pool: Pool, provider: SmsProvider, mint: LinkMint, rows: Sequence[SendRow], *, now: datetime, grace: timedelta
) -> dict[Key, Evidence]:
    """What is known of each send; a row that is missing is as unclear as before."""
    async with pool.acquire() as db:
        late = await queries.heard_of(db, provider.account, rows)
    evidence: dict[Key, Evidence] = {key: heard(ids, provider) for key, ids in late.items()}
    open_rows = sorted((row for row in rows if row.key not in evidence), key=lambda row: (_claimed(row), row.key))
    lists = await _lists(provider, open_rows)
    async with pool.acquire() as db:
        ids = {sms.provider_id for listed in lists.values() for sms in listed}
        taken = await queries.known_ids(db, provider.account, ids) if ids else set()
    taken.update(one.provider_id for found in late.values() for one in found)
    fates: list[ProviderStatus] = []
    for row in open_rows:
        listed = lists.get(_parties(row))
        if listed is None:
            continue
        ours = [sms for sms in reversed(listed) if sms.provider_id not in taken and _is_of(sms, row, mint)]
        match = min(
            ours, key=lambda sms: sms.refusal is not None, default=None
        )  # one that was taken before any that was not
        if match is not None:
            taken.add(match.provider_id)
            if match.refusal is None:
                evidence[row.key] = Found((Accepted(provider.account, match.provider_id),))
                fates += _told_by(match, row, provider, now)
            else:
                evidence[row.key] = Denied(match.refusal)
        else:
            evidence[row.key] = Absent() if now - _claimed(row) >= grace else Unclear()
    if fates:
        async with pool.acquire() as db, db.transaction():
            await receive_statuses(db, fates, now)
    return evidence


def _told_by(sms: Listed, row: SendRow, provider: SmsProvider, now: datetime) -> list[ProviderStatus]:
    """What a record says of an SMS that was taken, as a callback of that send would."""
    if sms.fate.status is None:
        return []
    parties = {"From": row.account, "To": row.command.get("to")}
    told = ProviderStatus(
        "sms", provider.account, sms.provider_id, sms.fate.status, now, sms.fate.code, callback_data(*row.key), parties
    )
    return [told]


def heard(ids: Sequence[queries.Heard], provider: SmsProvider) -> Found | Denied:
    """What the ids come to that a send is known to have got: accepted, unless all that is known of them is that creation was refused."""
    taken = {(one.account, one.provider_id) for one in ids if one.status != "failed"}
    refused = [no for one in ids if one.status == "failed" and (no := provider.refusal(one.code)) is not None]
    taken |= {
        (one.account, one.provider_id) for one in ids if one.status == "failed" and provider.refusal(one.code) is None
    }
    if not taken and refused:
        return Denied(refused[0])
    return Found(tuple(Accepted(*one) for one in sorted(taken)))


async def _lists(provider: SmsProvider, rows: Sequence[SendRow]) -> Mapping[tuple[str, str], Sequence[Listed]]:
    """The provider's list for each pair of numbers, since the oldest claim of the pair; pairs whose list cannot be read are left out."""
    since: dict[tuple[str, str], datetime] = {}
    for row in rows:
        since.setdefault(_parties(row), _claimed(row))
    few = asyncio.Semaphore(_LISTS_AT_ONCE)

    async def read(pair: tuple[str, str]) -> Sequence[Listed] | None:
        async with few:
            try:
                return await provider.listed(sender=pair[0], to=pair[1], since=since[pair])
            except Transient as error:
                log.warning("task.retried", task="sms_evidence", exc_info=error)
                return None

    found = zip(since, await asyncio.gather(*map(read, since)), strict=True)
    return {pair: listed for pair, listed in found if listed is not None}


def _parties(row: SendRow) -> tuple[str, str]:
    return row.account, str(row.command.get("to") or "")


def _claimed(row: SendRow) -> datetime:
    return row.claimed_at or row.created_at


def _is_of(sms: Listed, row: SendRow, mint: LinkMint) -> bool:
    return sms.created_at >= _claimed(row) - _SKEW and row.text_hash in mint.text_hashes(sms.text)
