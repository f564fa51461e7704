"""What the database of this build lacks: migrations, and the rights of the services' role and of the portal's."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import asyncpg

from deploy.cli.doctor import queries
from deploy.cli.doctor.findings import Finding, some
from deploy.cli.doctor.portal_grants import grants_in
from deploy.cli.doctor.running import Tell
from deploy.cli.doctor.site import Site
from libs.common.db.migrate import PORTAL_RIGHTS, PORTAL_ROLE
from libs.common.db.schema import applied, migrations, missing
from libs.common.db.statements import statements
from libs.common.errors import ConfigurationError

_WITH_ROLES_OF_THEIR_OWN = {"portal", "ingest-edge"}
"""The portal's is asked about by its grants, the edge's by its two tables."""
_OF_EDGE = ("webhook_edges", "webhook_refusals")
"""Where the edge stores that it listens and what it refused."""
_MAKES = re.compile(
    r"create\s+(?:unlogged\s+|unique\s+)?(?P<kind>table|index)\s+(?:concurrently\s+)?(?:if\s+not\s+exists\s+)?(?P<name>\w+)",
    re.IGNORECASE,
)
_TAKES_AWAY = re.compile(
    r"drop\s+(?:table|index)\s+(?:concurrently\s+)?(?:if\s+exists\s+)?(?P<names>[\w,\s]+)", re.IGNORECASE
)


async def tell_schema(site: Site, db: Any, tell: Tell) -> bool:
    """What the migrations lack. Whether the tables of this build are there."""
    wanted = migrations()
    try:
        stands = await applied(db)
        lacking = missing(wanted, stands)
    except asyncpg.InsufficientPrivilegeError:
        if set(site.services) <= {"ingest-edge"}:
            tell(Finding("schema_unseen", "schema", "The edge's role may not read which migrations were applied."))
            return True
        _tell_table_right("SELECT", ["schema_migrations"], tell)
        return False
    except ConfigurationError as changed:
        tell(
            Finding(
                "migration_changed",
                "schema",
                f"The {str(changed).partition(':')[0]}.",
                "Install the build that applied it, or restore the file.",
            )
        )
        return True
    if not stands and (place := await queries.schema_elsewhere(db)):
        tell(
            Finding(
                "schema_elsewhere",
                "schema",
                f"The tables are in the schema {place}, and the search_path of this role does not lead there.",
                "Set search_path for the role or the database, or correct it in the address; let nothing migrate now.",
            )
        )
        return False
    before = [one.name for one in lacking if one.phase == "pre"]
    after = [one.name for one in lacking if one.phase == "post"]
    if before:
        tell(
            Finding(
                "migrations_pending",
                "schema",
                f"The schema is older than this build: it lacks {some(before)}.",
                "Run transom migrate --phase pre of this build.",
            )
        )
    if after and not before:
        tell(
            Finding(
                "migrations_after",
                "schema",
                f"After the rollout these were not applied: {some(after)}.",
                "Run transom migrate --phase post once every service is of this build.",
            )
        )
    newer = sorted(stands.keys() - {one.name for one in wanted})
    if not newer:  # a later build may have taken some away
        await _tell_gone(db, relations(one.sql for one in wanted if one.name in stands), tell)
    if newer:
        taken = any(name[5:].startswith("post_") for name in newer)
        tell(
            Finding(
                "schema_newer_after" if taken else "schema_newer",
                "schema",
                f"The schema is of a later build: {some(newer)}."
                + (" A later build has taken away what this one may need." if taken else ""),
                "Install the later build." if taken else "Nothing, while a release is rolled out.",
            )
        )
    return not before


async def _tell_gone(db: Any, made: Mapping[str, bool], tell: Tell) -> None:
    """Tell which tables and indexes that migrations made are not there, or cannot be used."""
    gone = await queries.unusable(db, list(made))
    if tables := [name for name in gone if made[name]]:
        tell(
            Finding(
                "table_missing",
                some(tables),
                "A migration made it, and it is not in this database.",
                "Restore it from a backup: docs/runbooks/restore.md says what to do first.",
            )
        )
    if indexes := [name for name in gone if not made[name]]:
        tell(
            Finding(
                "index_missing",
                some(indexes),
                "A migration made this index, and it is gone or invalid: rows may come twice, and statements are slow.",
                "Create it again, concurrently, as the file in libs/common/db/migrations says.",
            )
        )


def relations(files: Iterable[str]) -> dict[str, bool]:
    """The tables (True) and indexes (False) that are there once these files of SQL have run in their order. Pure."""
    made: dict[str, bool] = {}
    for statement in (one for sql in files for one in statements(sql)):
        if found := _MAKES.match(statement):
            made[found["name"]] = found["kind"].lower() == "table"
        elif found := _TAKES_AWAY.match(statement):
            for name in found["names"].split(","):
                made.pop(name.split()[0].strip('"'), None)
    return made


async def tell_rights(site: Site, db: Any, role: str, tell: Tell) -> None:
    """Tell what the role of the address may not do, and what the portal's role may not."""
    if set(site.services) - _WITH_ROLES_OF_THEIR_OWN:
        for privilege, names in (await queries.tables_without_right(db, await queries.tables(db))).items():
            _tell_table_right(privilege, names, tell)
        if hidden := await queries.tables_with_hidden_rows(db):
            tell(
                Finding(
                    "rows_hidden",
                    role,
                    f"Row security holds for this role, so it sees no rows of {some(hidden)}.",
                    "Let the services use the role that owns the tables: the one that ran transom migrate.",
                )
            )
    elif "ingest-edge" in site.services:
        lacks = await queries.privileges_lacking(db, _OF_EDGE, ("SELECT", "INSERT", "UPDATE"))
        for privilege, names in lacks.items():
            _tell_table_right(
                privilege,
                names,
                tell,
                f"As the tables' owner: grant select, insert, update on {', '.join(_OF_EDGE)} to the edge's role.",
            )
    if site.serves("portal"):
        await _tell_portal_role(db, role, tell)


_LET_OWNER = "Let the services use the role that owns the tables: the one that ran transom migrate."


def _tell_table_right(privilege: str, names: list[str], tell: Tell, remedy: str = _LET_OWNER) -> None:
    tell(
        Finding(
            "table_right_missing",
            some(names),
            f"The role of TRANSOM_POSTGRES_DSN may not {privilege} there.",
            remedy,
        )
    )


async def _tell_portal_role(db: Any, role: str, tell: Tell) -> None:
    known = await queries.portal_role(db, PORTAL_ROLE)
    if not known["exists"]:
        tell(
            Finding(
                "portal_role_missing",
                PORTAL_ROLE,
                "The role that the portal works as does not exist.",
                "Run transom migrate; where its user may not create roles, it says what a superuser must run.",
            )
        )
        return
    if not known["granted"]:
        tell(
            Finding(
                "portal_role_not_granted",
                PORTAL_ROLE,
                f"The role {role} may not take it, so the portal cannot start.",
                f"As a superuser: grant {PORTAL_ROLE} to {role}.",
            )
        )
    if lacks := await queries.grants_lacking(db, PORTAL_ROLE, grants_in(PORTAL_RIGHTS.read_text())):
        names = sorted({f"{one.privilege} on {one.relation}" for one in lacks})
        tell(
            Finding(
                "portal_right_missing",
                PORTAL_ROLE,
                f"The portal's role lacks {some(names)}.",
                "Run transom migrate: it grants them each time.",
            )
        )
