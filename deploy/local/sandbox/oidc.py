"""An OpenID provider: the people of a garage sign in without a password, on this machine.

Written from OpenID Connect Core 1.0, RFC 7636 (PKCE, S256 alone) and RFC 9207 (the response names its issuer).

Law 1: one client, one redirect address, byte by byte. A request that names another gets an error page and no redirect.
Law 2: a code is good once, for a minute, for its client, redirect address and verifier.
Law 3: a person is named by a button of the page, or by a ticket as ``login_hint``. A ticket is good once.
Law 4: the keys are made at the start and end with the process.
"""

import base64
import hashlib
import hmac
import html
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from pydantic import BaseModel, ConfigDict, Field

from deploy.local.sandbox.clock import unix_now
from deploy.local.sandbox.schemas import Json

PREFIX = "/oidc"
CODE_SECONDS = 60
TICKET_SECONDS = 12 * 3600
TOKEN_SECONDS = 300
_MOST = 1_000


class Colleague(BaseModel):
    """Somebody who can sign in. ``tenant``: one, or several of somebody who works for several garages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user_id: str = Field(min_length=1, max_length=100)
    name: str = Field(min_length=1, max_length=100)
    role: str = ""
    tenant: str | list[str] = "example"
    capabilities: list[str] = []


PEOPLE = (
    Colleague(user_id="olivia", name="Olivia Grant", role="owner", capabilities=["*"]),
    Colleague(
        user_id="marek",
        name="Marek Nowak",
        role="advisor",
        capabilities=["messages.view", "messages.send", "customers.contact.view"],
    ),
    Colleague(user_id="tom", name="Tom Baker", role="technician", capabilities=["messages.view"]),
)


@dataclass(frozen=True, slots=True)
class OidcClient:
    """The one client. Without a redirect address nobody can sign in."""

    client_id: str = ""
    secret: str = ""
    redirect: str = ""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a code stands for."""

    user_id: str
    nonce: str
    challenge: str
    ends_at: float


class Wrong(Exception):  # noqa: N818 -- as in: raise Wrong("code")
    """An OAuth error code."""


@dataclass
class OidcState:
    """People, tickets and codes. ``claims`` are said instead of the true ones, for tests of what checks them."""

    people: dict[str, Colleague] = field(init=False)
    tickets: OrderedDict[str, tuple[str, float]] = field(init=False)
    codes: OrderedDict[str, Granted] = field(init=False)
    claims: Json = field(init=False)

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """As at the start."""
        self.people = {one.user_id: one for one in PEOPLE}
        self.tickets, self.codes, self.claims = OrderedDict(), OrderedDict(), {}

    def say(self, claims: Json) -> None:
        """Say these claims in tokens from now on."""
        self.claims = claims

    def ticket(self, user_id: str) -> str:
        """A fresh ticket of somebody who is known. Raises ValueError."""
        if user_id not in self.people:
            raise ValueError("user_id: nobody is called so")
        fresh = secrets.token_urlsafe(24)
        _put(self.tickets, fresh, (user_id, unix_now() + TICKET_SECONDS))
        return fresh

    def holder(self, ticket: str) -> str | None:
        """Who has the ticket, which is used up."""
        user_id, ends_at = self.tickets.pop(ticket, (None, 0.0))
        return user_id if unix_now() < ends_at else None


