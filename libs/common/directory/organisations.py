"""Organisations, their SMS numbers, their credit, and the audit log of every change of a consent or a credit.

Rule 1: an SMS number and a portal host belong to one organisation each, until the owner's own change names another one
        or none. A number counts in every spelling of its line. Another organisation's claim of a number is refused as
        ``number_of_another_org``. A change that names another's host is applied without the host, and a line says so:
        its customers get the platform's links. The platform's own host belongs to no organisation, and may be named by
        every one. So does a tenant of an identity provider: a change that names another's is applied without it, so
        that nobody is signed in to two organisations by one tenant.
Rule 2: the line and the account that an organisation leaves stay its own for inbound SMS (``former_sms_numbers``) until
        another organisation has the line, at most ``FORMER_KEPT``.
Rule 3: the changes of a batch count one after the other. A change counts only where it is not older than what is
        stored.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple
from uuid import UUID

from libs.common.db.columns import as_columns
from libs.common.db.pool import Connection, changed
from libs.common.events.directory import OrgCredit, OrgUpserted
from libs.common.inbox_policy import read_inbox_policy
from libs.common.logging import get_logger
from libs.common.org_name import carries_a_link
from libs.common.phone import canonical, spellings
from libs.common.sanitize import sanitize
from libs.common.sms_policy import read_policy

log = get_logger()

FORMER_KEPT = timedelta(days=30)
"""How long an organisation still gets what is sent to a number or an account that it has left."""

OF_ANOTHER_ORG = "number_of_another_org"
HOST_OF_ANOTHER_ORG = "host_of_another_org"
SIGN_IN_OF_ANOTHER_ORG = "sign_in_of_another_org"
LINK_IN_NAME = "link_in_name"
POLICY_VALUE = "policy_value"


@dataclass(frozen=True, slots=True)
class RefusedChange:
    """The change at ``index`` of its batch was not applied; ``reason`` is a static code."""

    index: int
    reason: str
    detail: str


class AuditLine(NamedTuple):
    """A line of the log. ``source_key`` names what was said, so a redelivery adds no second line."""

    org_id: str
    customer_id: UUID | None
    action: str
    detail: dict[str, Any]
    at: datetime
    source_key: str


class _Claims(NamedTuple):
    """What an organisation has alone, as of the newest change that was applied."""

    org_id: str
    sms_line: str | None
    portal_host: str | None
    sign_in: tuple[str, str] | None
    at: datetime


_UPSERT = """
insert into orgs as o (org_id, name, sms_number, sms_line, sms_spellings, sms_active, sms_provider, sms_account,
                       portal_host, country, currency, policy, sign_in_issuer, sign_in_tenant, upserted_at)
select u.org_id, u.name, u.number, u.line,
       array(select s.spelling from unnest($15::text[], $16::text[]) as s (line, spelling) where s.line = u.line),
       u.active, u.provider, u.account, u.host, u.country, u.currency, u.policy,
       u.issuer, u.tenant, u.at
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bool[], $6::text[], $7::text[], $8::text[],
              $9::text[], $10::text[], $11::jsonb[], $12::text[], $13::text[], $14::timestamptz[])
    as u (org_id, name, number, line, active, provider, account, host, country, currency, policy, issuer, tenant, at)
 order by 1
on conflict (org_id) do update
   set name = excluded.name, sms_number = excluded.sms_number, sms_line = excluded.sms_line,
       sms_spellings = excluded.sms_spellings, sms_active = excluded.sms_active,
       sms_provider = excluded.sms_provider, sms_account = excluded.sms_account, portal_host = excluded.portal_host,
       country = excluded.country, currency = excluded.currency, policy = excluded.policy,
       sign_in_issuer = excluded.sign_in_issuer, sign_in_tenant = excluded.sign_in_tenant,
       upserted_at = excluded.upserted_at
 where o.upserted_at <= excluded.upserted_at
"""

# The organisations of these changes, and those that have a number, a host or a tenant that is claimed.
_CLAIMS = """
with claimed as (
    select org_id from orgs where org_id = any($1::text[])
    union
    select org_id from orgs where sms_line = any($2::text[])
    union
    select org_id from orgs where portal_host = any($3::text[])
    union
    select o.org_id
      from unnest($4::text[], $5::text[]) as u (issuer, tenant)
      join orgs o on o.sign_in_issuer = u.issuer and o.sign_in_tenant = u.tenant
)
select org_id, sms_line, portal_host, sign_in_issuer, sign_in_tenant, upserted_at as at
  from orgs join claimed using (org_id)
