"""``/`` and ``/inbox``: the list of conversations, the one that is open, and the parts of both for scripts.

Rule 1: a page and its parts are written by the same templates from the same read model.
Rule 2: to open a conversation is to read it. Scripts tell what is read after that.
"""

from dataclasses import dataclass, replace
from datetime import tzinfo
from http import HTTPStatus
from typing import Any, get_args
from uuid import UUID

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from libs.common.events.outbound import Channel
from libs.common.pages.entries import N_
from libs.common.pages.languages import Language, zone_of
from services.inbox.clocks import Clock
from services.inbox.composer_views import Composer
from services.inbox.conversations import Conversation, Wanted
from services.inbox.deps import Deps
from services.inbox.pages.composition import composer_of, helps_of
from services.inbox.pages.frame import framed
from services.inbox.present import row_of, talk_of, thread_of
from services.inbox.problems import Problem, not_found
from services.inbox.shell import VIEWS
from services.inbox.views import Filter, Held, Listing, Talk, Thread
from services.inbox.visits import Visit, language_of, signed_in

_MESSAGES = 50
_REFUSED = {
    HTTPStatus.FORBIDDEN: N_("Your role may not search for numbers."),
    HTTPStatus.UNPROCESSABLE_ENTITY: N_("A search has 2 to 100 characters. Where too much is found, add a word."),
    HTTPStatus.TOO_MANY_REQUESTS: N_("The search before is still running. Search again in a moment."),
}


