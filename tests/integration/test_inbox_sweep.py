"""Every operation of the API, as its document lists them, for three roles of one garage against the ids of another.

A new operation is swept by being in the document. A path parameter or an id in a body that no garage here has an id for
fails ``test_every_id_of_the_document_is_known_here``: add it to ``_a_garage``.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
from starlette.routing import Route

from libs.common.pages.static_files import StaticFiles
from services.inbox.api.app import document
from services.inbox.api.document import CAPABILITY
from services.inbox.app import _pages
from services.inbox.deps import Deps
from services.inbox.html import STATIC
from services.inbox.people import EVERYTHING
from tests.support import world
from tests.support.form_browser import token_of
from tests.support.inbox import ROLES, RunningInbox
from tests.support.inbox_thread import InboxThread, a_thread, publishing

Ids = dict[str, str]
_OTHERS = {"name": "Zebedee", "text": "a-canary-of-the-other-garage", "phone": "+447700900777"}
_PARKED = """
insert into parked_messages (org_id, message_id, conversation_id, kind, actor, user_id, content, written_at, parked_at,
    expires_at)
values ($1, $2, $3, 'kept', 'staff', 'olga', '{"kind": "text", "text": "Later."}', now(), now(), now() + interval '1 d')
"""


@dataclass(frozen=True)
class Operation:
    """One of the document."""

    method: str
    path: str
    said: Mapping[str, Any]

    @property
    def in_path(self) -> list[str]:
        return [one["name"] for one in self.said.get("parameters", []) if one["in"] == "path"]

    @property
    def in_query(self) -> list[str]:
        return [one["name"] for one in self.said.get("parameters", []) if one["in"] == "query"]

    @property
    def streams(self) -> bool:
        return any("text/event-stream" in one.get("content", {}) for one in self.said["responses"].values())

    @property
    def media_types(self) -> list[str]:
        return list(self.said["responses"]["200"]["content"])

    def bodies(self) -> list[Any]:
        """The examples of the body; None where it has none."""
        if "requestBody" not in self.said:
            return [None]
        content = self.said["requestBody"]["content"]["application/json"]
        examples = [one["value"] for one in content.get("examples", {}).values()]
        for schema in (content["schema"], *content["schema"].get("anyOf", [])):
            named = schema.get("$ref", "").rpartition("/")[2]
            examples += document()["components"]["schemas"].get(named, {}).get("examples", [])
        return examples

    def may(self, role: str) -> bool:
        return bool({self.said[CAPABILITY], EVERYTHING} & set(ROLES[role]))


OPERATIONS = [
    Operation(method, path, said) for path, methods in document()["paths"].items() for method, said in methods.items()
]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")


@dataclass
class Garage:
    """An organisation with something of everything, and the ids of it by the names that the API gives them."""

    inbox: RunningInbox
    org_id: str
    ids: Ids
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict)

    def asks(self, role: str) -> httpx.AsyncClient:
        if role not in self.clients:
            self.clients[role] = self.inbox.api(self.org_id, ROLES[role], user_id=role)
        return self.clients[role]


async def _a_garage(inbox: RunningInbox, thread: InboxThread, words: Mapping[str, str]) -> Garage:
    inbound = await thread.customer_writes(words["text"])
    await thread.is_answered(words["text"], status="failed", reason="provider_refused")
    parked = uuid4()
    await thread.run(_PARKED, thread.org_id, parked, thread.conversation_id)
    async with inbox.pool.acquire() as db:
        waba = await db.fetchval("select waba_id from whatsapp_numbers where org_id = $1", thread.org_id)
        await world.a_template(db, thread.org_id, waba, body=words["text"])
        template = await db.fetchval("select template_id from templates where org_id = $1", thread.org_id)
    ids = {
        "conversation_id": thread.conversation_id,
        "customer_id": thread.customer_id,
        "message_id": parked,
        "reply_to": inbound,
        "template_id": template,
        "phone_number_id": thread.number,
        "number": thread.number,
        "waba_id": waba,
    }
    return Garage(inbox, thread.org_id, {name: str(value) for name, value in ids.items()})


@pytest_asyncio.fixture(scope="module")
async def garages(inbox: RunningInbox) -> AsyncIterator[tuple[Garage, Garage]]:
    async with publishing(inbox) as producer:
        ours, of_others = [await inbox.an_org(waba=str(uuid4().int)[:15]) for _ in range(2)]
        mine = await a_thread(inbox, producer, ours)
        theirs = await a_thread(inbox, producer, of_others, name=_OTHERS["name"], phone=_OTHERS["phone"])
        one = await _a_garage(inbox, mine, {"text": "ours"})
        other = await _a_garage(inbox, theirs, _OTHERS)
        async with asyncio.timeout(30):
            for garage in (one, other):
                while not (await garage.asks("owner").get("/v1/conversations")).json()["items"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        yield one, other


def _unknown(ids: Ids) -> Ids:
    return {name: str(uuid4()) if "-" in value else "109999999999999" for name, value in ids.items()}


def _with_ids(body: Any, ids: Ids) -> Any:
    """The body with these ids in the place of those of the example."""
    match body:
        case dict():
            return {
                name: ids[name] if name in ids and isinstance(value, str) else _with_ids(value, ids)
                for name, value in body.items()
            }
        case list():
            return [_with_ids(one, ids) for one in body]
    return body


async def _ask(
    client: httpx.AsyncClient, operation: Operation, ids: Ids, body: Any = None, **more: Any
) -> tuple[int, str]:
    """Status and body of the answer; of a stream that goes on only the status."""
    path = operation.path.format_map(ids)
    headers = {"x-request": "sweep"} | more.pop("headers", {})
    async with client.stream(
        operation.method.upper(), path, json=_with_ids(body, ids) if body is not None else None, headers=headers, **more
    ) as answer:
        if answer.status_code == 200 and operation.streams:
            return answer.status_code, ""
        return answer.status_code, (await answer.aread()).decode()


def test_every_id_of_the_document_is_known_here() -> None:
    known = {"conversation_id", "customer_id", "message_id", "template_id"}
    assert {name for operation in OPERATIONS for name in operation.in_path} <= known
    for operation in OPERATIONS:
        for body in operation.bodies():
            assert set(_ids_in(body)) <= known | {"reply_to", "phone_number_id", "waba_id"}, operation.path


def _ids_in(body: Any) -> Iterator[str]:
    match body:
        case dict():
            for name, value in body.items():
                if isinstance(value, str) and (name.endswith("_id") or name == "reply_to") and name != "media_id":
                    yield name
                yield from _ids_in(value)
        case list():
            for one in body:
                yield from _ids_in(one)


@each_operation
@pytest.mark.parametrize("role", ROLES)
async def test_what_another_garage_has_is_answered_as_what_nobody_has(
    garages: tuple[Garage, Garage], operation: Operation, role: str
) -> None:
    mine, theirs = garages
    unknown, client = _unknown(mine.ids), mine.asks(role)
    for body in operation.bodies():
        whose = product((mine.ids, theirs.ids, unknown), repeat=len(operation.in_path))
        refused = set()
        for first, *others in whose if operation.in_path else ():
            chosen = dict(zip(operation.in_path, (first, *others), strict=True))
            if all(ids is mine.ids for ids in chosen.values()):
                continue
            ids = mine.ids | {name: ids[name] for name, ids in chosen.items()}
            refused.add(await _ask(client, operation, ids, body))
        if operation.in_path:
            [(status, _)] = refused
            assert status == (404 if operation.may(role) else 403)
        if body is None:
            continue
        in_body = [
            await _ask(client, operation, mine.ids | _only(ids, operation), body) for ids in (theirs.ids, unknown)
        ]
        assert in_body[0][0] == in_body[1][0]
        assert all(canary not in text for _, text in in_body for canary in _OTHERS.values())


def _only(ids: Ids, operation: Operation) -> Ids:
    """These ids, but for those of the path: they are the garage's own."""
    return {name: value for name, value in ids.items() if name not in operation.in_path}


