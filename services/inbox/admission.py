"""Who is admitted by a bearer token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from libs.common.clock import Clock
from services.inbox.jwks import ALGORITHMS, Jwks
from services.inbox.organisations import Organisations
from services.inbox.people import Person
from services.inbox.sessions import Members
from services.inbox.tokens import (
    OURS,
    Rules,
    TokenRefused,
    capabilities_of,
    check_origin,
    check_times,
    claims_of_ours,
    header_of,
    name_of,
    org_of,
    signed_claims,
    user_of,
)


@dataclass(frozen=True, slots=True)
class Issuers:
    """Who may have signed. ``keys``: of HS256, newest first. ``full_access``: issuers whose ``*`` counts."""

    keys: Sequence[bytes]
    jwks: Jwks | None
    rules: Rules
    full_access: frozenset[str]


class Admission:
    """Asks the token who brings it, and notes that they are here."""

    def __init__(self, issuers: Issuers, organisations: Organisations, members: Members, now: Clock) -> None:
        self._issuers = issuers
        self._organisations = organisations
        self._members = members
        self._now = now

    async def person(self, token: str | None) -> Person:
        """Who brings it. Raises TokenRefused, and Transient while an identity provider or the directory is away."""
        if token is None:
            raise TokenRefused("missing", "a bearer token is needed")
        issuers, algorithm = self._issuers, header_of(token).algorithm
        is_ours = algorithm in OURS
        claims = claims_of_ours(token, issuers.keys) if is_ours else await claims_of_provider(token, issuers.jwks)
        ends_at = check_times(claims, self._now())
        check_origin(claims, issuers.rules)
        person = Person(
            org_of(claims) if is_ours else await self._organisations.of_program(claims),
            user_of(claims),
            capabilities_of(claims, full=is_ours or has_full_access(claims, issuers.full_access)),
            ends_at,
            name_of(claims),
        )
        await self.note(person)
        return person

    async def note(self, person: Person) -> None:
        """Note that the person is here. Raises TokenRefused where the directory does not know the organisation."""
        if not await self._members.seen(person):
            raise TokenRefused("organisation", "the directory has no such organisation")


async def claims_of_provider(token: str, jwks: Jwks | None) -> Mapping[str, Any]:
    """The claims of a token that a key of an identity provider has signed. Raises TokenRefused and Transient."""
    header = header_of(token)
    if jwks is None or header.algorithm not in ALGORITHMS:
        raise TokenRefused("algorithm")
    found = await jwks.key(header.key_id, header.algorithm)
    return signed_claims(token, found.key, [header.algorithm])


def has_full_access(claims: Mapping[str, Any], issuers: frozenset[str]) -> bool:
    """Whether ``*`` of this issuer counts."""
    return str(claims.get("iss")).rstrip("/") in issuers
