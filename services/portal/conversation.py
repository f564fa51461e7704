"""``/conversation``: the thread, writing to it, and its stream.

Rule 1: each request asks whether its session lives: on this host, not idle, not ended, its phone still on file.
Rule 2: a message is taken once Kafka has acknowledged it. Until then the page keeps its text in the form.
Rule 3: what a page shows is published as read, unless the browser loads the page without showing it. Such a load, and
        HEAD, move no time either.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from uuid import UUID, uuid4

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from libs.common.errors import Transient
from libs.common.events.portal import PortalMessage, PortalRead
from libs.common.pages.forms import LARGEST_BYTES, MOST_BYTES, USUAL_BYTES, form_of
from libs.common.pages.writing import as_written, fault_of, form_id
from services.portal import queries
from services.portal.browser import Browser
from services.portal.deps import Deps
from services.portal.guard import UNSENT, page_response
from services.portal.languages import language_of
from services.portal.marks import mark_of
from services.portal.publishing import publish
from services.portal.rows import StoredMessage, Thread
from services.portal.streams import Stream, Streams
from services.portal.threads import garage_of, is_on_its_way, phone_end, shown_message, unread
from services.portal.views import GonePage, Refusal, ThreadPage, TroublePage, Unsent

ON_A_PAGE = 100
_SEEN_EVERY = timedelta(minutes=1)

_STATUS: dict[Refusal, int] = {
    "not_sent": HTTPStatus.SERVICE_UNAVAILABLE,
    "empty": HTTPStatus.UNPROCESSABLE_ENTITY,
    "too_long": HTTPStatus.UNPROCESSABLE_ENTITY,
    "characters": HTTPStatus.UNPROCESSABLE_ENTITY,
    "too_many": HTTPStatus.TOO_MANY_REQUESTS,
    "form_expired": HTTPStatus.FORBIDDEN,
}


class Conversation:
    """The routes of a session."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._large = asyncio.Lock()

    async def show(self, request: Request) -> Response:
        """``GET /conversation``, with ``before`` what stands before that message."""
        browser = Browser.of(request)
        before = _uuid(request.query_params.get("before"))
        is_shown = request.method == "GET" and not browser.is_prefetched
        thread, messages, earlier = await self._read(browser, before, is_seen=is_shown)
        if thread is None:
            return self._ended(browser)
        page = self._page(browser, thread, messages, has_earlier=earlier, is_newest=before is None)
        answer = page_response(self._deps.html, request, page)
        if is_shown:
            body = bytes(answer.body)  # the page leaves out what does not fit
            read = self._read_event(thread, [m for m in messages if str(m.message_id).encode() in body])
            answer.background = BackgroundTask(self._deps.outbox.put, read)
        return answer

    async def write(self, request: Request) -> Response:
        """``POST /conversation/messages``."""
        browser = Browser.of(request)
        if not browser.is_on_our_page:
            return page_response(self._deps.html, request, TroublePage("forbidden"), HTTPStatus.FORBIDDEN)
        if browser.session is None:  # the cookie has ended before the page was left
            text = (await form_of(request, USUAL_BYTES) or {}).get("text", "")
            page = GonePage(browser.site.garage, text=text) if text else TroublePage("forbidden")
            return page_response(self._deps.html, request, page, HTTPStatus.FORBIDDEN)
        if _bytes(request) <= MOST_BYTES:
            return await self._write(browser, browser.session, await form_of(request, MOST_BYTES))
        async with self._large:  # of a session that lives: nothing typed is lost, however much it is
            thread, _, _ = await self._read(browser, is_seen=False)
            form = None if thread is None else await form_of(request, LARGEST_BYTES)
            return await self._write(browser, browser.session, form)

    async def _write(self, browser: Browser, session: bytes, form: Mapping[str, str] | None) -> Response:
        """Take the message of this form; None is a form that was too large to be read."""
        if form is None:
            return await self._refused(browser, "", None, "too_long")
        text, client_id = as_written(form.get("text", "")), form_id(form.get("client_id")) or uuid4().hex
        browser.request.scope[UNSENT] = Unsent(text, form.get("token", ""), client_id)
        refusal: Refusal | None = "form_expired"
        if self._deps.keys.forms.is_good(form.get("token"), "session", session, browser.host):
            refusal = fault_of(text) or await self._send(browser, text, client_id)
        if refusal is not None:
            return await self._refused(browser, text, client_id, refusal)
        return RedirectResponse("/conversation", HTTPStatus.SEE_OTHER)

    async def _send(self, browser: Browser, text: str, client_id: str) -> Refusal | None:
        """Publish the message. None: it is taken. A session that has ended has no turn."""
        deps, sessions = self._deps, browser.session_hashes(self._deps.keys)
        async with deps.scope(browser, sessions=sessions) as db:
            now = deps.pool.now()
            thread = await queries.thread_of(db, sessions, browser.host, now)
            if thread is None or not await queries.take_turn(db, thread.session_hash, now):
                return "too_many"
        event = PortalMessage(
            org_id=thread.org_id,
            conversation_id=thread.conversation_id,
            session=thread.session_name.hex,
            text=text,
            client_id=client_id,
            at=now,
        )
        try:
            await publish(deps.producer, [event])
        except Transient:
            async with deps.scope(browser, sessions=sessions) as db:
                await queries.not_posted(db, thread.session_hash)
            return "not_sent"
        return None

    async def events(self, request: Request) -> Response:
        """``GET /conversation/events``: see ``streams``."""
        browser = Browser.of(request)
        if not browser.is_on_our_page:
            return Response(status_code=HTTPStatus.FORBIDDEN)
        sessions = browser.session_hashes(self._deps.keys)
        async with self._deps.scope(browser, sessions=sessions) as db:
            thread = await queries.thread_of(db, sessions, browser.host, self._deps.pool.now())
        if thread is None:
            return Response(status_code=HTTPStatus.UNAUTHORIZED)
        if request.method == "HEAD":  # nobody reads a stream behind it
            return Response(media_type="text/event-stream")
        language = language_of(request.headers.get("accept-language"))
        page = form_id(request.query_params.get("page")) or ""
        stream = await self._deps.streams.open(thread, language, request.headers.get("last-event-id"), page)
        if stream is None:
            return Response(status_code=HTTPStatus.TOO_MANY_REQUESTS, headers={"Retry-After": "30"})
        return _Streamed(self._deps.streams, stream)

    async def _read(
        self, browser: Browser, before: UUID | None = None, *, is_seen: bool = True
    ) -> tuple[Thread | None, list[StoredMessage], bool]:
        """The session's thread, its messages, and whether there are earlier ones."""
        deps, sessions = self._deps, browser.session_hashes(self._deps.keys)
        if not sessions:
            return None, [], False
        async with deps.scope(browser, sessions=sessions) as db:
            now = deps.pool.now()
            thread = await queries.thread_of(db, sessions, browser.host, now)
            if thread is None:
                return None, [], False
            messages = await queries.messages_of(db, thread, before, ON_A_PAGE + 1)
            if is_seen and now - thread.seen_at > _SEEN_EVERY:
                await queries.seen(db, thread.session_hash, now)
        return thread, messages[-ON_A_PAGE:], len(messages) > ON_A_PAGE

    async def _refused(self, browser: Browser, text: str, client_id: str | None, refusal: Refusal) -> Response:
        """The thread again, with the sentence beside the field and the text in it."""
        thread, messages, earlier = await self._read(browser)
        if thread is None:
            return self._ended(browser, text)
        page = self._page(
            browser, thread, messages, has_earlier=earlier, text=text, refusal=refusal, client_id=client_id
        )
        return page_response(self._deps.html, browser.request, page, _STATUS[refusal])

    def _page(
        self,
        browser: Browser,
        thread: Thread,
        messages: Sequence[StoredMessage],
        *,
        has_earlier: bool,
        is_newest: bool = True,
        text: str = "",
        refusal: Refusal | None = None,
        client_id: str | None = None,
    ) -> ThreadPage:
        return ThreadPage(
            garage=garage_of(thread),
            phone_end=phone_end(thread),
            messages=[shown_message(message) for message in messages],
            token=self._deps.keys.forms.token("session", browser.session or b"", browser.host),
            client_id=client_id or uuid4().hex,
            draft_key=thread.session_name.hex,
            now=self._deps.pool.now(),
            last_event=mark_of(messages),
            has_earlier=has_earlier,
            is_newest=is_newest,
            on_its_way=refusal is None and is_newest and is_on_its_way(thread, messages),
            text=text,
            refusal=refusal,
        )

    def _read_event(self, thread: Thread, messages: Sequence[StoredMessage]) -> list[PortalRead]:
        if not (ids := unread(messages)):
            return []
        now = self._deps.pool.now()
        return [PortalRead(org_id=thread.org_id, conversation_id=thread.conversation_id, message_ids=ids, at=now)]

    def _ended(self, browser: Browser, text: str = "") -> Response:
        page = GonePage(browser.site.garage, text=text)
        return page_response(self._deps.html, browser.request, page, HTTPStatus.UNAUTHORIZED)


class _Streamed(StreamingResponse):
    """Says what the stream says, and closes it also where the browser left before the first word."""

    def __init__(self, streams: Streams, stream: Stream) -> None:
        super().__init__(streams.events(stream), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._close = partial(streams.close, stream)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._close()


def _bytes(request: Request) -> int:
    """The length of the body as it is announced. One that is not may be any."""
    announced = request.headers.get("content-length", "")
    return int(announced) if announced.isdecimal() else LARGEST_BYTES


def _uuid(text: str | None) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None
