"""``/{code}``: what a magic link answers.

Rule 1: GET and HEAD change nothing: scanners, previews and readers of links use no link up.
Rule 2: POST needs the token of the page and the cookie that came with it, from our own page. It uses the link up and
        begins a session in one statement. A form that one browser posts twice gets the same session twice: of a tap
        too many a browser follows the later answer.
Rule 3: unknown, used, expired and revoked codes, and codes of another host, get one and the same page after the same
        work. It names the organisation by the host alone, never by the code, and leads on where a session lives in the
        browser.
Rule 4: only codes that miss are counted. Over the budget they get 429; a code that opens is never refused. What can be
        no code, such as ``favicon.ico``, is no miss: browsers ask for it by themselves, and many share an address.
Rule 5: a wish for a fresh SMS (``again=sms``) is answered before anything is done about it. The answer tells nothing,
        and no request waits for Kafka. While Kafka is known to be away, every code gets 503.
"""

from http import HTTPStatus

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from libs.common import metrics
from libs.common.bridge.link_codes import is_code
from libs.common.events.portal import PortalLinkWanted, PortalSignedIn
from libs.common.logging import get_logger
from libs.common.pages.cookies import as_text, set_cookie
from libs.common.pages.forms import FEW_BYTES, form_of, fresh_id
from services.portal import queries
from services.portal.browser import Browser
from services.portal.deps import Deps
from services.portal.guard import page_response
from services.portal.queries import LONGEST
from services.portal.requests import path_to_try_again
from services.portal.rows import Link, Thread
from services.portal.threads import phone_end
from services.portal.views import Garage, GonePage, OpenPage, Page, ReplacePage, TroublePage

log = get_logger()