"""

# Before the changes are stored: what they leave, but for lines that another organisation has from now on.
_LEAVE = """
with changes as materialized (
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[]) as u (org_id, line, provider, account)
), taken_over as (
    delete from former_sms_numbers f using changes u where f.sms_line = u.line and f.org_id <> u.org_id
)
insert into former_sms_numbers as f (org_id, sms_line, sms_provider, sms_account)
select o.org_id, o.sms_line, o.sms_provider, o.sms_account
  from orgs o join changes u using (org_id)
 where (o.sms_line, o.sms_provider, o.sms_account) is distinct from (u.line, u.provider, u.account)
   and o.sms_line is not null
   and not exists (select from changes x where x.line = o.sms_line and x.org_id <> o.org_id)
 order by 2, 1
on conflict (sms_line, org_id, sms_provider, sms_account) do update set left_at = excluded.left_at
"""

_FORGET_FORMER = """
delete from former_sms_numbers
 where ctid = any (array(select ctid from former_sms_numbers where left_at < $1 order by left_at limit $2))
"""

# Two organisations may exchange what they have alone in one batch, so both give theirs up first.
_CLEAR_CLAIMS = """
update orgs
   set sms_number = null, sms_line = null, sms_spellings = '{}', portal_host = null, sign_in_issuer = null,
       sign_in_tenant = null
 where org_id = any($1::text[])
"""

_KNOWN = "select org_id from orgs where org_id = any($1::text[])"

_ADD_AUDIT_LINES = """
insert into audit_log (org_id, customer_id, action, detail, at, source_key)
select * from unnest($1::text[], $2::uuid[], $3::text[], $4::jsonb[], $5::timestamptz[], $6::text[])
on conflict (source_key) do nothing
"""

_SET_CREDIT = """
update orgs o
   set credit_exhausted = u.exhausted, credit_at = u.at
  from unnest($1::text[], $2::bool[], $3::timestamptz[]) as u (org_id, exhausted, at)
 where o.org_id = u.org_id and (o.credit_at is null or o.credit_at <= u.at)
"""


async def add_lines(db: Connection, lines: Sequence[AuditLine]) -> None:
    """Add these lines, each once."""
    if lines:
        await db.execute(_ADD_AUDIT_LINES, *as_columns(lines))


async def store_orgs(
    db: Connection, told: Sequence[tuple[int, OrgUpserted]], platform_host: str | None
) -> list[RefusedChange]:
    """Store the organisations. Nothing is stored of one that claims another's SMS number."""
    if not told:
        return []
    changes = [(i, _without_host(c) if c.portal_host == platform_host else c) for i, c in told]
    org_ids = sorted({change.org_id for _, change in changes})
    lines = sorted({canonical(change.sms_number) for _, change in changes if change.sms_number is not None})
    hosts = sorted({change.portal_host for _, change in changes if change.portal_host is not None})
    tenants = sorted({found for _, change in changes if (found := sign_in_of(change)) is not None})
    rows = await db.fetch(_CLAIMS, org_ids, lines, sanitize(hosts), *_as_two_columns(tenants))
    claims = _Owners(_claims(**row) for row in rows)
    refused: list[RefusedChange] = []
    newest: dict[str, OrgUpserted] = {}
    for index, change in changes:
        match claims.claim(change):
            case "number_taken":
                refused.append(RefusedChange(index, OF_ANOTHER_ORG, "sms_number belongs to another organisation"))
            case "stale":
                continue
            case applied:
                newest[change.org_id] = applied
                if applied.portal_host != change.portal_host:
                    _log_doubt(change, "portal_host", HOST_OF_ANOTHER_ORG)
                if applied.sign_in != change.sign_in:
                    _log_doubt(change, "sign_in", SIGN_IN_OF_ANOTHER_ORG)
    for change in newest.values():
        _log_doubts(change)
    if newest:
        await db.execute(_LEAVE, *as_columns([_sms_of(change) for change in newest.values()]))
        await db.execute(_CLEAR_CLAIMS, sorted(newest))
        written = [(line, spelling) for line in lines for spelling in spellings(line)]
        await db.execute(
            _UPSERT,
            *as_columns([_row(change) for change in newest.values()]),
            *_as_two_columns(written),
        )
    return refused


async def forget_former_numbers(db: Connection, before: datetime, limit: int) -> int:
    """Delete up to ``limit`` numbers and accounts that organisations left before then; returns how many."""
    return await changed(db, _FORGET_FORMER, before, limit)


async def known_orgs(db: Connection, org_ids: Sequence[str]) -> set[str]:
    """Those of these organisations that are stored."""
    return {row["org_id"] for row in await db.fetch(_KNOWN, org_ids)}