@each_operation
@pytest.mark.parametrize("role", ROLES)
async def test_a_role_may_do_what_its_capabilities_say(
    garages: tuple[Garage, Garage], operation: Operation, role: str
) -> None:
    mine, _ = garages
    for body in operation.bodies():
        status, text = await _ask(mine.asks(role), operation, mine.ids, body)
        if operation.may(role):
            assert status < 500 or status == 502  # nobody is Meta here
            assert status not in (401, 403, 404)
        else:
            assert status == 403
            assert operation.said[CAPABILITY] in text


@each_operation
async def test_without_a_good_token_every_operation_says_401_and_the_same(
    garages: tuple[Garage, Garage], operation: Operation
) -> None:
    mine, theirs = garages
    client = mine.inbox.client(authorization="Bearer no.good.token")
    [body, *_] = operation.bodies()
    [(status, _)] = {await _ask(client, operation, ids, body) for ids in (mine.ids, theirs.ids, _unknown(mine.ids))}
    assert status == 401


@pytest.mark.parametrize("operation", [one for one in OPERATIONS if "cursor" in one.in_query], ids=lambda one: one.path)
async def test_a_cursor_of_another_garage_is_no_cursor(garages: tuple[Garage, Garage], operation: Operation) -> None:
    mine, theirs = garages
    path = operation.path.format_map(theirs.ids)
    cursor = (await theirs.asks("owner").get(path, params={"limit": 1})).json()["next"] or "1"
    answers = {
        await _ask(mine.asks("owner"), operation, mine.ids, params={"cursor": one}) for one in (cursor, "no-cursor")
    }
    assert all(not any(canary in text for canary in _OTHERS.values()) for _, text in answers)
    if "{" in operation.path or "conversations" in operation.path:
        assert {status for status, _ in answers} == {422}


