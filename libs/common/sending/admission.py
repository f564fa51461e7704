"""Admission: which of the due rows are claimed now. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from libs.common.ids import SendKey
from libs.common.sending.rows import RUN, Candidate, Pause, PauseKey, SendRow, Transition
from libs.common.sending.transitions import expire

PROBES = 4
"""How many calls per claim probe an account whose pause is over."""
LAST_CALL_AFTER = timedelta(minutes=5)
"""A message that has one call left tries out an account that answers nothing no sooner than this after its first call.

Such a probe may cost the message, and most outages are shorter.
"""
_OLDEST_EVERY = 3


@dataclass(slots=True)
class Admission:
    """The engine's own part of the gate, for the rows that are due."""

    judged: list[tuple[SendRow, frozenset[PauseKey]]] = field(default_factory=list)
    """Rows for the adapter's gate, each with the pauses that its call would probe."""
    ended: list[Transition] = field(default_factory=list)
    """Rows whose deadline has passed, and rows whose last call is not to try out their account yet."""
    followers: set[SendKey] = field(default_factory=set)
    """Those of ``judged`` whose call comes after that of the row before it in its conversation.

    An older row whose time to hold back others is over is followed as well: many calls of one process may be lost.
    """
    held: dict[str, list[SendKey]] = field(default_factory=dict)
    """Rows behind an older one of their conversation, by account."""
    left: set[str] = field(default_factory=set)
    """Accounts with rows beyond their budget."""
    probes: Counter[PauseKey] = field(default_factory=Counter)
    """How many calls probe each pause."""


def admit(
    found: Iterable[Candidate], now: datetime, budgets: Mapping[str, int], ours: Mapping[PauseKey, Pause] | None = None
) -> Admission:
    """Choose the rows for the adapter's gate: of each account the oldest, up to its budget. Expired rows end.

    A throttle whose time is over lets ``PROBES`` calls pass until one succeeds. An account that answered nothing, or
    that people must mend, gets one call from the process that holds the probe (``ours``), preferably of a row that has
    another call left.
    """
    ours = ours or {}
    admission = Admission()
    taken: Counter[str] = Counter()
    runs: defaultdict[tuple[str, UUID], list[Candidate]] = defaultdict(list)
    for candidate in sorted(found, key=lambda c: _place(c, ours)):
        row = candidate.row
        run = runs[row.org_id, row.conversation_id]
        if candidate.behind and not _continues(run, candidate):
            admission.held.setdefault(row.account, []).append(row.key)
        elif taken[row.account] >= budgets[row.account]:
            admission.left.add(row.account)
        elif now >= row.expires_at:
            taken[row.account] += 1
            admission.ended.append(expire(row, now))
        elif all(admission.probes[key] < _most_probes(key, candidate, ours) for key in candidate.over):
            taken[row.account] += 1
            if candidate.alone and now < (soonest := _last_call_at(row)):
                admission.ended.append(Transition(row, row._replace(due_at=soonest)))
                continue
            admission.probes.update(candidate.over)
            admission.judged.append((row, candidate.over))
            if run and not candidate.over:  # a probe waits for nothing
                admission.followers.add(row.key)
            run.append(candidate)
    return admission


def _place(candidate: Candidate, ours: Mapping[PauseKey, Pause]) -> tuple[int, float, int]:
    """Where a row stands among those that are due.

    What waits longest may have come together with the calls that were lost, and fare like them. So a silent
    account is probed with the youngest row, and every third time with the oldest: the young may fare like them too.
    """
    due, sequence = candidate.row.due_at.timestamp(), candidate.sequence
    pauses = [ours[key] for key in candidate.alone & ours.keys()]
    if any(pause.kind == "silence" and pause.tries % _OLDEST_EVERY for pause in pauses):
        due, sequence = -due, -sequence
    return candidate.row.resends if candidate.alone else 0, due, sequence


def _continues(run: Sequence[Candidate], candidate: Candidate) -> bool:
    """Whether nothing but the rows of this run holds the candidate back.

    Rows that were called before, that hold others back for a time alone, or that wait for a pause are claimed singly:
    the call of such a row may well not be accepted.
    """
    every = (*run, candidate)
    return len(run) == candidate.behind < RUN and not any(
        one.row.blocks_order_until or one.row.tries or one.over or one.row.template != candidate.row.template
        for one in every
    )


def _last_call_at(row: SendRow) -> datetime:
    """When the last call of a row may try out its account: when it is due, unless its call before was just lost.

    A row whose deadline comes first has nothing to lose.
    """
    lost = (row.outcome or {}).get("answer") == "unknown"
    soonest = row.claimed_at + LAST_CALL_AFTER if row.resends and lost and row.claimed_at is not None else row.due_at
    return soonest if soonest < row.expires_at else row.due_at


def _most_probes(key: PauseKey, candidate: Candidate, ours: Mapping[PauseKey, Pause]) -> int:
    return int(key in ours) if key in candidate.alone else PROBES
