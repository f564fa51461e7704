"""The row of one send. Pure data, shared by the statements that read and write it and by what decides about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

ProviderName = Literal["meta", "sms"]
State = Literal["pending", "claimed", "unknown", "accepted", "refused", "failed"]
PauseScope = Literal["all", "templates"]
PauseKind = Literal["throttle", "silence", "fault"]
PauseProof = Literal["answer", "status"]
PauseKey = tuple[str, PauseScope]
"""account, scope"""
EVERY_ACCOUNT = "*"
"""The account of a pause that holds for all accounts of its provider."""
Key = tuple[str, UUID, int]
"""org_id, message_id, attempt"""
FAULT_REST = timedelta(seconds=10)
"""How long an account that people must mend rests before a call tries it out, at first."""
FAULT_REST_GROWTH = 1.05
"""Each try that meets the fault again makes the rest so much longer: a minute after a quarter of an hour."""
FAULT_REST_LONGEST = timedelta(minutes=3)
"""Reached after an hour."""
UNANSWERED = "unanswered"
"""The reason of a pause whose account answered nothing: each try may cost a message a call, so one at a time is made."""


@dataclass(frozen=True, slots=True)
class NewSend:
    """A command as it becomes a row. ``account`` is what throttles together: phone_number_id, or the org's own SMS number.

    ``template``: a pause of scope ``templates`` holds for it. ``not_before``: it is not sent sooner, and its conversation waits for it.
    """

    org_id: str
    message_id: UUID
    attempt: int
    conversation_id: UUID
    sequence: int
    account: str
    command: dict[str, Any]
    expires_at: datetime | None
    template: bool = False
    not_before: datetime | None = None

    @property
    def key(self) -> Key:
        return self.org_id, self.message_id, self.attempt


@dataclass(frozen=True, slots=True)
class SendRow:
    """One row of ``sends``, as read or as it shall be written; the columns are explained in the schema."""

    org_id: str
    message_id: UUID
    attempt: int
    conversation_id: UUID
    account: str
    command: Mapping[str, Any]
    state: State
    due_at: datetime
    expires_at: datetime
    created_at: datetime
    template: bool = False
    blocks_until: datetime | None = None
    tries: int = 0
    resends: int = 0
    claim_id: UUID | None = None
    claimed_at: datetime | None = None
    lease_until: datetime | None = None
    unknown_since: datetime | None = None
    outcome: Mapping[str, Any] | None = None
    link_hash: bytes | None = None
    text_hash: bytes | None = None
    settled_at: datetime | None = None
    told: bool = False

    @property
    def key(self) -> Key:
        return self.org_id, self.message_id, self.attempt


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row that is due, of a lane that does not rest.

    ``held``: an older row of its conversation holds it back. ``over``: the pauses that are over and have not been proved to be, of which
    ``alone`` are tried out by one call at a time.
    """

    row: SendRow
    held: bool = False
    over: frozenset[PauseKey] = frozenset()
    alone: frozenset[PauseKey] = frozenset()


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
