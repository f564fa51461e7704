"""``/inbox/{id}/…``: what the composer's form does.

Rule 1: every answer has the form again, with what the person typed and did not send. Scripts get the form alone; a
        browser without scripts gets the page, or is led back to it (303) where nothing is left to keep.
Rule 2: what is sent goes by ``Sending`` and ``ParkedTexts``, as for the API. This module decides nothing about routes.
Rule 3: a form that is posted twice sends once: its id and what it sends are the idempotency key.
Rule 4: a stored text comes into a field for who may see all of it. Masked it would be sent so.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid4

from pydantic import TypeAdapter, ValidationError
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from libs.common.events.content import IntentContent, OutBridge
from libs.common.events.outbound import Channel
from libs.common.ids import keyed_intent_id
from libs.common.pages.forms import MOST_BYTES
from libs.common.pages.writing import fault_of
from libs.common.sms_reach import too_long
from services.inbox import composer_queries as queries
from services.inbox.composer_views import Composer, Refusal
from services.inbox.conversations import Conversation
from services.inbox.deps import Deps
from services.inbox.drafts import Draft, draft_of, key_of, uuid_of
from services.inbox.pages.composition import composer_of
from services.inbox.pages.inbox import address_of, clock_of, inbox_page
from services.inbox.parked import NotPublished
from services.inbox.parked import Refusal as ParkedRefusal
from services.inbox.parking import ParkedText
from services.inbox.picker import content_of
from services.inbox.problems import Problem, not_found
from services.inbox.sending import Wish
from services.inbox.visits import Visit, language_of, signed_in

MOST_FIELDS = 256
"""Of the form: a template has up to 200 values."""
_CONTENT: TypeAdapter[IntentContent] = TypeAdapter(IntentContent)
_STATUS: Mapping[Refusal, HTTPStatus] = {
    "away": HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many": HTTPStatus.TOO_MANY_REQUESTS,
    "gone": HTTPStatus.CONFLICT,
    "hidden": HTTPStatus.FORBIDDEN,
}
_OF_PROBLEM: Mapping[int, Refusal] = {
    HTTPStatus.SERVICE_UNAVAILABLE: "away",
    HTTPStatus.TOO_MANY_REQUESTS: "too_many",
    HTTPStatus.UNPROCESSABLE_ENTITY: "invalid",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What an action leaves: the draft that stays, why nothing was sent, and the message that was."""

    draft: Draft
    refusal: Refusal | None = None
    message_id: UUID | None = None


Action = Callable[[Visit, Conversation, Draft], Awaitable[Result]]


def routes(deps: Deps) -> list[BaseRoute]:
    """The routes of this module."""

    def route(path: str, action: Action) -> Route:
        async def answer(visit: Visit) -> Response:
            return await _answer(visit, action)

        return Route(
            f"/inbox/{{conversation_id:uuid}}/{path}",
            signed_in(deps, answer, needs="messages.send", most_bytes=MOST_BYTES, most_fields=MOST_FIELDS),
            methods=["POST"],
        )

    forms = [
        route("compose", _compose),
        route("messages", _send_text),
        route("template", _send_template),
        route("bridge", _ask_by_sms),
        route("hold", _hold),
        route("release", _release),
        route("parked", _park),
        route("parked/{message_id}", _parked),
        route("again/{message_id:uuid}", _again),
    ]
    return [*forms, *(Route(one.path, signed_in(deps, _to_the_thread)) for one in forms)]


async def _to_the_thread(visit: Visit) -> Response:
    """Where a form was answered somebody comes back by the address: without scripts it stands above the page."""
    conversation = await visit.deps.conversations.one(visit.person, visit.request.path_params["conversation_id"])
    return RedirectResponse(address_of(visit, conversation.conversation_id), HTTPStatus.SEE_OTHER)


async def _answer(visit: Visit, action: Action) -> Response:
    conversation = await visit.deps.conversations.one(visit.person, visit.request.path_params["conversation_id"])
    draft = draft_of(visit.form)
    try:
        result = await action(visit, conversation, draft)
    except Problem as problem:
        if (refusal := _OF_PROBLEM.get(problem.status)) is None:
            raise
        result = Result(draft, refusal)
    except NotPublished:
        result = Result(draft, "away")
    is_part = visit.request.headers.get("x-part") == "composer"
    if not is_part and result.refusal is None and result.draft == Draft(seen=result.draft.seen):
        sent = None if action in _WITHOUT_BUBBLE else result.message_id
        return RedirectResponse(address_of(visit, conversation.conversation_id, sent), HTTPStatus.SEE_OTHER)
    if action is not _compose:
        conversation = await visit.deps.conversations.one(visit.person, conversation.conversation_id)
    composer = await composer_of(visit, conversation, result.draft, refusal=result.refusal)
    if result.refusal is None and result.message_id is not None:
        composer = replace(composer, form_id=uuid4().hex)
    status = HTTPStatus.OK if result.refusal is None else _STATUS.get(result.refusal, HTTPStatus.UNPROCESSABLE_ENTITY)
    answer = await _shown(visit, conversation, composer, status, is_part=is_part)
    if result.message_id is not None:
        answer.headers["X-Message"] = str(result.message_id)
    return answer