class Links:
    """The routes of a link."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def show(self, request: Request) -> Response:
        """``GET /{code}``, and HEAD."""
        browser = Browser.of(request)
        link, thread = await self._look(browser)
        visit = browser.visit or fresh_id()
        if link is None or not link.opens:
            return await self._missed(browser, visit, thread)
        answer = page_response(self._deps.html, request, self._open_page(browser, visit, link, thread))
        return _with_visit(answer, browser, visit)

    async def not_here(self, request: Request) -> Response:
        """A path that nothing is behind, such as the address without its link."""
        page = TroublePage("not_here", Browser.of(request).site.garage)
        return page_response(self._deps.html, request, page, HTTPStatus.NOT_FOUND)

    async def post(self, request: Request) -> Response:
        """``POST /{code}``: open the session, or ask for a fresh link."""
        browser = Browser.of(request)
        visit = browser.visit
        form = await form_of(request, FEW_BYTES) if browser.is_on_our_page else None
        if (
            visit is None
            or form is None
            or not self._deps.keys.forms.is_good(form.get("token"), "visit", visit, browser.host)
        ):
            return self._forbidden(browser)
        session = self._session(browser, visit)
        link, thread = await self._look(browser, session)
        if form.get("again") == "sms":
            return await self._again(browser, visit, link)
        stored = self._deps.keys.sessions.hash(session)
        if link is not None and link.opens and (thread is None or thread.session_hash != stored):
            if thread is not None and form.get("replace") != "yes":
                return page_response(self._deps.html, request, self._replace_page(browser, visit, link, thread))
            if begun := await self._redeem(browser, session):
                return begun
            _, thread = await self._look(browser, session)
        if thread is not None and thread.session_hash == stored:
            return self._opened(browser, session)
        return await self._missed(browser, visit, thread)

    async def _look(self, browser: Browser, *begun: bytes) -> tuple[Link | None, Thread | None]:
        """The link of this code, and the session that lives in this browser, or was begun with this id."""
        deps = self._deps
        codes = self._codes(browser)
        sessions = (*browser.session_hashes(deps.keys), *map(deps.keys.sessions.hash, begun))
        async with deps.scope(browser, codes=codes, sessions=sessions) as db:
            link = await queries.link_of(db, codes, browser.host, deps.pool.now())
            thread = await queries.thread_of(db, sessions, browser.host, deps.pool.now())
        return link, thread

    async def _redeem(self, browser: Browser, session: bytes) -> Response | None:
        """Begin the session with this id. None: another request used the link, or it ended."""
        deps, now = self._deps, self._deps.pool.now()
        codes, before = self._codes(browser), browser.session_hashes(deps.keys)
        stored = deps.keys.sessions.hash(session)
        async with deps.scope(browser, codes=codes, sessions=(stored, *before)) as db:
            place = await queries.redeem(db, codes, browser.host, stored, now)
            if place is not None:
                await queries.end_sessions(db, before)
                await queries.signed_in(db, stored, now)
        if place is None:
            return None
        org_id, conversation_id = place
        log.info("link.redeemed", org_id=org_id, conversation_id=str(conversation_id))
        metrics.PORTAL_LINKS.labels(outcome="opened").inc()
        event = PortalSignedIn(org_id=org_id, conversation_id=conversation_id, at=now)
        answer = self._opened(browser, session)
        answer.background = BackgroundTask(deps.outbox.put, [event])
        return answer

    def _opened(self, browser: Browser, session: bytes) -> Response:
        answer = RedirectResponse("/conversation", HTTPStatus.SEE_OTHER)
        life = int(LONGEST.total_seconds())
        answer.headers.append("set-cookie", set_cookie("session", as_text(session), browser.site.origin, max_age=life))
        return answer

    def _session(self, browser: Browser, visit: bytes) -> bytes:
        """The id of the session that this code begins in the browser with this visit. Nobody can guess it."""
        code: str = browser.request.path_params["code"]
        return self._deps.keys.sessions.hash(visit + code.encode())

    async def _again(self, browser: Browser, visit: bytes, link: Link | None) -> Response:
        if await self._is_over_budget(browser):
            return self._trouble(browser, TroublePage("too_many"), HTTPStatus.TOO_MANY_REQUESTS)
        if self._deps.outbox.is_away:  # whatever the code is
            away = TroublePage("away", browser.site.garage, path_to_try_again(browser.request.scope["path"]))
            return self._trouble(browser, away, HTTPStatus.SERVICE_UNAVAILABLE)
        page = GonePage(browser.site.garage, self._token(browser, visit), asked=True)
        answer = page_response(self._deps.html, browser.request, page)
        wishes: list[PortalLinkWanted] = []
        if link is not None:
            wishes.append(
                PortalLinkWanted(org_id=link.org_id, conversation_id=link.conversation_id, at=self._deps.pool.now())
            )
        answer.background = BackgroundTask(self._deps.outbox.put, wishes)
        return answer

    async def _missed(self, browser: Browser, visit: bytes, thread: Thread | None) -> Response:
        if is_code(browser.request.path_params["code"]) and await self._is_over_budget(browser):
            return self._trouble(browser, TroublePage("too_many"), HTTPStatus.TOO_MANY_REQUESTS)
        page = GonePage(browser.site.garage, self._token(browser, visit), is_inside=thread is not None)
        answer = page_response(self._deps.html, browser.request, page, HTTPStatus.NOT_FOUND)
        return _with_visit(answer, browser, visit)

    async def _is_over_budget(self, browser: Browser) -> bool:
        spent = await self._deps.budget.is_spent_by(browser.address(self._deps.trusted_proxies))
        metrics.PORTAL_LINKS.labels(outcome="refused" if spent else "missed").inc()
        return spent

    def _codes(self, browser: Browser) -> tuple[bytes, ...]:
        return self._deps.keys.codes.hashes(browser.request.path_params["code"])

    def _open_page(self, browser: Browser, visit: bytes, link: Link, thread: Thread | None) -> Page:
        if thread is not None:
            return self._replace_page(browser, visit, link, thread)
        return OpenPage(Garage(link.org_name), self._token(browser, visit), by_itself=not link.needs_button)

    def _replace_page(self, browser: Browser, visit: bytes, link: Link, thread: Thread) -> ReplacePage:
        return ReplacePage(Garage(link.org_name), self._token(browser, visit), phone_end(thread))

    def _token(self, browser: Browser, visit: bytes) -> str:
        return self._deps.keys.forms.token("visit", visit, browser.host)

    def _forbidden(self, browser: Browser) -> Response:
        page = TroublePage("forbidden", again=path_to_try_again(browser.request.scope["path"]))
        return self._trouble(browser, page, HTTPStatus.FORBIDDEN)

    def _trouble(self, browser: Browser, page: TroublePage, status: int) -> Response:
        return page_response(self._deps.html, browser.request, page, status)


def _with_visit(answer: Response, browser: Browser, visit: bytes) -> Response:
    """Give the browser the cookie of its visit, unless it has it."""
    if browser.visit is None:
        answer.headers.append("set-cookie", set_cookie("visit", as_text(visit), browser.site.origin))
    return answer
