"""A pause of a provider's account, and what names it. Pure data."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

PauseScope = Literal["all", "templates"]
PauseKind = Literal["throttle", "silence", "fault"]
PauseProof = Literal["answer", "status"]
PauseKey = tuple[str, PauseScope]
"""account, scope"""
EVERY_ACCOUNT = "*"
"""The account of a pause that holds for all accounts of its provider."""
FAULT_PAUSE = timedelta(seconds=10)
"""How long an account that people must mend rests before a call tries it out, at first."""
FAULT_PAUSE_GROWTH = 1.05
"""Each try that meets the fault again makes the rest so much longer: a minute after a quarter of an hour."""
FAULT_PAUSE_LONGEST = timedelta(minutes=3)
"""Reached after an hour."""
UNANSWERED = "unanswered"
"""The reason of a pause for silence. Each try may cost a message a call, so one is made at a time."""


@dataclass(frozen=True, slots=True)
class Pause:
    """An account that must rest. It stays after ``until`` until a call succeeds: meanwhile only a few probes pass.

    ``kind`` says how few, ``proof`` what ends a fault, ``since`` from when on calls can prove it.
    """

    account: str
    scope: PauseScope
    until: datetime
    tries: int
    reason: str
    kind: PauseKind
    proof: PauseProof
    since: datetime
