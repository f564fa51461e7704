"""What ``portal_rights.sql`` grants to the portal's role, as single privileges that can be asked for. Pure."""

import re
from collections.abc import Iterator

from deploy.cli.doctor.queries import Grant

_GRANT = re.compile(
    r"grant\s+(?P<privileges>.+?)\s+on\s+(?P<relations>[\w\s,]+?)\s+to\s+\w+\s*;", re.IGNORECASE | re.DOTALL
)
_PRIVILEGE = re.compile(r"(?P<word>select|insert|update|delete)\s*(?:\((?P<columns>[^)]*)\))?", re.IGNORECASE)


def grants_in(sql: str) -> list[Grant]:
    """Every grant on a table or view: a privilege on the whole, or on one column."""
    plain = re.sub(r"--[^\n]*", "", sql)
    return [
        grant
        for found in _GRANT.finditer(plain)
        if not found["relations"].lower().startswith("schema ")
        for relation in found["relations"].split(",")
        for grant in _of(relation.strip(), found["privileges"])
    ]


def _of(relation: str, privileges: str) -> Iterator[Grant]:
    for one in _PRIVILEGE.finditer(privileges):
        word = one["word"].upper()
        if one["columns"] is None:
            yield Grant(relation, word, None)
        else:
            yield from (Grant(relation, word, column.strip()) for column in one["columns"].split(","))