def routes(deps: Deps) -> list[BaseRoute]:
    """The routes of this module."""
    return [
        Route("/", _home),
        Route("/inbox", signed_in(deps, _list_page)),
        Route("/inbox/list", signed_in(deps, _list_part)),
        Route("/inbox/{conversation_id:uuid}", signed_in(deps, _talk_page)),
        Route("/inbox/{conversation_id:uuid}/news", signed_in(deps, _news_part)),
        Route("/inbox/{conversation_id:uuid}/messages/{message_id:uuid}", signed_in(deps, _message_part)),
        Route("/inbox/{conversation_id:uuid}/panel", signed_in(deps, _panel_part)),
        Route("/inbox/{conversation_id:uuid}/read", signed_in(deps, _read), methods=["POST"]),
    ]


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a page is asked for."""

    filter: Filter
    cursor: str | None

    @classmethod
    def of(cls, request: Request) -> "_Asked":
        given = request.query_params
        if request.method == "POST":  # of a form of the page: its browser says beside which list
            given = QueryParams(request.headers.get("referer", "").partition("?")[2])
        view, channel = given.get("view"), given.get("channel")
        return cls(
            Filter(
                view=view if view in VIEWS else "all",  # type: ignore[arg-type]
                channel=channel if channel in get_args(Channel) else None,
                number=given.get("number") or None,
                q=given.get("q", "").strip(),
            ),
            given.get("cursor"),
        )

    @property
    def wanted(self) -> Wanted:
        shown = self.filter
        return Wanted(shown.view, shown.channel, shown.number, shown.q or None, cursor=self.cursor)  # type: ignore[arg-type]


async def _home(_request: Request) -> Response:
    return RedirectResponse("/inbox", HTTPStatus.SEE_OTHER)


async def _list_page(visit: Visit) -> Response:
    return await inbox_page(visit, None)


async def _talk_page(visit: Visit) -> Response:
    conversation_id: UUID = visit.request.path_params["conversation_id"]
    found = await visit.deps.conversations.one(visit.person, conversation_id)
    if found.conversation_id != conversation_id:  # merged into this one
        query = f"?{visit.request.url.query}" if visit.request.url.query else ""
        return RedirectResponse(f"/inbox/{found.conversation_id}{query}", HTTPStatus.SEE_OTHER)
    return await inbox_page(visit, found)


async def inbox_page(
    visit: Visit,
    conversation: Conversation | None,
    *,
    composer: Composer | None = None,
    status: int = HTTPStatus.OK,
) -> Response:
    """The page. ``composer``: that of the conversation, where a form has filled it in."""
    deps, person, language = visit.deps, visit.person, language_of(visit.request)
    last = await deps.live.mark(person.org_id)
    talk = None
    values: dict[str, Any] = {"panel": None}
    number = conversation.number.display_number if conversation and conversation.number else None
    if conversation is not None:
        talk = await _talk(visit, conversation, language)
        if talk.thread.reached is not None and conversation.unread and not _is_prefetch(visit.request):
            await deps.conversations.mark_read(person, conversation.conversation_id)
    asked = _Asked.of(visit.request)
    listing = await _listing(visit, asked, language)
    clock = Clock(deps.pool.now(), zone_of(number or next(iter(listing.numbers.values()), None)), language)
    if conversation is not None and talk is not None:
        composer = composer or await composer_of(visit, conversation)
        talk = replace(talk, may_send=composer.offer.mode != "read")
        if (hold := composer.situation.hold) is not None and talk.thread.reached is not None:
            held = Held(hold.since, hold.by, hold.until)
            talk = replace(talk, thread=replace(talk.thread, hold=held))
        values = {
            "composer": composer,
            "panel": await deps.customers.panel(person, conversation.conversation_id, language),
            "helps": await helps_of(visit, conversation, talk.thread.messages, composer),
        }
    return await framed(
        visit,
        "inbox.html",
        "inbox",
        view=asked.filter.view,
        status=status,
        listing=listing,
        talk=talk,
        current=talk.conversation_id if talk else None,
        clock=clock,
        rule=deps.rule,
        last=last,
        **values,
    )


def address_of(visit: Visit, conversation_id: UUID, sent: UUID | None = None) -> str:
    """The page of the conversation, beside the list that the page of this request has or comes from.

    ``sent``: a message that was just taken, and may not stand in the thread yet.
    """
    more = {} if sent is None else {"sent": str(sent)}
    return _Asked.of(visit.request).filter.address(f"/inbox/{conversation_id}", **more)


def _is_on_its_way(request: Request, thread: Thread) -> bool:
    """Whether the message that the page comes from is taken, and the router has not recorded it yet."""
    sent = request.query_params.get("sent")
    return sent is not None and thread.later is None and sent not in [str(one.message_id) for one in thread.messages]


def clock_of(visit: Visit, conversation: Conversation) -> Clock:
    """The clock of a part of the page of this conversation."""
    return Clock(visit.deps.pool.now(), _zone(conversation), language_of(visit.request))


async def _talk(visit: Visit, conversation: Conversation, language: Language) -> Talk:
    before = visit.request.query_params.get("before")
    page = await visit.deps.messages.page(
        visit.person, conversation.conversation_id, language, limit=_MESSAGES, cursor=before
    )
    shown, path = _Asked.of(visit.request).filter, f"/inbox/{conversation.conversation_id}"
    thread = thread_of(
        conversation,
        page.items,
        visit.deps.rule,
        _zone(conversation),
        earlier=shown.address(path, before=page.next) if page.next else None,
        later=shown.address(path) if before else None,
        reached=None if before else visit.deps.pool.now(),
    )
    talk = talk_of(conversation, thread)
    return replace(talk, is_on_its_way=_is_on_its_way(visit.request, thread))


async def _listing(visit: Visit, asked: _Asked, language: Language) -> Listing:
    conversations, person = visit.deps.conversations, visit.person
    numbers = {one.phone_number_id: one.display_number or one.phone_number_id
               for one in await conversations.numbers(person)}  # fmt: skip
    listing = Listing(asked.filter, (), numbers, is_first=asked.cursor is None)
    try:
        page = await conversations.page(person, asked.wanted)
    except Problem as problem:
        if asked.filter.q and problem.status in _REFUSED:
            return replace(listing, refused=language.words.gettext(_REFUSED[problem.status]))
        if asked.cursor is None:
            raise
        return await _listing(visit, replace(asked, cursor=None), language)  # a cursor of another list
    rows = [row_of(one, visit.deps.rule, language) for one in page.items]
    return replace(listing, rows=rows, next=page.next)


async def _list_part(visit: Visit) -> Response:
    asked, language = _Asked.of(visit.request), language_of(visit.request)
    listing = await _listing(visit, asked, language)
    clock = Clock(visit.deps.pool.now(), zone_of(next(iter(listing.numbers.values()), None)), language)
    return visit.page(
        "list_part.html",
        listing=listing,
        current=visit.request.query_params.get("current"),
        clock=clock,
        view=asked.filter.view,
        counts=await visit.deps.conversations.counts(visit.person),
    )


async def _news_part(visit: Visit) -> Response:
    """What is newer than the message ``after``, and those on which a reaction is newer. 205: load the page again."""
    raw = visit.request.query_params.get("after", "")
    after = int(raw) if raw.isdecimal() and len(raw) < 19 else 0  # noqa: PLR2004 (a bigint)
    conversation = await visit.deps.conversations.one(visit.person, visit.request.path_params["conversation_id"])
    language, now = language_of(visit.request), visit.deps.pool.now()
    page = await visit.deps.messages.page(visit.person, conversation.conversation_id, language, limit=_MESSAGES)
    if page.next and page.items and page.items[-1].sequence > after:
        return Response(status_code=HTTPStatus.RESET_CONTENT)
    thread = thread_of(conversation, page.items, visit.deps.rule, _zone(conversation), reached=now)
    if thread.is_erased:  # who asks has a page of before: of what was erased none follows the news
        return Response(status_code=HTTPStatus.RESET_CONTENT)
    fresh = [one.message_id for one in thread.messages if one.sequence > after]
    helps = await helps_of(visit, conversation, [one for one in thread.messages if one.message_id in fresh])
    return visit.page("thread.html", items=thread.news(fresh), clock=clock_of(visit, conversation), helps=helps)


async def _message_part(visit: Visit) -> Response:
    """One message as the thread has it."""
    conversation = await visit.deps.conversations.one(visit.person, visit.request.path_params["conversation_id"])
    wanted = str(visit.request.path_params["message_id"])
    language, now = language_of(visit.request), visit.deps.pool.now()
    page = await visit.deps.messages.page(visit.person, conversation.conversation_id, language, limit=_MESSAGES)
    messages = page.items
    if wanted not in {str(one.message_id) for one in messages}:
        messages = await visit.deps.messages.these(visit.person, conversation.conversation_id, [UUID(wanted)], language)
    thread = thread_of(conversation, messages, visit.deps.rule, _zone(conversation), reached=now)
    items = thread.news([wanted])
    if not items:
        raise not_found()
    helps = await helps_of(visit, conversation, [one for one in thread.messages if one.message_id == wanted])
    return visit.page("thread.html", items=items, clock=clock_of(visit, conversation), helps=helps)


async def _panel_part(visit: Visit) -> Response:
    """The customer beside the thread."""
    conversation = await visit.deps.conversations.one(visit.person, visit.request.path_params["conversation_id"])
    panel = await visit.deps.customers.panel(visit.person, conversation.conversation_id, language_of(visit.request))
    return visit.page("customer.html", panel=panel, clock=clock_of(visit, conversation))


async def _read(visit: Visit) -> Response:
    await visit.deps.conversations.mark_read(visit.person, visit.request.path_params["conversation_id"])
    return Response(status_code=HTTPStatus.NO_CONTENT)


def _zone(conversation: Conversation) -> tzinfo:
    return zone_of(conversation.number.display_number if conversation.number else None)


def _is_prefetch(request: Request) -> bool:
    return "sec-purpose" in request.headers or request.headers.get("purpose") == "prefetch"
