"""The keys of an identity provider, at its JWKS address.

Rule 1: a key is RSA of 2,048 bits and more, or EC of a NIST curve, and verifies the algorithms of its kind alone. A
        symmetric key at such an address is none.
Rule 2: the keys are asked for every ``FRESH``, so that one that was withdrawn stops to count. A token with an unknown
        key asks too, at most once a ``PATIENCE``, whatever tokens come.
Rule 3: while the provider is away the known keys count for ``STALE``.
Rule 4: the address is that of the settings or of the provider's own metadata. Nothing in a token names one.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx2
import jwt
import orjson
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from libs.common.clock import steady
from libs.common.logging import get_logger
from services.inbox.problems import ProviderAway
from services.inbox.tokens import TokenRefused

log = get_logger()

FRESH = timedelta(minutes=5)
PATIENCE = timedelta(minutes=1)
STALE = timedelta(days=1)
MOST_BYTES = 256 * 1024
"""Of an answer of an identity provider."""
ANSWER_SECONDS = 5.0
"""Within which the whole of an answer must have come, however steadily it comes."""
_MOST_KEYS = 100
_LEAST_RSA_BITS = 2048
_RSA = frozenset({"RS256", "RS384", "RS512"})
_OF_CURVE = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
ALGORITHMS = _RSA | frozenset(_OF_CURVE.values())


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """A public key, and the algorithms that it verifies."""

    key: RSAPublicKey | EllipticCurvePublicKey
    algorithms: frozenset[str]


class Jwks:
    """The keys at one address."""

    def __init__(self, http: httpx2.AsyncClient, address: str, ticks: Callable[[], float] = steady) -> None:
        """``ticks``: seconds of a clock that is never set."""
        self._http = http
        self._ticks = ticks
        self._address = address
        self._keys: dict[str, VerifyingKey] = {}
        self._asked: float | None = None
        self._known: float | None = None
        self._asking = asyncio.Lock()

    async def key(self, key_id: str | None, algorithm: str) -> VerifyingKey:
        """The key of this id, or the only one that verifies ``algorithm`` where a token names none.

        Raises TokenRefused where there is none, and ProviderAway where the provider is away and was never asked.
        """
        if (found := self._find(key_id, algorithm)) is not None:
            return found
        async with self._asking:
            if self._find(key_id, algorithm) is None and self._may_ask():
                await self._ask()
        if self._is_unknown():
            raise ProviderAway("the identity provider is away")
        if (found := self._find(key_id, algorithm)) is None:
            raise TokenRefused("unknown_key")
        return found

    async def refresh(self) -> None:
        """Ask for the keys again. Raises ProviderAway when the provider does not answer."""
        async with self._asking:
            await self._ask()
        if self._is_unknown():
            raise ProviderAway("the identity provider is away")

    async def refresh_old(self) -> None:
        """Ask for keys older than ``FRESH``, at most once a ``PATIENCE``. Raises ProviderAway as ``refresh``."""
        async with self._asking:
            if self._known is not None and self._ticks() - self._known >= FRESH.total_seconds() and self._may_ask():
                await self._ask()

    def _find(self, key_id: str | None, algorithm: str) -> VerifyingKey | None:
        if self._is_unknown():
            return None
        if key_id is not None:
            found = self._keys.get(key_id)
            return found if found is not None and algorithm in found.algorithms else None
        fitting = [one for one in self._keys.values() if algorithm in one.algorithms]
        return fitting[0] if len(fitting) == 1 else None

    def _is_unknown(self) -> bool:
        return self._known is None or self._ticks() - self._known > STALE.total_seconds()

    def _may_ask(self) -> bool:
        return self._asked is None or self._ticks() - self._asked >= PATIENCE.total_seconds()

    async def _ask(self) -> None:
        self._asked = self._ticks()
        try:
            told = await fetch_json(self._http, self._address)
        except ProviderAway as error:
            log.warning("dependency.away", dependency="jwks", reason=str(error))
            return
        self._keys = keys_of(told)
        self._known = self._ticks()


def keys_of(told: Mapping[str, Any]) -> dict[str, VerifyingKey]:
    """The keys of a JWKS by their id; what is no key for signatures is left out."""
    listed = told.get("keys")
    found: dict[str, VerifyingKey] = {}
    for number, one in enumerate(listed[:_MOST_KEYS] if isinstance(listed, list) else []):
        if isinstance(one, dict) and (key := _verifying(one)) is not None:
            key_id = one.get("kid")
            found[key_id if isinstance(key_id, str) else f"without id {number}"] = key
    return found


def _verifying(said: Mapping[str, Any]) -> VerifyingKey | None:
    if said.get("kty") not in ("RSA", "EC") or said.get("use", "sig") != "sig":
        return None
    public = {name: value for name, value in said.items() if name in ("kty", "n", "e", "crv", "x", "y")}
    try:
        key = jwt.PyJWK(public).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    match key:
        case RSAPublicKey() if key.key_size >= _LEAST_RSA_BITS:
            algorithms = _RSA
        case EllipticCurvePublicKey() if key.curve.name in _OF_CURVE:
            algorithms = frozenset({_OF_CURVE[key.curve.name]})
        case _:
            return None
    named = said.get("alg")
    return VerifyingKey(key, algorithms if named is None else algorithms & {str(named)})


async def fetch_json(
    http: httpx2.AsyncClient, address: str, method: str = "GET", taken: range = range(200, 201), **request: Any
) -> Mapping[str, Any]:
    """The JSON object at this address. Raises ProviderAway for any other answer, without quoting it.

    ``taken``: the HTTP statuses whose body is read. ``request``: what httpx sends with it.
    """
    try:
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            http.stream(method, address, headers={"Accept": "application/json"}, **request) as answer,
        ):
            if answer.status_code not in taken:
                raise ProviderAway(f"the identity provider answers {answer.status_code}")
            body = bytearray()
            async for part in answer.aiter_bytes():
                body += part
                if len(body) > MOST_BYTES:
                    raise ProviderAway("the identity provider's answer is too large")
    except (httpx2.HTTPError, TimeoutError) as error:
        raise ProviderAway(f"the identity provider is away ({type(error).__name__})") from None
    try:
        told = orjson.loads(bytes(body))
    except orjson.JSONDecodeError:
        told = None
    if not isinstance(told, dict):
        raise ProviderAway("the identity provider's answer is no JSON object")
    return told
