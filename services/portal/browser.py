"""What a browser brings with a request: its cookies, its form, its address."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.requests import Request

from libs.common.bridge.link_codes import LinkCodes
from libs.common.bridge.portal_keys import PurposeKeys
from services.portal.cookies import ID_BYTES, FormTokens, Kind, as_bytes, cookie_name
from services.portal.guard import SITE
from services.portal.requests import client_address, from_our_page
from services.portal.sites import Site

FEW_BYTES = 4 * 1024
"""Of a form without a text."""
MOST_BYTES = 512 * 1024
"""Of a form with a text: 4,096 characters take at most 49,152 bytes in it. A longer one is given back to shorten it."""
_MOST_FIELDS = 16
_FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of each purpose."""

    codes: LinkCodes
    sessions: PurposeKeys
    forms: FormTokens


@dataclass(frozen=True, slots=True)
class Browser:
    """``visit`` and ``session``: the ids in its cookies, where they have the right form."""

    request: Request
    site: Site
    visit: bytes | None
    session: bytes | None

    @classmethod
    def of(cls, request: Request) -> "Browser":
        site: Site = request.scope[SITE]

        def cookie(kind: Kind) -> bytes | None:
            return as_bytes(request.cookies.get(cookie_name(kind, site.origin)))

        return cls(request, site, cookie("visit"), cookie("session"))

    @property
    def host(self) -> str:
        return self.site.origin.host

    @property
    def is_on_our_page(self) -> bool:
        """Whether what the browser says of the request's origin fits a page of ours. For forms and streams."""
        headers = self.request.headers
        return from_our_page(headers.get("origin"), headers.get("sec-fetch-site"), self.site.origin)

    @property
    def is_prefetched(self) -> bool:
        """Whether the page is loaded without being shown."""
        return "sec-purpose" in self.request.headers or self.request.headers.get("purpose") == "prefetch"

    def session_hashes(self, keys: Keys) -> tuple[bytes, ...]:
        """What may be stored of its session's id."""
        return () if self.session is None else keys.sessions.hashes(self.session)

    def address(self, trusted_proxies: int) -> str:
        """The client's address, as the budget counts it."""
        peer = self.request.client.host if self.request.client else ""
        return client_address(peer, self.request.headers.getlist("x-forwarded-for"), trusted_proxies)


def fresh_id() -> bytes:
    """256 bits from the system's CSPRNG."""
    return secrets.token_bytes(ID_BYTES)


async def form_of(request: Request, most_bytes: int) -> Mapping[str, str] | None:
    """The fields of the form. None: it is larger than ``most_bytes``. Of a repeated field the last counts."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return {}
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            return None
    try:
        fields = parse_qs(body.decode("latin-1"), keep_blank_values=True, errors="replace", max_num_fields=_MOST_FIELDS)
    except ValueError:  # more fields than that
        return {}
    return {name: values[-1] for name, values in fields.items()}
