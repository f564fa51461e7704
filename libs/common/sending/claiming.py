"""Claiming: rows that are due pass the gate in one transaction and are ours until their lease ends, or end here."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic, assert_never
from uuid import uuid4

from libs.common.backoff import backoff
from libs.common.db import pauses, sends
from libs.common.db.pool import Connection
from libs.common.sending.applying import Applied, apply
from libs.common.sending.carrier import Carrier
from libs.common.sending.outcomes import Found, Go, PreparedT, Refused, Returned, Timings
from libs.common.sending.rows import Claim, PauseScope, SendRow, Step
from libs.common.sending.transitions import PROBE_GAP, admit, claim, later, settle

_OTHER_PROVIDER = timedelta(seconds=60)
_SET_ASIDE = timedelta(seconds=30)
_SET_ASIDE_LONGEST = timedelta(hours=1)


@dataclass(slots=True)
class Round(Generic[PreparedT]):
    """One claim: what is to be sent now, what the gate ended or put off, and whether more may be due."""

    claims: list[Claim[PreparedT]]
    applied: Applied
    full: bool


async def claim_due(
    db: Connection, carrier: Carrier[PreparedT], now: datetime, *, limit: int, timings: Timings
) -> Round[PreparedT]:
    """Claim up to ``limit`` rows that are due. Call inside a transaction."""
    found = await sends.candidates(db, carrier.provider, now, limit, now - _OTHER_PROVIDER)
    if not found:
        return Round([], Applied(), full=False)
    over = {c.row.account for c in found if c.silent and c.rests_until is not None and c.rests_until <= now}
    mine: set[str] = {account for account, _ in await pauses.alone(db, carrier.provider, over, now)} if over else set()
    admission = admit(found, now, timings, carrier.is_template, mine)
    verdicts = await carrier.judge(db, [row for row, _ in admission.judged], now) if admission.judged else {}
    claim_id = uuid4()
    claims: list[Claim[PreparedT]] = []
    steps = admission.steps
    for row, probes in admission.judged:
        verdict = verdicts[row.key]
        match verdict:
            case Go():
                ours = claim(row, verdict, claim_id, now, timings)
                steps.append(Step(row, ours))
                claims.append(Claim(ours, verdict.prepared, probes))
            case Found():
                steps.append(settle(row, verdict.ids, now))
            case Returned() | Refused():
                steps.append(settle(row, verdict, now))
            case _:
                assert_never(verdict)
    applied = await apply(db, carrier, steps, now)
    if admission.probes:
        gap = PROBE_GAP * (1 + random.random())  # noqa: S311 -- chance spreads probes, it guards nothing
        alone: set[tuple[str, PauseScope]] = {(account, "all") for account in mine}
        went = {(claim.row.account, scope) for claim in claims for scope in claim.probes}
        await pauses.probe(db, carrier.provider, admission.probes.keys() - alone, now + gap, now)
        # the next one may try only when this call has ended, answered or not
        await pauses.probe(db, carrier.provider, went & alone, now + timings.lease, now)
    return Round(claims, applied, full=len(found) >= limit)


async def set_aside(db: Connection, carrier: Carrier[PreparedT], now: datetime, timings: Timings) -> Sequence[Step]:
    """Put off the first row that is due: claiming it fails, and those behind it must pass. Call inside a transaction."""
    found = await sends.candidates(db, carrier.provider, now, 1, now - _OTHER_PROVIDER)
    steps = [Step(c.row, _put_off(c.row, now, timings)) for c in found]
    return (await apply(db, carrier, steps, now)).done


def _put_off(row: SendRow, now: datetime, timings: Timings) -> SendRow:
    """The row as one that is tried again ever more rarely, until its deadline."""
    wait = backoff(row.tries + 1, base=_SET_ASIDE, cap=_SET_ASIDE_LONGEST, jitter=random.random, factor=4)
    noted = replace(row, tries=row.tries + 1, outcome={**(row.outcome or {}), "answer": "retry_later", "code": "fault"})
    return later(noted, now + wait, now, timings, holds_for_all=False)
