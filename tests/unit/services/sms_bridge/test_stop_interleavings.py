"""A STOP against the claims of SMS to its line: every order of their steps.

The model has what both rely on of PostgreSQL: an advisory lock that is shared or exclusive and lasts to the commit, and
statements that see what was committed when they began. The gate is the real one.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from libs.common.sms_reach import SmsReach
from libs.common.window import Window
from services.sms_bridge.gate import GateFacts, refusal_reason

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
INTERLEAVINGS = 10_000


@dataclass
class Line:
    """A customer's line: what is committed about it, who has its lock, and in which order things were committed."""

    stopped: bool = False
    sharing: set[int] = field(default_factory=set)
    alone: int | None = None
    committed: list[str] = field(default_factory=list)


Step = Iterator[bool]
"""Each step of a transaction; False: it waits for a lock and must be tried again."""


def claim(line: Line, me: int, *, locked: bool) -> Step:
    """The claim of an SMS: ``SmsAdapter.judge`` and the commit."""
    while locked and line.alone is not None:
        yield False
    if locked:
        line.sharing.add(me)
    yield True
    facts = GateFacts(
        window=Window(NOW - timedelta(hours=30), timedelta(hours=24), timedelta(0)),
        whatsapp_allowed=True,
        reach=SmsReach(
            phone="+447700900999",
            no_phone_until=None,
            stopped_until=NOW + timedelta(days=1) if line.stopped else None,
            allowed=not line.stopped,
            explicit=False,
            contacted=True,
            number="+447700900001",
            active=True,
        ),
        slot_taken=False,
    )
    refused = refusal_reason(bridge=True, sender="+447700900001", to="+447700900999", facts=facts, now=NOW)
    yield True
    line.committed.append("refused" if refused is not None else "claimed")
    line.sharing.discard(me)
    yield True


def stop(line: Line, me: int, *, locked: bool) -> Step:
    """The STOP: ``services.ingest.sms`` and the commit."""
    while locked and (line.alone is not None or line.sharing):
        yield False
    if locked:
        line.alone = me
    yield True
    yield True  # message, consent and mark are written, and nobody else sees them
    line.stopped = True
    line.committed.append("stop")
    line.alone = None
    yield True


def play(seed: int, *, locked: bool = True) -> list[str]:
    """One order of the steps of a STOP and some claims; what was committed, in its order."""
    chance, line = random.Random(seed), Line()
    running = [claim(line, n, locked=locked) for n in range(chance.randint(1, 4))]
    running.append(stop(line, 99, locked=locked))
    while running:
        one = chance.choice(running)
        if next(one, None) is None:
            running.remove(one)
    return line.committed


def claimed_after_stop(committed: list[str]) -> bool:
    return "claimed" in committed[committed.index("stop") :]


def test_no_sms_is_claimed_after_stop_in_ten_thousand_interleavings() -> None:
    played = [play(seed) for seed in range(INTERLEAVINGS)]
    assert not any(map(claimed_after_stop, played))
    assert any("claimed" in one for one in played)
    assert any("refused" in one for one in played)


def test_without_the_lock_some_are() -> None:
    assert any(claimed_after_stop(play(seed, locked=False)) for seed in range(200))
