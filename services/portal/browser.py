"""What a browser brings with a request: its cookies, its address."""

from dataclasses import dataclass

from starlette.requests import Request

from libs.common.bridge.link_codes import LinkCodes
from libs.common.bridge.portal_keys import PurposeKeys
from libs.common.pages.cookies import FormTokens, Kind, as_bytes, cookie_in, cookie_name
from libs.common.pages.origins import client_address, from_our_page
from services.portal.guard import SITE
from services.portal.sites import Site


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
            return as_bytes(cookie_in(request.headers.getlist("cookie"), cookie_name(kind, site.origin)))

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
