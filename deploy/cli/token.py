"""``transom token``: a token for development.

It is made where the whole inbox is on one machine. Such a token beside a real identity provider, or
for an inbox that others can reach, would be a way past the sign-in.
"""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import jwt
from pydantic import SecretStr, TypeAdapter, ValidationError

from libs.common.clock import utc_now
from libs.common.errors import ConfigurationError
from libs.common.events.fields import MAX_USER_ID, OrgId
from libs.common.setting_types import SigningKeys, is_loopback, secrets_in
from libs.common.settings import Settings, SignInSettings
from libs.common.settings import load as load_settings
from services.inbox.people import CAPABILITIES, EVERYTHING

LONGEST = timedelta(hours=1)
_TTL = re.compile(r"([0-9]{1,5})(s|m|h)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours"}


class _Keys(Settings):
    jwt_keys: SigningKeys = SecretStr("")


def development_token(org: str, user: str, capabilities: str, name: str | None, ttl: str) -> str:
    """The token. Raises ConfigurationError: one line that says what is wrong with the arguments or the settings."""
    keys = secrets_in(load_settings(_Keys).jwt_keys)
    if not keys:
        raise ConfigurationError("TRANSOM_JWT_KEYS is required: source the transom.env of transom up, or set it")
    settings = load_settings(SignInSettings)
    if not settings.is_local:
        raise ConfigurationError("TRANSOM_INBOX_URL is not on this machine: tokens for development are for one that is")
    for variable, address in (("OIDC_ISSUER", settings.oidc_issuer), ("JWKS_URL", settings.jwks_url)):
        if address is not None and not is_loopback(urlsplit(address).hostname or ""):
            raise ConfigurationError(f"TRANSOM_{variable} is a real identity provider's: let it make the token")
    now = utc_now()
    claims: dict[str, Any] = {
        "org_id": _org(org),
        "sub": _user(user),
        "capabilities": _capabilities(capabilities),
        "iat": int(now.timestamp()),
        "exp": int((now + _life(ttl)).timestamp()),
    }
    more = {"name": name, "aud": settings.jwt_audience, "iss": settings.jwt_issuer}
    return jwt.encode(claims | {key: value for key, value in more.items() if value is not None}, keys[0], "HS256")


def _org(org: str) -> str:
    try:
        return str(TypeAdapter(OrgId).validate_python(org))
    except ValidationError:
        raise ConfigurationError("--org: an organisation's id is letters, digits and _ . : -") from None


def _user(user: str) -> str:
    if not 0 < len(user) <= MAX_USER_ID or not user.isprintable():
        raise ConfigurationError(f"--user: an id is 1 to {MAX_USER_ID} printable characters")
    return user


def _capabilities(joined: str) -> list[str]:
    """The words. The inbox takes one that it does not know for nothing, so a misspelt one would be a silent no."""
    words = [word.strip() for word in joined.split(",") if word.strip()]
    known = (*CAPABILITIES, EVERYTHING)
    if not words or not set(words) <= set(known):
        unknown = ", ".join(repr(word) for word in words if word not in known)
        wrong = f"{unknown} is not known here" if words else "it is empty"
        raise ConfigurationError(f"--capabilities: {wrong}: one or more of {', '.join(known)}")
    return words


def _life(ttl: str) -> timedelta:
    found = _TTL.fullmatch(ttl)
    life = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta()
    if not timedelta() < life <= LONGEST:
        raise ConfigurationError("--ttl: a time such as 30s, 15m or 1h is needed, an hour at most")
    return life
