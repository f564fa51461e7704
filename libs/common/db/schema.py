"""The schema that a build needs: its migration files, and which of them a database has.

``migrations/NNNN_pre_words.sql`` comes before the code of its release and keeps the code of the release before working;
``NNNN_post_words.sql`` comes after it, and takes away what only older code needed. A service needs every *pre* file of
its build. A schema that is newer is fine.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from libs.common.db.errors import transient_db
from libs.common.db.pool import Pool
from libs.common.db.statements import statements
from libs.common.errors import ConfigurationError, Transient
from libs.common.logging import get_logger

log = get_logger()

MIGRATIONS = Path(__file__).with_name("migrations")
OUTSIDE = "-- outside a transaction"
"""A line of its own in the comment at the top of a file whose statements run each by itself."""

Phase = Literal["pre", "post"]

_NAME = re.compile(r"\d{4}_(pre|post)_[a-z0-9_]+\.sql")
_BUILDS = re.compile(r"create\s+(?:unique\s+)?index\s+concurrently\b", re.IGNORECASE)
_BUILDS_AGAIN = re.compile(
    r"create\s+(?:unique\s+)?index\s+concurrently\s+if\s+not\s+exists\s+(\w+)\s+on\b", re.IGNORECASE
)
_WAITS_ASIDE = re.compile(
    r"(?:create\s+(?:unique\s+)?index|drop\s+index|reindex\s+(?:\([^)]*\)\s*)?\w+)\s+concurrently\b", re.IGNORECASE
)
_EXISTS = "select to_regclass('schema_migrations') is not null"
_APPLIED = "select name, checksum from schema_migrations"


@dataclass(frozen=True)
class Statement:
    """One of a file that runs outside a transaction."""

    sql: str

    @property
    def index(self) -> str | None:
        """The index that it builds while the table is written to."""
        found = _BUILDS_AGAIN.match(self.sql)
        return None if found is None else found[1]

    @property
    def waits_aside(self) -> bool:
        """Whether nobody queues behind it while it waits."""
        return _WAITS_ASIDE.match(self.sql) is not None


@dataclass(frozen=True)
class Migration:
    """One file."""

    name: str
    sql: str

    @property
    def phase(self) -> Phase:
        return "pre" if self.name[5:].startswith("pre_") else "post"

    @property
    def checksum(self) -> str:
        """Of the text without the line endings that a checkout may have changed."""
        return hashlib.sha256(self.sql.replace("\r\n", "\n").encode()).hexdigest()

    @cached_property
    def alone(self) -> Sequence[Statement] | None:
        """The statements of a file that runs outside a transaction; None for one that runs in a transaction."""
        for line in self.sql.splitlines():
            if line.strip() == OUTSIDE:
                return [Statement(sql) for sql in statements(self.sql)]
            if line.strip() and not line.startswith("--"):
                return None
        return None


def migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Every migration in the order in which it applies.

    Raises ConfigurationError for a wrong name, a number used twice, or an index whose building could not be run again.
    """
    files = sorted(folder.glob("*.sql"))
    numbers = [file.name[:4] for file in files]
    for file in files:
        if not _NAME.fullmatch(file.name):
            raise ConfigurationError(
                f"migration {file.name}: the name must be NNNN_pre_words.sql or NNNN_post_words.sql"
            )
        if numbers.count(file.name[:4]) > 1:
            raise ConfigurationError(f"migration {file.name}: number {file.name[:4]} is used twice")
    found = [Migration(file.name, file.read_text(encoding="utf-8")) for file in files]
    for migration in found:
        for statement in migration.alone or ():
            if _BUILDS.match(statement.sql) and statement.index is None:
                raise ConfigurationError(
                    f"migration {migration.name}: write create index concurrently if not exists and a name, "
                    "so that it can be run again"
                )
    return found


async def applied(db: Any) -> dict[str, str]:
    """Checksums of the applied migrations by name; empty on a database that was never migrated."""
    return dict(await db.fetch(_APPLIED)) if await db.fetchval(_EXISTS) else {}


def missing(wanted: Sequence[Migration], applied: Mapping[str, str]) -> list[Migration]:
    """Those that are not applied. Raises ConfigurationError for one that was changed after it was."""
    for migration in wanted:
        if applied.get(migration.name, migration.checksum) != migration.checksum:
            raise ConfigurationError(
                f"migration {migration.name} was changed after it was applied: "
                "restore it and put the change in a new file"
            )
    return [migration for migration in wanted if migration.name not in applied]


def schema_check(pool: Pool, folder: Path = MIGRATIONS) -> Callable[[], Awaitable[None]]:
    """A readiness check: the server answers and has every migration that this build needs (a newer schema is fine)."""
    wanted = migrations(folder)

    async def check() -> None:
        async with pool.acquire() as db:
            found = await applied(db)
        _complain(wanted, found)

    return check


async def require_schema(pool: Pool, folder: Path = MIGRATIONS) -> None:
    """Raises ConfigurationError at start when the schema is older than this build. A newer one is logged."""
    wanted = migrations(folder)
    try:
        async with pool.acquire() as db:
            found = await applied(db)
        _complain(wanted, found)
    except Transient as error:
        raise ConfigurationError(f"postgres: {error}") from error
    except Exception as error:
        if transient_db(error):
            raise ConfigurationError(f"postgres is away ({type(error).__name__})") from error
        raise
    if newer := sorted(found.keys() - {migration.name for migration in wanted}):
        after = [name for name in newer if name[5:].startswith("post_")]
        write = log.warning if after else log.info  # what a later release took away may be what this build needs
        write("schema.newer", records=len(newer), detail=(after or newer)[-1])


def _complain(wanted: Sequence[Migration], applied: Mapping[str, str]) -> None:
    lacks = [migration.name for migration in missing(wanted, applied) if migration.phase == "pre"]
    if lacks:
        more = f" and {len(lacks) - 1} more" if len(lacks) > 1 else ""
        raise Transient(
            f"the schema is older than this build, it lacks {lacks[0]}{more}: "
            "run transom migrate --phase pre of this build"
        )