class OidcApi:
    """The provider's endpoints under ``/oidc``."""

    def __init__(self, client: OidcClient, state: OidcState) -> None:
        self._client = client
        self._state = state
        self._key = generate_private_key(SECP256R1())
        self._key_id = secrets.token_hex(8)

    def routes(self) -> list[web.RouteDef]:
        if not self._client.redirect:
            return []
        return [
            web.get(f"{PREFIX}/.well-known/openid-configuration", self._metadata),
            web.get(f"{PREFIX}/jwks", self._jwks),
            web.get(f"{PREFIX}/authorize", self._authorize),
            web.post(f"{PREFIX}/token", self._token),
            web.get(f"{PREFIX}/logout", self._logout),
        ]

    async def _metadata(self, request: web.Request) -> web.Response:
        issuer = _issuer(request)
        return web.json_response(
            {
                "issuer": issuer,
                "authorization_endpoint": f"{issuer}/authorize",
                "token_endpoint": f"{issuer}/token",
                "jwks_uri": f"{issuer}/jwks",
                "end_session_endpoint": f"{issuer}/logout",
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "code_challenge_methods_supported": ["S256"],
                "token_endpoint_auth_methods_supported": ["client_secret_basic"],
                "authorization_response_iss_parameter_supported": True,
            }
        )

    async def _jwks(self, _request: web.Request) -> web.Response:
        public = jwt.algorithms.ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        return web.json_response({"keys": [{**public, "kid": self._key_id, "use": "sig", "alg": "ES256"}]})

    async def _authorize(self, request: web.Request) -> web.Response:
        asked = request.query
        if asked.get("client_id") != self._client.client_id or asked.get("redirect_uri") != self._client.redirect:
            return web.Response(status=400, text="client_id and redirect_uri are not those that are registered\n")
        wanted = {"response_type": "code", "code_challenge_method": "S256"}
        if any(asked.get(name) != value for name, value in wanted.items()) or not asked.get("code_challenge"):
            return self._back(request, {"error": "invalid_request"})
        if "openid" not in asked.get("scope", "").split():
            return self._back(request, {"error": "invalid_scope"})
        user_id = asked.get("user_id") or self._state.holder(asked.get("login_hint", ""))
        if user_id not in self._state.people:
            return self._page(request)
        code = secrets.token_urlsafe(24)
        granted = Granted(user_id, asked.get("nonce", ""), asked["code_challenge"], unix_now() + CODE_SECONDS)
        _put(self._state.codes, code, granted)
        return self._back(request, {"code": code})

    def _back(self, request: web.Request, answer: Mapping[str, str]) -> web.Response:
        said = {**answer, "state": request.query.get("state", ""), "iss": _issuer(request)}
        return web.Response(status=302, headers={"Location": f"{self._client.redirect}?{urlencode(said)}"})

    def _page(self, request: web.Request) -> web.Response:
        """Who is it? One button for each of the people."""
        kept = "".join(
            f'<input type="hidden" name="{html.escape(name)}" value="{html.escape(value)}">'
            for name, value in request.query.items()
            if name not in ("login_hint", "user_id")
        )
        buttons = "".join(
            f'<p><button name="user_id" value="{html.escape(one.user_id)}">{html.escape(one.name)}, '
            f"{html.escape(one.role or one.user_id)}</button></p>"
            for one in self._state.people.values()
        )
        text = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Sandbox sign-in</title>'
            '<meta name="viewport" content="width=device-width">'
            f"<h1>Who signs in?</h1><form>{kept}{buttons}</form></html>"
        )
        return web.Response(text=text, content_type="text/html", headers={"Cache-Control": "no-store"})

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        try:
            granted = self._redeem(request.headers.get("Authorization", ""), {k: str(v) for k, v in form.items()})
        except Wrong as wrong:
            status = 401 if str(wrong) == "invalid_client" else 400
            return web.json_response({"error": str(wrong)}, status=status)
        return web.json_response(
            {
                "access_token": secrets.token_urlsafe(24),
                "token_type": "Bearer",
                "expires_in": TOKEN_SECONDS,
                "id_token": self._id_token(_issuer(request), granted),
            },
            headers={"Cache-Control": "no-store"},
        )

    def _redeem(self, authorization: str, form: Mapping[str, str]) -> Granted:
        credentials = base64.b64encode(f"{self._client.client_id}:{self._client.secret}".encode()).decode()
        if not hmac.compare_digest(authorization.encode(), f"Basic {credentials}".encode()):
            raise Wrong("invalid_client")
        if form.get("grant_type") != "authorization_code":
            raise Wrong("unsupported_grant_type")
        granted = self._state.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        verified = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if granted is None or unix_now() >= granted.ends_at or form.get("redirect_uri") != self._client.redirect:
            raise Wrong("invalid_grant")
        if not hmac.compare_digest(verified.encode(), granted.challenge.encode()):
            raise Wrong("invalid_grant")
        return granted

    def _id_token(self, issuer: str, granted: Granted) -> str:
        person, now = self._state.people[granted.user_id], int(unix_now())
        claims: dict[str, Any] = {
            "iss": issuer,
            "aud": self._client.client_id,
            "sub": person.user_id,
            "name": person.name,
            "tenant": person.tenant,
            "capabilities": person.capabilities,
            "nonce": granted.nonce,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
        }
        return jwt.encode(claims | self._state.claims, self._key, "ES256", headers={"kid": self._key_id})

    async def _logout(self, _request: web.Request) -> web.Response:
        return web.Response(text="You are signed out of the sandbox.\n")


def _issuer(request: web.Request) -> str:
    return f"http://{request.host}{PREFIX}"


def _put(kept: OrderedDict[str, Any], name: str, value: Any) -> None:
    kept[name] = value
    if len(kept) > _MOST:
        kept.popitem(last=False)
