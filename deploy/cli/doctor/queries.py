"""What ``transom doctor`` asks PostgreSQL. Every statement only reads; those about tenants bring their ``org_id``."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_SERVER = """
select current_setting('server_version_num')::int as version,
       current_setting('server_version') as version_words,
       pg_is_in_recovery() as standby,
       current_setting('default_transaction_read_only') = 'on' as read_only_default,
       current_setting('fsync') as fsync,
       current_setting('full_page_writes') as full_page_writes,
       current_setting('synchronous_commit') as synchronous_commit,
       current_setting('autovacuum') as autovacuum,
       current_setting('server_encoding') as encoding,
       current_setting('max_connections')::int
           - current_setting('superuser_reserved_connections')::int
           - coalesce(nullif(current_setting('reserved_connections', true), '')::int, 0) as connections,
       (select sum(numbackends) from pg_stat_database)::int as connected,
       (select count(*) from pg_stat_activity where usename = current_user)::int as role_connected,
       (select numbackends from pg_stat_database where datname = current_database())::int as database_connected,
       (select rolconnlimit from pg_roles where rolname = current_user) as role_connections,
       (select datconnlimit from pg_database where datname = current_database()) as database_connections,
       (select age(datfrozenxid) from pg_database where datname = current_database())::bigint as transactions_old,
       pg_has_role(current_user, 'pg_read_all_stats', 'usage') as sees_activity,
       current_user::text as role,
       clock_timestamp() as now
"""


async def server(db: Any) -> Mapping[str, Any]:
    """The server's own state, settings and time. What this session asks afterwards cannot write.

    How many sessions there are is asked in ways that need no right: a role sees little of others' sessions.
    """
    found: Mapping[str, Any] = await db.fetchrow(_SERVER)
    await db.execute("set default_transaction_read_only = on")
    return found


_OLD_TRANSACTIONS = """
select coalesce(nullif(application_name, ''), 'nameless') as application, pid,
       extract(epoch from clock_timestamp() - xact_start)::int as seconds
  from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
   and clock_timestamp() - xact_start > make_interval(secs => $1)
 order by xact_start
 limit 5
"""
_PREPARED = """
select count(*)::int from pg_prepared_xacts
 where database = current_database() and clock_timestamp() - prepared > make_interval(secs => $1)
"""


async def old_transactions(db: Any, seconds: float) -> Sequence[Mapping[str, Any]]:
    """Transactions that run for longer than this; the oldest five. Those of others are seen with a right alone."""
    found: Sequence[Mapping[str, Any]] = await db.fetch(_OLD_TRANSACTIONS, seconds)
    return found


async def prepared_transactions(db: Any, seconds: float) -> int:
    return int(await db.fetchval(_PREPARED, seconds))


_ELSEWHERE = """
select n.nspname::text
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where c.relname = 'schema_migrations' and c.relkind = 'r' and not pg_table_is_visible(c.oid)
 order by 1
 limit 1
"""


async def schema_elsewhere(db: Any) -> str | None:
    """The schema of the database that has Transom's tables where this role's search_path does not lead to it."""
    found: str | None = await db.fetchval(_ELSEWHERE)
    return found


_TABLES_WITHOUT_RIGHT = """
select c.relname::text as name, p.privilege
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE']) as p (privilege)
 where n.nspname = current_schema() and c.relkind in ('r', 'p') and c.relname = any($1::text[])
   and not has_table_privilege(c.oid, p.privilege)
 union all
select c.relname::text, 'USAGE'
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = current_schema() and case when c.relkind = 'S' then not has_sequence_privilege(c.oid, 'USAGE') end
 order by 1, 2
"""
_PRIVILEGES_LACKING = """
select t.name, p.privilege
  from unnest($1::text[]) as t (name) cross join unnest($2::text[]) as p (privilege)
 where not coalesce(has_table_privilege(to_regclass(t.name), p.privilege), false)
 order by 1, 2
"""
_HIDDEN = """
select c.relname::text
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = current_schema() and c.relkind in ('r', 'p') and row_security_active(c.oid)
 order by c.relname
"""
_TABLES = """
select c.relname::text
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname = current_schema() and c.relkind in ('r', 'p')
"""


_UNUSABLE = """
select t.name
  from unnest($1::text[]) with ordinality as t (name, place)
  left join pg_class c on c.oid = to_regclass(quote_ident(t.name))
  left join pg_index i on i.indexrelid = c.oid
 where c.oid is null or not coalesce(i.indisvalid, true)
 order by t.place
