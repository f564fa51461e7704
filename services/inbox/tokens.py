"""Bearer tokens: signed JWTs that say who asks, for which organisation, and what they may do.

Rule 1: the key decides the algorithm. Keys of JWT_KEYS are HS256 alone, keys of a JWKS address RS and ES alone.
        ``none`` is no algorithm, and nothing in a token says where its key is.
Rule 2: a token ends within ``LONGEST`` of its issue and of now, with ``LEEWAY`` for clocks that differ.
Rule 3: why a token is refused stands in the log. The answer says it only where the signature was good: then its holder
        has a token of ours, and somebody who forges learns nothing.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

import jwt

from libs.common.events.fields import MAX_USER_ID
from libs.common.printable import printable
from services.inbox.people import EVERYTHING

LONGEST = timedelta(hours=1)
LEEWAY = timedelta(seconds=30)
MAX_TOKEN = 8 * 1024
"""Characters of a token."""
MAX_NAME = 100
_MAX_CAPABILITIES = 100
OURS = ("HS256",)

Why = Literal[
    "missing",
    "malformed",
    "algorithm",
    "unknown_key",
    "signature",
    "expired",
    "too_long",
    "not_yet",
    "audience",
    "issuer",
    "claims",
    "organisation",
]


class TokenRefused(Exception):  # noqa: N818 -- as in: raise TokenRefused("expired")
    """The token does not count. ``why`` is for the log; ``said`` is what its holder may learn, or None."""

    def __init__(self, why: Why, said: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.said = said


@dataclass(frozen=True, slots=True)
class Rules:
    """What a token must say. None: that is not checked."""

    audience: str | None
    issuer: str | None


class Header(NamedTuple):
    """What of a token's header counts: the algorithm, and the id of the key."""

    algorithm: str
    key_id: str | None


def header_of(token: str) -> Header:
    """The header. Nothing of it is verified. Raises TokenRefused."""
    if len(token) > MAX_TOKEN:
        raise TokenRefused("malformed")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenRefused("malformed") from None
    key_id = header.get("kid")
    return Header(str(header.get("alg")), key_id if isinstance(key_id, str) else None)


def claims_of_ours(token: str, keys: Sequence[bytes]) -> Mapping[str, Any]:
    """The claims of a token that one of these HS256 keys has signed. Raises TokenRefused."""
    for key in keys:
        try:
            return signed_claims(token, key, OURS)
        except TokenRefused as refused:
            if refused.why != "signature":
                raise
    raise TokenRefused("signature")


def signed_claims(token: str, key: Any, algorithms: Sequence[str]) -> Mapping[str, Any]:
    """The claims of a token that this key has signed. They are not looked at. Raises TokenRefused."""
    unchecked = dict.fromkeys(
        ("verify_exp", "verify_nbf", "verify_iat", "verify_aud", "verify_iss", "verify_sub", "verify_jti"), False
    )
    try:
        return jwt.decode(token, key, algorithms=list(algorithms), options=unchecked)  # type: ignore[arg-type]
    except jwt.InvalidSignatureError:
        raise TokenRefused("signature") from None
    except (jwt.InvalidAlgorithmError, jwt.InvalidKeyError):
        raise TokenRefused("algorithm") from None
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise TokenRefused("malformed") from None


def org_of(claims: Mapping[str, Any]) -> str:
    """The organisation that a token names itself. Raises TokenRefused where that is no organisation's id."""
    org_id = claims.get("org_id")
    if not isinstance(org_id, str) or not org_id or not org_id.isprintable():
        raise TokenRefused("claims", "the claim org_id is missing or no id: it names the organisation")
    return org_id


def check_times(claims: Mapping[str, Any], now: datetime) -> datetime:
    """When the token ends. Raises TokenRefused where that was, or is too far away, or where it does not count yet."""
    ends_at, issued = check_lifetime(claims, now), _instant(claims, "iat")
    if ends_at - min(issued or now, now) > LONGEST + LEEWAY:
        raise TokenRefused("too_long", "the token lives longer than an hour: see its claims exp and iat")
    return ends_at


def check_lifetime(claims: Mapping[str, Any], now: datetime) -> datetime:
    """When the token ends. Raises TokenRefused where that was, or where it does not count yet."""
    ends_at = _instant(claims, "exp")
    if ends_at is None:
        raise TokenRefused("claims", "the claim exp is missing: it says when the token ends, in seconds since 1970")
    if ends_at <= now - LEEWAY:
        raise TokenRefused("expired", f"the token ended at {ends_at:%Y-%m-%dT%H:%M:%SZ}")
    issued, begins = _instant(claims, "iat"), _instant(claims, "nbf")
    if any(one is not None and one > now + LEEWAY for one in (issued, begins)):
        raise TokenRefused("not_yet", "the token does not count yet: see its claims iat and nbf")
    return ends_at


def check_origin(claims: Mapping[str, Any], rules: Rules) -> None:
    """Raise TokenRefused where audience or issuer are not those of the settings."""
    audiences = claims.get("aud")
    if rules.audience is not None and rules.audience not in (audiences if isinstance(audiences, list) else [audiences]):
        raise TokenRefused("audience", "the claim aud is not the audience of this inbox")
    if rules.issuer is not None and claims.get("iss") != rules.issuer:
        raise TokenRefused("issuer", "the claim iss is not the issuer of this inbox")


def user_of(claims: Mapping[str, Any]) -> str:
    """The subject. Raises TokenRefused where it is none that a line can hold."""
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not 0 < len(user_id) <= MAX_USER_ID or not user_id.isprintable():
        raise TokenRefused("claims", f"the claim sub is to be 1 to {MAX_USER_ID} printable characters")
    return user_id


def name_of(claims: Mapping[str, Any]) -> str | None:
    """The name, without characters that move a terminal or turn text around."""
    name = claims.get("name")
    return (printable(name[:MAX_NAME]).strip() or None) if isinstance(name, str) else None


def capabilities_of(claims: Mapping[str, Any], *, full: bool = True) -> frozenset[str]:
    """What the claim ``capabilities`` allows: a list of words, or words with spaces. ``full``: ``*`` counts."""
    said = claims.get("capabilities")
    words = said.split() if isinstance(said, str) else said if isinstance(said, list) else []
    found = frozenset(word for word in words[:_MAX_CAPABILITIES] if isinstance(word, str))
    return found if full else found - {EVERYTHING}


def _instant(claims: Mapping[str, Any], name: str) -> datetime | None:
    seconds = claims.get(name)
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds):
        raise TokenRefused("claims", f"the claim {name} is no number of seconds since 1970")
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        raise TokenRefused("claims", f"the claim {name} is no time") from None