async def _shown(
    visit: Visit, conversation: Conversation, composer: Composer, status: HTTPStatus, *, is_part: bool
) -> Response:
    if is_part:
        clock = clock_of(visit, conversation)
        return visit.page("composing.html", status, composer=composer, clock=clock)
    return await inbox_page(visit, conversation, composer=composer, status=status)


async def _compose(_visit: Visit, _conversation: Conversation, draft: Draft) -> Result:
    """Nothing but the form, as it is filled in."""
    return Result(draft)


async def _send_text(visit: Visit, conversation: Conversation, draft: Draft) -> Result:
    """The text, by the chosen channel."""
    fault: Refusal | None = fault_of(draft.text)
    if fault is None and draft.via == "sms" and too_long(draft.text):
        fault = "too_long"
    if fault is not None:
        return Result(draft, fault)
    content = {"kind": "text", "text": draft.text}
    if draft.edits is not None:
        return await _release_parked(visit, conversation, draft, [draft.edits], content)
    message_id = await _send(visit, conversation, content, draft.via, reply_to=draft.reply_to)
    return Result(Draft(), message_id=message_id)


async def _send_template(visit: Visit, conversation: Conversation, draft: Draft) -> Result:
    """The chosen template with its values. The text stays."""
    choice = replace(draft.choice, is_submitted=True)
    draft = replace(draft, choice=choice)
    picker = (await composer_of(visit, conversation, replace(draft, is_picking=True))).picker
    if picker.chosen is None or picker.chosen_why_not is not None:
        return Result(draft, "unsendable")
    if not picker.is_complete:
        return Result(draft, "faults")
    message_id = await _send(visit, conversation, content_of(picker.chosen, picker.fields), None)
    return Result(Draft(text=draft.text, reply_to=draft.reply_to, edits=draft.edits), message_id=message_id)


async def _ask_by_sms(visit: Visit, conversation: Conversation, draft: Draft) -> Result:
    """A bridge SMS. The router holds it against every gate."""
    wish = Wish(content=OutBridge(), conversation_id=conversation.conversation_id)
    sent = await visit.deps.sending.send(visit.person, wish, key_of(visit.form, {"kind": "bridge"}, "sms"))
    return Result(draft, message_id=sent.intent_id)


async def _hold(visit: Visit, conversation: Conversation, draft: Draft) -> Result:
    await visit.deps.sending.hold(visit.person, conversation.conversation_id)
    return Result(draft)


async def _release(visit: Visit, conversation: Conversation, draft: Draft) -> Result:
    await visit.deps.sending.release(visit.person, conversation.conversation_id)
    return Result(draft)


async def _park(visit: Visit, conversation: Conversation, draft: Draft) -> Result:
    """Keep the text until the customer writes. Nothing is attempted now."""
    if (fault := fault_of(draft.text)) is not None:
        return Result(draft, fault)
    person, content = visit.person, {"kind": "text", "text": draft.text}
    key = key_of(visit.form, content, "parked")
    message_id = uuid4() if key is None else keyed_intent_id(person.org_id, person.user_id, key)
    parked = visit.deps.parked
    refusal = await parked.keep(person.org_id, person.user_id, conversation.conversation_id, message_id, content)
    if refusal is not None:
        return Result(draft, _said(refusal))
    if draft.edits is not None:
        await parked.drop(person.org_id, conversation.conversation_id, [draft.edits])
    return Result(replace(draft, text="", edits=None, seen=None), message_id=message_id)


async def _parked(visit: Visit, conversation: Conversation, draft: Draft) -> Result:
    """Send, edit or drop a parked text, or send all of them as one message."""
    named = visit.request.path_params["message_id"]
    org_id, place = visit.person.org_id, conversation.conversation_id
    waiting = await _waiting(visit, conversation)
    if named == "all":
        return await _release_parked(visit, conversation, draft, [one.message_id for one in waiting])
    if (message_id := uuid_of(named)) is None:
        raise not_found()
    match visit.form.get("do"):
        case "send":
            return await _release_parked(visit, conversation, draft, [message_id])
        case "edit":
            text = next((one.content.get("text") for one in waiting if one.message_id == message_id), None)
            if not isinstance(text, str):
                return Result(draft, "gone")
            shown = await visit.deps.parked.shown_to(visit.person, place)
            if text not in [one.content.get("text") for one in shown if one.message_id == message_id]:
                return Result(draft, "hidden")
            return Result(replace(draft, text=_joined(draft.text, text), edits=message_id))
        case _:
            refusal = await visit.deps.parked.drop(org_id, place, [message_id])
            return Result(draft, None if refusal is None else "gone")


