"""Advisory locks: who is alone with which names until the end of a transaction.

Law 1: a transaction holds at most ``BUCKETS`` locks of a kind, however many names it has: a server's table of locks is
       shared by everybody, and a batch of thousands must not fill it. Names that share a bucket wait for each other
       without need, for as long as a transaction takes.
Law 2: buckets are taken in their order, so two batches never wait for each other. Whoever needs both kinds takes
       ``IDENTITIES`` first, and names all that it needs of a kind at once.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final
from zlib import crc32

if TYPE_CHECKING:
    import asyncpg

# 100 connections with all buckets of a kind each just fill PostgreSQL's default (64 locks for each of 100 connections).
BUCKETS: Final = 64

PROVIDER_IDS: Final = 1
"""Names are ``provider:account:provider_id``. Taken to keep an early status, and to store a provider id."""
IDENTITIES: Final = 2
"""Names are identities and customers: one transaction at a time resolves them."""

CLAIMS: Final = 3
"""Names are ``sms:`` and an SMS number, ``host:`` and a portal host, ``tenant:`` and an identity provider's issuer and
tenant, ``number:`` and a phone_number_id: whose it is."""

TASKS: Final = 4
"""Names are those of tasks that one replica does at a time."""

SMS_STOPS: Final = 5
"""Names are an organisation and a line (``stop_name``). A claim of an SMS to the line takes the lock
shared, storing a STOP from the line takes it exclusively. Taken before any row but those of ``sends``, and before
``PROVIDER_IDS``."""

SMS_PARTS: Final = 6
"""Names are an organisation, its SMS number and a sender: one transaction at a time joins their parts."""

# the array is sorted, and unnest gives it back in its order
_LOCK = "select pg_advisory_xact_lock($1::int, bucket) from unnest($2::int[]) as bucket"


async def lock(db: "asyncpg.Connection[asyncpg.Record]", kind: int, names: Iterable[str]) -> None:
    """Lock these names exclusively until the transaction ends. One round trip; none for no names."""
    if buckets := sorted({bucket_of(name) for name in names}):
        await db.execute(_LOCK, kind, buckets)


_SHARE = "select pg_advisory_xact_lock_shared($1::int, bucket) from unnest($2::int[]) as bucket"


async def share(db: "asyncpg.Connection[asyncpg.Record]", kind: int, names: Iterable[str]) -> None:
    """Keep out who wants to be alone with one of these names, until the transaction ends."""
    if buckets := sorted({bucket_of(name) for name in names}):
        await db.execute(_SHARE, kind, buckets)


def stop_name(org_id: str, line: str) -> str:
    """The name of a canonical number in ``SMS_STOPS``."""
    return f"{org_id}:{line}"


_TRY = "select pg_try_advisory_xact_lock($1::int, $2::int)"


async def try_alone(db: "asyncpg.Connection[asyncpg.Record]", task: str) -> bool:
    """Whether this process has the task until its transaction ends; nobody waits."""
    return bool(await db.fetchval(_TRY, TASKS, crc32(task.encode()) % 2**31))


def bucket_of(name: str) -> int:
    """The same for every process and release."""
    return crc32(name.encode(errors="surrogatepass")) % BUCKETS