async def store_credit(db: Connection, changes: Sequence[OrgCredit]) -> None:
    """Store the newest word on each organisation's credit, and a line in the audit log for every word."""
    newest: dict[str, OrgCredit] = {}
    for change in changes:
        before = newest.get(change.org_id)
        if before is None or before.at <= change.at:
            newest[change.org_id] = change
    if newest:
        await db.execute(_SET_CREDIT, *as_columns([(c.org_id, c.exhausted, c.at) for _, c in sorted(newest.items())]))
    await add_lines(db, [_credit_line(change) for change in changes])


class _Owners:
    """Which organisation has which SMS number, portal host and tenant, as one change after the other leaves it."""

    def __init__(self, stored: Iterable[_Claims]) -> None:
        self._by_org = {one.org_id: one for one in stored}
        self._lines = {one.sms_line: one.org_id for one in self._by_org.values() if one.sms_line is not None}
        self._hosts = {one.portal_host: one.org_id for one in self._by_org.values() if one.portal_host is not None}
        self._tenants = {one.sign_in: one.org_id for one in self._by_org.values() if one.sign_in is not None}

    def claim(self, change: OrgUpserted) -> OrgUpserted | Literal["number_taken", "stale"]:
        """The change as it applies, without a host and a tenant of others. What it claims counts from now on."""
        org_id, host = change.org_id, sanitize(change.portal_host)
        line = None if change.sms_number is None else canonical(change.sms_number)
        before = self._by_org.get(org_id)
        if line is not None and self._lines.get(line, org_id) != org_id:
            return "number_taken"
        if before is not None and before.at > change.at:
            return "stale"
        if before is not None:
            self._lines.pop(before.sms_line or "", None)
            self._hosts.pop(before.portal_host or "", None)
            self._tenants.pop(before.sign_in or ("", ""), None)
        if self._hosts.get(host or "", org_id) != org_id:
            host, change = None, _without_host(change)
        if self._tenants.get(sign_in_of(change) or ("", ""), org_id) != org_id:
            change = change.model_copy(update={"sign_in": None})
        sign_in = sign_in_of(change)
        if line is not None:
            self._lines[line] = org_id
        if host is not None:
            self._hosts[host] = org_id
        if sign_in is not None:
            self._tenants[sign_in] = org_id
        self._by_org[org_id] = _Claims(org_id, line, host, sign_in, change.at)
        return change


def _claims(sign_in_issuer: str | None, sign_in_tenant: str | None, **row: Any) -> _Claims:
    both = None if sign_in_issuer is None or sign_in_tenant is None else (sign_in_issuer, sign_in_tenant)
    return _Claims(sign_in=both, **row)


def sign_in_of(change: OrgUpserted) -> tuple[str, str] | None:
    """Issuer and tenant as they are stored. An issuer is one with a slash at its end and without."""
    if change.sign_in is None:
        return None
    issuer: str = sanitize(change.sign_in.issuer)
    return issuer.rstrip("/"), sanitize(change.sign_in.tenant)


def _as_two_columns(pairs: Sequence[tuple[str, str]]) -> Sequence[Sequence[str]]:
    return tuple(zip(*pairs, strict=True)) if pairs else ([], [])


def _without_host(change: OrgUpserted) -> OrgUpserted:
    return change.model_copy(update={"portal_host": None})


def _log_doubts(change: OrgUpserted) -> None:
    """Say what of an organisation is not used as it was named. It is stored all the same."""
    _, of_sms = read_policy(change.policy, country=change.country, sms_number=change.sms_number)
    _, of_inbox = read_inbox_policy(change.policy)
    for name in (*of_sms, *of_inbox):
        _log_doubt(change, name, POLICY_VALUE)
    if carries_a_link(change.name):
        _log_doubt(change, "name", LINK_IN_NAME)


def _log_doubt(change: OrgUpserted, field: str, reason: str) -> None:
    log.warning("directory.doubtful", org_id=change.org_id, field=field, reason=reason)


def _sms_of(org: OrgUpserted) -> tuple[Any, ...]:
    line = None if org.sms_number is None else canonical(org.sms_number)
    return org.org_id, line, org.sms_provider, org.sms_account


def _row(org: OrgUpserted) -> tuple[Any, ...]:
    line = None if org.sms_number is None else canonical(org.sms_number)
    sms = org.sms_number, line, org.sms_active, org.sms_provider, org.sms_account
    place = sanitize(org.portal_host), org.country, org.currency
    sign_in = sign_in_of(org) or (None, None)
    return org.org_id, org.name, *sms, *place, sanitize(org.policy), *sign_in, org.at


def _credit_line(change: OrgCredit) -> AuditLine:
    key = f"credit:{change.org_id}:{change.at.isoformat()}:{change.exhausted}"
    return AuditLine(change.org_id, None, "credit", {"exhausted": change.exhausted}, change.at, key)