async def _waiting(visit: Visit, conversation: Conversation) -> Sequence[ParkedText]:
    key = (visit.person.org_id, conversation.conversation_id)
    return (await visit.deps.parked.waiting([key])).get(key, [])


async def _release_parked(
    visit: Visit,
    conversation: Conversation,
    draft: Draft,
    message_ids: list[UUID],
    content: Mapping[str, Any] | None = None,
) -> Result:
    sent = await visit.deps.parked.send(visit.person, conversation.conversation_id, message_ids, content)
    if isinstance(sent, str):
        return Result(draft, _said(sent))
    kept = Draft() if content is not None else draft
    return Result(kept, message_id=sent[0] if sent else None)


async def _again(visit: Visit, conversation: Conversation, draft: Draft) -> Result:  # noqa: PLR0911 -- one per button
    """A failed message once more, as a new one: its content, by SMS, as a text to edit, or its template to fill in."""
    message_id: UUID = visit.request.path_params["message_id"]
    async with visit.deps.reads.of(visit.person.org_id) as db:
        failed = await queries.failed(db, visit.person.org_id, conversation.conversation_id, message_id)
    if failed is None:
        raise not_found()
    text = failed.content.get("text")
    waiting = any(one.message_id == message_id for one in await _waiting(visit, conversation))
    if await _is_hidden(visit, conversation, message_id, failed.content):
        return Result(draft, "hidden")
    match visit.form.get("with"):
        case "text" if isinstance(text, str):
            edits = message_id if waiting else draft.edits
            return Result(replace(draft, text=_joined(draft.text, text), edits=edits))
        case "fields" if failed.content.get("kind") == "template":
            return Result(_refilled(draft, failed.content))
        case "sms" if isinstance(text, str):
            if too_long(text):
                return Result(replace(draft, text=_joined(draft.text, text), via="sms"), "too_long")
            sent = await _send(visit, conversation, failed.content, "sms")
            if waiting:  # it is offered no more
                await visit.deps.parked.drop(visit.person.org_id, conversation.conversation_id, [message_id])
            return Result(draft, message_id=sent)
        case _ if failed.reason == "unknown_outcome" and visit.form.get("sure") != "1":
            return Result(replace(draft, twice=message_id))
        case _ if (
            waiting or failed.parked == "sent"
        ):  # the release makes the new message, so that nothing offers the text once more
            return await _release_parked(visit, conversation, draft, [message_id])
        case _:
            return Result(draft, message_id=await _send(visit, conversation, failed.content, None))


async def _is_hidden(visit: Visit, conversation: Conversation, message_id: UUID, content: Mapping[str, Any]) -> bool:
    """Whether this button would put something into a field that the person may not see."""
    match visit.form.get("with"), content:
        case ("text", {"text": _}):
            name = "text"
        case ("sms", {"text": str(text)}) if too_long(text):
            name = "text"
        case ("fields", {"parameters": _}):
            name = "parameters"
        case _:
            return False
    shown = await visit.deps.messages.these(
        visit.person, conversation.conversation_id, [message_id], language_of(visit.request)
    )
    return all(one.content.get(name) != content[name] for one in shown)


async def _send(
    visit: Visit,
    conversation: Conversation,
    content: Mapping[str, Any],
    via: Channel | None,
    *,
    reply_to: UUID | None = None,
) -> UUID:
    """Raises Problem: see ``Sending.send``."""
    try:
        wanted = _CONTENT.validate_python(content)
    except ValidationError:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY) from None
    wish = Wish(content=wanted, conversation_id=conversation.conversation_id, channel=via or "auto", reply_to=reply_to)
    sent = await visit.deps.sending.send(
        visit.person, wish, key_of(visit.form, {**content, "reply_to": reply_to}, via or "auto")
    )
    return sent.intent_id


def _refilled(draft: Draft, content: Mapping[str, Any]) -> Draft:
    """The template of a failed message, chosen with the values that it had."""
    given = content.get("parameters")
    pairs = given.items() if isinstance(given, Mapping) else enumerate(given or (), 1)
    choice = replace(
        draft.choice,
        template=f"{content.get('language')}/{content.get('name')}",
        language=str(content.get("language") or ""),
        values={f"parameters.{name}": str(value) for name, value in pairs},
        is_submitted=True,
    )
    return replace(draft, choice=choice, is_picking=True)


def _joined(written: str, text: str) -> str:
    """Nothing that is in the field is lost."""
    return f"{text}\n{written}" if written and written != text else text


def _said(refusal: ParkedRefusal) -> Refusal:
    match refusal:
        case "too_many":
            return "too_many_kept"
        case "unknown" | "dropped" | "expired" | "arrived" | "differs" | "erased":
            return "gone"


_WITHOUT_BUBBLE = _ask_by_sms, _park
"""What these leave is in no thread under its own id."""