async def test_an_etag_of_another_garage_says_nothing(garages: tuple[Garage, Garage]) -> None:
    mine, theirs = garages
    path = f"/v1/conversations/{theirs.ids['conversation_id']}"
    etag = (await theirs.asks("owner").get(path)).headers["etag"]
    asked = await mine.asks("owner").get(path, headers={"if-none-match": etag})
    unknown = await mine.asks("owner").get(f"/v1/conversations/{uuid4()}", headers={"if-none-match": etag})
    assert asked.status_code == unknown.status_code == 404
    assert asked.content == unknown.content


@pytest.mark.parametrize("role", ROLES)
async def test_lists_searches_and_tables_hold_nothing_of_another_garage(
    garages: tuple[Garage, Garage], role: str
) -> None:
    mine, theirs = garages
    queries: list[dict[str, str]] = [
        {},
        {"number": theirs.ids["number"]},
        {"q": _OTHERS["name"]},
        {"waba_id": theirs.ids["waba_id"]},
    ]
    for operation in OPERATIONS:
        if operation.method != "get" or operation.in_path or operation.streams:
            continue
        for query, accept in product(queries, operation.media_types):
            answer = await mine.asks(role).get(operation.path, params=query, headers={"accept": accept})
            found = [one for one in (*_OTHERS.values(), *theirs.ids.values()) if one in answer.text]
            assert not found, (operation.path, query)


PAGES = [
    (method, re.sub(r":\w+}", "}", route.path))
    for route in _pages(cast("Deps", SimpleNamespace(access=SimpleNamespace(provider=None))), StaticFiles(STATIC))
    if isinstance(route, Route) and "_id" in route.path
    for method in sorted((route.methods or set()) - {"HEAD"})
]
_FIELDS = {"text": "Hello", "action": "send", "form": str(uuid4()), "submit": "yes", "category": "UTILITY"}


def test_every_id_of_a_page_is_known_here() -> None:
    assert {name for _, path in PAGES for name in re.findall(r"{(\w+)}", path)} <= {
        "conversation_id",
        "message_id",
        "template_id",
    }


@pytest.mark.parametrize("role", ROLES)
async def test_a_page_of_another_garage_is_a_page_that_never_was(garages: tuple[Garage, Garage], role: str) -> None:
    mine, theirs = garages
    unknown, staff = _unknown(mine.ids), await mine.inbox.staff(mine.org_id, ROLES[role], user_id=role)
    token = token_of(await staff.get("/inbox"))
    for method, path in PAGES:
        last = re.findall(r"{(\w+)}", path)[-1]
        for ids, never in (
            (theirs.ids, unknown),
            (mine.ids | {last: theirs.ids[last]}, mine.ids | {last: unknown[last]}),
        ):
            answers = set()
            for one in (ids, never):
                address = path.format_map(one)
                if method == "GET":
                    answer = await staff.get(address)
                else:
                    answer = await staff.post(address, _FIELDS | {"token": token})
                assert not [canary for canary in _OTHERS.values() if canary in answer.text]
                # the garage's own page around a refusal has times and fresh ids
                shown = "" if answer.status_code == 409 else answer.text.replace(one[last], "an id")
                answers.add((answer.status_code, shown, answer.headers.get("location")))
            assert len(answers) == 1, (method, path, [status for status, *_ in answers])
            [(status, _, location)] = answers
            # whatever became of a message, the address of its form leads to the garage's own thread
            of_form = method == "GET" and ("POST", path) in PAGES and last == "message_id"
            if of_form and ids["conversation_id"] == mine.ids["conversation_id"]:
                assert (status, location) == (303, f"/inbox/{mine.ids['conversation_id']}"), (method, path)
            else:
                assert status in (403, 404, 409), (method, path)
