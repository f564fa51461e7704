"""OpenID Connect: people sign in at an identity provider, by the code flow with PKCE.

Rule 1: a sign-in begins and ends in one browser. State, nonce and verifier are random, and a signed cookie keeps them.
Rule 2: the provider is the one of the settings. Its metadata names itself so, the response does (RFC 9207) where the
        metadata promises it, and the ID token does. Its addresses are https, but on this machine.
Rule 3: an ID token counts with the signature of one of the provider's keys, for this client alone, with our nonce. The
        keys are those of the last minutes: one that was withdrawn signs nobody in.
Rule 4: the redirect address is INBOX_URL and a fixed path.
"""

import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx2
from authlib.integrations.httpx_client import AsyncOAuth2Client

from libs.common.clock import Clock, steady
from libs.common.portal_host import PortalOrigin
from libs.common.setting_types import provider_url
from services.inbox.admission import claims_of_provider
from services.inbox.jwks import ANSWER_SECONDS, Jwks, fetch_json
from services.inbox.problems import ProviderAway
from services.inbox.tokens import TokenRefused, check_lifetime

CALLBACK = "/login/callback"
_SCOPE = "openid profile"
_KEPT_SECONDS = 3600.0
_SECRET_BYTES = 32
_TAKEN = range(200, 500)
"""Statuses of the token endpoint whose body is read: a refused code comes as 400 or 401 with JSON."""


class SignInRefused(Exception):  # noqa: N818 -- as in: raise SignInRefused("state")
    """The provider's answer does not count. ``why`` is for the log."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Attempt(NamedTuple):
    """A sign-in under way. ``leads_to``: the path that is shown afterwards."""

    state: str
    nonce: str
    verifier: str
    leads_to: str

    @classmethod
    def fresh(cls, leads_to: str) -> "Attempt":
        state, nonce, verifier = (secrets.token_urlsafe(_SECRET_BYTES) for _ in range(3))
        return cls(state, nonce, verifier, leads_to)


@dataclass(frozen=True, slots=True)
class Metadata:
    """What the provider says of itself."""

    issuer: str
    authorization: str
    token: str
    jwks: str
    end_session: str | None
    names_itself: bool
    """Whether every response of it names the issuer."""
    takes_post: bool
    """Whether it wants the client's secret in the form, and not in the header."""


@dataclass(frozen=True, slots=True)
class Client:
    """As what the inbox is known to the provider. ``secret`` is empty where it has none."""

    client_id: str
    secret: str
    redirect: str

    @classmethod
    def of(cls, client_id: str, secret: str, inbox: PortalOrigin) -> "Client":
        return cls(client_id, secret, f"{inbox}{CALLBACK}")