"""


async def unusable(db: Any, names: Sequence[str]) -> list[str]:
    """Which of these tables and indexes are not on this role's search_path, or are indexes that are invalid."""
    return [row["name"] for row in await db.fetch(_UNUSABLE, list(names))]


async def tables(db: Any) -> list[str]:
    return [row["relname"] for row in await db.fetch(_TABLES)]


async def tables_without_right(db: Any, names: Sequence[str]) -> Mapping[str, list[str]]:
    """By privilege, the tables and sequences on which this role lacks it."""
    lacks: dict[str, list[str]] = {}
    for row in await db.fetch(_TABLES_WITHOUT_RIGHT, list(names)):
        lacks.setdefault(row["privilege"], []).append(row["name"])
    return lacks


async def privileges_lacking(db: Any, names: Sequence[str], privileges: Sequence[str]) -> Mapping[str, list[str]]:
    """By privilege, which of these tables this role lacks it on, or cannot see at all."""
    lacks: dict[str, list[str]] = {}
    for row in await db.fetch(_PRIVILEGES_LACKING, list(names), list(privileges)):
        lacks.setdefault(row["privilege"], []).append(row["name"])
    return lacks


async def tables_with_hidden_rows(db: Any) -> list[str]:
    """Tables whose row security holds for this role, so that it sees no row or few."""
    return [row["relname"] for row in await db.fetch(_HIDDEN)]


_PORTAL_ROLE = """
select r.oid is not null as exists, coalesce(pg_has_role(current_user, r.oid, 'set'), false) as granted
  from (select 1) one left join pg_roles r on r.rolname = $1
"""
_PORTAL_LACKS = """
select g.relation, g.privilege, g.field
  from unnest($2::text[], $3::text[], $4::text[]) as g (relation, privilege, field)
 where to_regclass(g.relation) is null
    or not case when g.field is null then has_table_privilege($1, to_regclass(g.relation), g.privilege)
                else has_column_privilege($1, to_regclass(g.relation), g.field, g.privilege) end
"""


async def portal_role(db: Any, role: str) -> Mapping[str, Any]:
    """Whether the role exists, and whether this one may take it."""
    found: Mapping[str, Any] = await db.fetchrow(_PORTAL_ROLE, role)
    return found


class Grant(NamedTuple):
    """A privilege on a relation, or on one column of it."""

    relation: str
    privilege: str
    field: str | None


async def grants_lacking(db: Any, role: str, grants: Sequence[Grant]) -> list[Grant]:
    """Those of the grants that the role does not have."""
    relations, privileges, columns = zip(*grants, strict=True)
    found = await db.fetch(_PORTAL_LACKS, role, list(relations), list(privileges), list(columns))
    return [Grant(row["relation"], row["privilege"], row["field"]) for row in found]


class WhatsappNumber(NamedTuple):
    """A business number of the directory. ``token``: its own, which is a secret."""

    org_id: str
    phone_number_id: str
    waba_id: str
    display_number: str
    token: str | None


class SmsLine(NamedTuple):
    """How an organisation sends SMS."""

    org_id: str
    sms_number: str | None
    sms_provider: str | None
    sms_account: str | None
    sms_active: bool


_NUMBERS = """
select org_id, phone_number_id, waba_id, display_number, token
  from whatsapp_numbers
 where org_id is not null
 order by waba_id, phone_number_id
 limit $1
"""
_LINES = """
select org_id, sms_number, sms_provider, sms_account, sms_active
  from orgs
 where sms_number is not null or sms_account is not null
 order by org_id
 limit $1
"""
_HOSTS = "select org_id, portal_host from orgs where portal_host is not null order by portal_host limit $1"


async def whatsapp_numbers(db: Any, most: int) -> list[WhatsappNumber]:
    return [WhatsappNumber(*row) for row in await db.fetch(_NUMBERS, most)]


async def sms_lines(db: Any, most: int) -> list[SmsLine]:
    return [SmsLine(*row) for row in await db.fetch(_LINES, most)]


async def portal_hosts(db: Any, most: int) -> list[str]:
    return [row["portal_host"] for row in await db.fetch(_HOSTS, most)]
