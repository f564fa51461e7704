"""What only one organisation can have: a WhatsApp business number, an SMS number.

Rule 1: who has it keeps it. Another organisation's claim is refused as ``number_of_another_org``, until the owner gives the number up: by
        ``number.removed.v1``, for an SMS number by telling itself with another one or none.
Rule 2: the changes of a batch count one after the other, each only where it is not older than what stands.
Rule 3: whoever claims a number is alone with it until the transaction ends (``alone``).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from libs.common.db.locks import CLAIMS, lock
from libs.common.db.pool import Connection
from libs.common.events.directory import DirectoryChange, NumberRemoved, NumberUpserted, OrgUpserted
from libs.common.sanitize import sanitize
from services.ingest import directory_queries as sql
from services.ingest import moves
from services.ingest.directory_queries import NumberRow

OF_ANOTHER_ORG = "number_of_another_org"

NumberChange = tuple[int, NumberUpserted | NumberRemoved]
"""A change with its index in the batch."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The change at ``index`` was not applied; ``reason`` is a static code."""

    index: int
    reason: str
    detail: str


async def alone(db: Connection, changes: Iterable[DirectoryChange]) -> None:
    """Be alone with every number that these changes claim or give up."""
    names: list[str] = []
    for change in changes:
        match change:
            case OrgUpserted(sms_number=str(number)):
                names.append(f"sms:{number}")
            case NumberUpserted() | NumberRemoved():
                names.append(f"number:{change.phone_number_id}")
            case _:
                continue
    await lock(db, CLAIMS, names)


async def tell_orgs(db: Connection, orgs: Sequence[tuple[int, OrgUpserted]]) -> list[Refused]:
    """Store the organisations; of those that claim another's SMS number nothing is stored."""
    if not orgs:
        return []
    claimed = sorted({c.sms_number for _, c in orgs if c.sms_number is not None})
    standing = _SmsNumbers(await sql.sms_numbers(db, sorted({c.org_id for _, c in orgs}), claimed))
    refused: list[Refused] = []
    newest: dict[str, OrgUpserted] = {}
    for index, change in orgs:
        match standing.tell(change):
            case "taken":
                refused.append(Refused(index, OF_ANOTHER_ORG, "sms_number belongs to another organisation"))
            case "now":
                newest[change.org_id] = change
            case "stale":
                continue
    await sql.leave_sms_numbers(db, sorted(newest))
    await sql.upsert_orgs(
        db,
        [
            (c.org_id, sanitize(c.name), c.sms_number, c.sms_active, sanitize(c.portal_host), sanitize(c.policy), c.at)
            for c in newest.values()
        ],
    )
    return refused


class _SmsNumbers:
    """Who has which SMS number, as one change after the other leaves it."""

    def __init__(self, found: Iterable[sql.SmsNumber]) -> None:
        self._of = {one.org_id: one for one in found}
        self._owner = {one.number: one.org_id for one in self._of.values() if one.number is not None}

    def tell(self, change: OrgUpserted) -> str:
        """``taken``, ``stale``, or ``now``: the change counts from now on."""
        standing = self._of.get(change.org_id)
        if change.sms_number is not None and self._owner.get(change.sms_number, change.org_id) != change.org_id:
            return "taken"
        if standing is not None and standing.at > change.at:
            return "stale"
        if standing is not None and standing.number is not None:
            del self._owner[standing.number]
        if change.sms_number is not None:
            self._owner[change.sms_number] = change.org_id
        self._of[change.org_id] = sql.SmsNumber(change.org_id, change.sms_number, change.at)
        return "now"


class _Outcome(NamedTuple):
    rows: dict[str, NumberRow]
    refused: list[Refused]


async def tell_numbers(db: Connection, changes: Sequence[NumberChange]) -> list[Refused]:
    """Store the business numbers; another organisation's are left as they are."""
    refused: list[Refused] = []
    for part in _in_turn(changes):
        standing = await sql.numbers(db, sorted({c.phone_number_id for _, c in part}))
        outcome = _told(standing, part)
        await sql.upsert_numbers(db, list(outcome.rows.values()))
        await moves.follow(
            db, [row for row in outcome.rows.values() if _is_told_first(standing.get(row.phone_number_id), row)]
        )
        refused += outcome.refused
    return refused


def _in_turn(changes: Sequence[NumberChange]) -> list[list[NumberChange]]:
    """The changes in their order, no organisation twice in a part: whether a number replaces another depends on what was told before."""
    parts: list[list[NumberChange]] = []
    told: set[str] = set()
    for index, change in changes:
        if not parts or change.org_id in told:
            parts.append([])
            told = set()
        parts[-1].append((index, change))
        told.add(change.org_id)
    return parts


def _is_told_first(before: NumberRow | None, row: NumberRow) -> bool:
    return before is None or before.org_id != row.org_id or before.display_number != row.display_number


def _told(standing: dict[str, NumberRow], changes: Sequence[NumberChange]) -> _Outcome:
    now = dict(standing)
    outcome = _Outcome({}, [])
    for index, change in changes:
        before = now.get(change.phone_number_id)
        if before is not None and before.org_id not in (None, change.org_id):
            detail = "phone_number_id belongs to another organisation"
            outcome.refused.append(Refused(index, OF_ANOTHER_ORG, detail))
            continue
        if before is not None and before.at > change.at:
            continue
        match change:
            case NumberUpserted():
                row = NumberRow(change.org_id, change.phone_number_id, change.waba_id, change.display_number, change.at)
            case NumberRemoved() if before is None:
                continue  # nobody has it
            case NumberRemoved():
                row = before._replace(org_id=None, at=change.at)
        now[change.phone_number_id] = outcome.rows[change.phone_number_id] = row
    return outcome