class Provider:
    """The identity provider of the settings."""

    def __init__(
        self,
        http: httpx2.AsyncClient,
        issuer: str,
        client: Client,
        now: Clock,
        ticks: Callable[[], float] = steady,
    ) -> None:
        """``ticks``: seconds of a clock that is never set."""
        self._http = http
        self._ticks = ticks
        self._issuer = issuer
        self._as = client
        self._now = now
        self._tls = httpx2.create_ssl_context(trust_env=False)  # one for each sign-in would cost 20 ms
        self._kept: tuple[float, Metadata, Jwks] | None = None

    @property
    def issuer(self) -> str:
        return self._issuer

    async def address(self, attempt: Attempt, hint: str | None) -> str:
        """Where the browser goes. ``hint``: who wants to sign in. Raises ProviderAway while the provider is away."""
        metadata, _ = await self._known()
        more = {} if hint is None else {"login_hint": hint}
        async with self._client(metadata) as client:
            address, _ = client.create_authorization_url(
                metadata.authorization,
                state=attempt.state,
                code_verifier=attempt.verifier,
                nonce=attempt.nonce,
                **more,
            )
        return str(address)

    async def claims(self, attempt: Attempt, answer: Mapping[str, str]) -> Mapping[str, Any]:
        """The claims of the person whom the provider names in its answer.

        Raises SignInRefused where the answer does not count, and ProviderAway while the provider is away.
        """
        metadata, jwks = await self._known()
        if not hmac.compare_digest(attempt.state.encode(), answer.get("state", "").encode()):
            raise SignInRefused("state")
        named = answer.get("iss")
        if named != metadata.issuer and (named is not None or metadata.names_itself):
            raise SignInRefused("issuer")
        if "error" in answer or not answer.get("code"):
            raise SignInRefused("denied")
        await jwks.refresh_old()  # a sign-in is rare: nobody asks for these keys in between
        try:
            claims = await claims_of_provider(await self._id_token(metadata, attempt, answer["code"]), jwks)
            check_lifetime(claims, self._now())
        except TokenRefused as refused:
            raise SignInRefused(refused.why) from None
        self._check(claims, metadata, attempt)
        return claims

    async def signed_out_at(self) -> str | None:
        """Where a person ends their session at the provider too; None where there is no such page, or it is away."""
        try:
            metadata, _ = await self._known()
        except ProviderAway:
            return None
        return metadata.end_session

    def _check(self, claims: Mapping[str, Any], metadata: Metadata, attempt: Attempt) -> None:
        audiences = claims.get("aud")
        if claims.get("iss") != metadata.issuer:
            raise SignInRefused("issuer")
        if audiences not in (self._as.client_id, [self._as.client_id]):
            raise SignInRefused("audience")
        if claims.get("azp", self._as.client_id) != self._as.client_id:
            raise SignInRefused("audience")
        if not hmac.compare_digest(attempt.nonce.encode(), str(claims.get("nonce")).encode()):
            raise SignInRefused("nonce")

    async def _id_token(self, metadata: Metadata, attempt: Attempt, code: str) -> str:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._as.redirect,
            "code_verifier": attempt.verifier,
        }
        async with self._client(metadata) as client:
            auth = client.client_auth(client.token_endpoint_auth_method)
            more = {"data": form, "auth": auth, "withhold_token": True}
            told = await fetch_json(client, metadata.token, "POST", _TAKEN, **more)
        token = told.get("id_token")
        if not isinstance(token, str):
            raise SignInRefused("code")
        return token

    def _client(self, metadata: Metadata) -> AsyncOAuth2Client:
        method = "client_secret_post" if metadata.takes_post else "client_secret_basic"
        return AsyncOAuth2Client(
            self._as.client_id,
            self._as.secret or None,
            token_endpoint_auth_method=method if self._as.secret else "none",
            scope=_SCOPE,
            redirect_uri=self._as.redirect,
            code_challenge_method="S256",
            timeout=ANSWER_SECONDS,
            verify=self._tls,
            follow_redirects=False,
            trust_env=False,
        )

    async def _known(self) -> tuple[Metadata, Jwks]:
        if self._kept is None or self._ticks() - self._kept[0] > _KEPT_SECONDS:
            told = await fetch_json(self._http, f"{self._issuer}/.well-known/openid-configuration")
            metadata = metadata_of(told, self._issuer)
            if self._kept is not None and self._kept[1].jwks == metadata.jwks:
                jwks = self._kept[2]
            else:
                jwks = Jwks(self._http, metadata.jwks, self._ticks)
            self._kept = self._ticks(), metadata, jwks
        return self._kept[1], self._kept[2]


def metadata_of(told: Mapping[str, Any], issuer: str) -> Metadata:
    """What the provider says of itself. Raises ProviderAway where that is not of this issuer, or is not whole."""
    if str(told.get("issuer")).rstrip("/") != issuer:
        raise ProviderAway("the metadata of the identity provider names another issuer")

    def address(name: str) -> str:
        try:
            return provider_url(str(told[name]))
        except (KeyError, ValueError):
            raise ProviderAway(f"the metadata of the identity provider has no good {name}") from None

    methods = told.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    return Metadata(
        str(told["issuer"]),
        address("authorization_endpoint"),
        address("token_endpoint"),
        address("jwks_uri"),
        address("end_session_endpoint") if "end_session_endpoint" in told else None,
        told.get("authorization_response_iss_parameter_supported") is True,
        isinstance(methods, list) and "client_secret_basic" not in methods and "client_secret_post" in methods,
    )
