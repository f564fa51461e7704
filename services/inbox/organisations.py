"""Which organisation a person of an identity provider belongs to.

Rule 1: where an organisation names the issuer in its ``sign_in``, the tenant of the token decides, and nothing else in
        it: a claim such as ``org_id`` may be one that the admin of another tenant can write.
Rule 2: an issuer that no organisation names, and at which people do not sign in, is the platform's own. Its tokens name
        their organisation in ``org_id``.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from libs.common.clock import steady
from libs.common.db.pool import Pool
from services.inbox import session_queries as queries
from services.inbox.tokens import TokenRefused, org_of

_KEPT_SECONDS = 30.0
_MOST = 10_000
_MOST_TENANTS = 20


class Named(NamedTuple):
    """What the directory says of an issuer's tenants."""

    org_ids: Sequence[str]
    is_named: bool
    """Whether any organisation names the issuer."""


class Organisations:
    """Asks the directory, and keeps what it said for half a minute."""

    def __init__(self, pool: Pool, tenant_claim: str, people_issuer: str | None) -> None:
        self._pool = pool
        self._tenant_claim = tenant_claim
        self._people_issuer = people_issuer
        self._kept: OrderedDict[tuple[str, ...], tuple[float, Named]] = OrderedDict()

    async def of_people(self, claims: Mapping[str, Any]) -> Sequence[str]:
        """The organisations of a person by the tenants of their token, sorted."""
        return (await self._named(claims)).org_ids

    async def of_program(self, claims: Mapping[str, Any]) -> str:
        """The organisation of a bearer token. Raises TokenRefused where the token names none, or several."""
        named, said = await self._named(claims), claims.get("org_id")
        if named.is_named or _without_slash(claims.get("iss")) == _without_slash(self._people_issuer):
            match [org_id for org_id in named.org_ids if said in (None, org_id)]:
                case [org_id]:
                    return org_id
            raise TokenRefused(
                "organisation", "no organisation of the directory has the issuer and tenant of the token"
            )
        return org_of(claims)

    async def _named(self, claims: Mapping[str, Any]) -> Named:
        issuer, tenants = _without_slash(claims.get("iss")), claims.get(self._tenant_claim)
        listed = tenants if isinstance(tenants, list) else [tenants]
        asked = (issuer, *sorted({one for one in listed[:_MOST_TENANTS] if isinstance(one, str) and one.isprintable()}))
        now = steady()
        if (kept := self._kept.get(asked)) is not None and now - kept[0] < _KEPT_SECONDS:
            return kept[1]
        async with self._pool.acquire() as db:
            found = Named(*await queries.organisations_of(db, issuer, asked[1:]))
        self._kept[asked] = now, found
        self._kept.move_to_end(asked)
        if len(self._kept) > _MOST:
            self._kept.popitem(last=False)
        return found


def _without_slash(issuer: object) -> str:
    return issuer.rstrip("/") if isinstance(issuer, str) and issuer.isprintable() else ""
