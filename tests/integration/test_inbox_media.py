"""Files of customers' messages through the inbox: from Meta alone, as downloads alone, for who may see them."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import unquote
from uuid import uuid4

import httpx
import pytest
import pytest_asyncio
import uvicorn
from aiokafka.admin import AIOKafkaAdminClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from deploy.local.servers.ports import LOOPBACK, free_port
from services.inbox.media import MOST_BYTES
from tests.support.inbox import ADVISOR, TECHNICIAN, RunningInbox, Staff, an_inbox_of_its_own
from tests.support.inbox_world import InboxWorld
from tests.support.logs import LogLines
from tests.support.waiting import eventually

HTML = b"<script>alert(document.cookie)</script>"


@dataclass
class Graph:
    """Answers for Meta. ``asked``: path and token of each request."""

    url: str
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    answer: dict[str, object] = field(default_factory=dict)
    status: int = 200
    file: Response | None = None

    def app(self) -> Starlette:
        files = [Route(path, self._file) for path in ("/file", "/elsewhere")]
        return Starlette(routes=[*files, Route("/{rest:path}", self._media)])

    async def _media(self, request: Request) -> Response:
        self._note(request)
        return JSONResponse(self.answer or {"url": f"{self.url}/file", "mime_type": "image/jpeg"}, self.status)

    async def _file(self, request: Request) -> Response:
        self._note(request)
        return self.file or Response(b"\xff\xd8 a brake disc", media_type="image/jpeg")

    def _note(self, request: Request) -> None:
        self.asked.append((request.scope["raw_path"].decode(), request.headers.get("authorization")))


@pytest_asyncio.fixture(scope="module")
async def graph() -> AsyncIterator[Graph]:
    port = free_port()
    made = Graph(f"http://{LOOPBACK}:{port}")
    server = uvicorn.Server(uvicorn.Config(made.app(), host=LOOPBACK, port=port, log_level="error", lifespan="off"))
    running = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    yield made
    server.should_exit = True
    await running


@pytest_asyncio.fixture(scope="module")
async def inbox(
    postgres_dsn: str, database_template: str, kafka_admin: AIOKafkaAdminClient, kafka_bootstrap: str, graph: Graph
) -> AsyncIterator[RunningInbox]:
    async with an_inbox_of_its_own(
        postgres_dsn, database_template, kafka_admin, kafka_bootstrap, graph_base_url=graph.url, whatsapp_token="ours"
    ) as made:
        yield made


@pytest_asyncio.fixture
async def garage(inbox: RunningInbox, graph: Graph) -> InboxWorld:
    graph.asked, graph.answer, graph.status, graph.file = [], {}, 200, None
    org = await inbox.an_org()
    async with inbox.pool.acquire() as db:
        number = await db.fetchval("select phone_number_id from whatsapp_numbers where org_id = $1", org)
    return InboxWorld(inbox.pool, org, number)


async def a_file(garage: InboxWorld, media_id: str = "777", **content: str) -> str:
    """The address of the file of a message of Kim."""
    _, kim = await garage.customer("Kim Larsen")
    said = {"kind": "image", "media_id": media_id, "mime_type": "image/jpeg", "sha256": "x"} | content
    return f"/inbox/{kim}/media/{await garage.hears(kim, said)}"


@pytest_asyncio.fixture
async def priya(inbox: RunningInbox, garage: InboxWorld) -> Staff:
    return await inbox.staff(garage.org, ADVISOR, "priya")


async def test_a_photo_is_a_download_that_runs_nothing(garage: InboxWorld, graph: Graph, priya: Staff) -> None:
    path = await a_file(garage)
    page = await priya.get(path.partition("/media/")[0])
    assert f'href="{path}"' in page.text
    answer = await priya.get(path)
    assert (answer.status_code, answer.content) == (200, b"\xff\xd8 a brake disc")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''image.jpg"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert [token for _, token in graph.asked] == ["Bearer ours", "Bearer ours"]


async def test_a_photo_that_staff_sent_from_the_phone_is_one_too(
    garage: InboxWorld, graph: Graph, priya: Staff
) -> None:
    path = await a_file(garage)
    async with garage.pool.acquire() as db:
        await db.execute(
            "update messages set direction = 'out', actor = 'staff', status = 'sent', attempt = 0 where org_id = $1",
            garage.org,
        )
    page = await priya.get(path.partition("/media/")[0])
    assert f'href="{path}"' in page.text
    assert (await priya.get(path)).content == b"\xff\xd8 a brake disc"


async def test_a_number_with_a_token_of_its_own_is_asked_with_it(
    garage: InboxWorld, graph: Graph, priya: Staff
) -> None:
    async with garage.pool.acquire() as db:
        await db.execute("update whatsapp_numbers set token = 'theirs' where org_id = $1", garage.org)
    await priya.get(await a_file(garage))
    assert {token for _, token in graph.asked} == {"Bearer theirs"}


@pytest.mark.parametrize("kind", ["text/html", "image/svg+xml", "application/xhtml+xml", "text/html; charset=utf-8"])
async def test_what_a_browser_would_run_has_no_type(garage: InboxWorld, graph: Graph, priya: Staff, kind: str) -> None:
    graph.file = Response(HTML, headers={"Content-Type": kind})
    answer = await priya.get(await a_file(garage, kind="document", filename="invoice.html"))
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"].startswith("attachment;")


@pytest.mark.parametrize("media_id", ["../me?fields=id", "1/../../v1", "1?access_token=x", "a#b", "a b\n"])
async def test_a_media_id_is_one_segment_of_the_address(
    garage: InboxWorld, graph: Graph, priya: Staff, media_id: str
) -> None:
    await priya.get(await a_file(garage, media_id))
    path = graph.asked[0][0]
    assert path.count("/") == 2
    assert unquote(path.rpartition("/")[2]) == media_id


@pytest.mark.parametrize("media_id", ["..", "."])
async def test_a_media_id_that_leads_up_is_asked_nowhere(
    garage: InboxWorld, graph: Graph, priya: Staff, media_id: str
) -> None:
    assert (await priya.get(await a_file(garage, media_id))).status_code == 404
    assert graph.asked == []


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/steal", "https://evil.example/x", "https://lookaside.fbsbx.com@evil.example/", 7, None]
)
async def test_no_other_host_gets_the_token(garage: InboxWorld, graph: Graph, priya: Staff, url: object) -> None:
    graph.answer = {"url": url, "mime_type": "image/jpeg"}
    assert (await priya.get(await a_file(garage))).status_code == 502
    assert len(graph.asked) == 1


async def test_a_redirect_is_not_followed_and_a_file_that_is_too_large_is_refused(
    garage: InboxWorld, graph: Graph, priya: Staff
) -> None:
    path = await a_file(garage)
    graph.file = RedirectResponse("/elsewhere")
    assert (await priya.get(path)).status_code == 502
    assert "/elsewhere" not in {asked for asked, _ in graph.asked}
    graph.file = Response(b"x", headers={"Content-Length": str(MOST_BYTES + 1)})
    assert (await priya.get(path)).status_code in (502, 503)


async def broken_off() -> AsyncIterator[bytes]:
    yield b"\xff\xd8 a brake"
    raise ConnectionResetError


async def test_a_file_that_breaks_off_is_one_line_and_no_whole_file(
    garage: InboxWorld, graph: Graph, priya: Staff, log_lines: LogLines, caplog: pytest.LogCaptureFixture
) -> None:
    path = await a_file(garage)
    for headers in {"Content-Length": "200"}, {}:
        graph.file = StreamingResponse(broken_off(), headers=headers, media_type="image/jpeg")
        with pytest.raises(httpx.RemoteProtocolError):
            await priya.get(path)
    told = [(line["level"], line["dependency"], line["reason"]) for line in log_lines.of("dependency.away")]
    assert told == [("warning", "meta", "ClientPayloadError")] * 2
    raised = [said.exc_info[0] for said in caplog.records if said.exc_info]
    assert raised == [ConnectionResetError] * 2, "of the Graph API of this test"
    graph.file = None
    assert (await priya.get(path)).content == b"\xff\xd8 a brake disc"


async def test_a_number_in_the_name_of_a_file_is_masked_for_who_may_not_see_numbers(
    inbox: RunningInbox, garage: InboxWorld, priya: Staff
) -> None:
    path = await a_file(garage, kind="document", filename="Invoice +447700900111.pdf")
    tom = await inbox.staff(garage.org, TECHNICIAN, "tom")
    names = [(await one.get(path)).headers["Content-Disposition"] for one in (priya, tom)]
    assert "447700900111" in names[0]
    assert "7700900" not in names[1]
    assert names[1].endswith("111.pdf")


async def test_a_file_that_meta_has_no_more_is_not_found(garage: InboxWorld, graph: Graph, priya: Staff) -> None:
    graph.file = Response(status_code=404)
    assert (await priya.get(await a_file(garage))).status_code == 404


@pytest.mark.parametrize(("code", "status"), [(100, 404), (190, 502)])
async def test_a_token_that_meta_refuses_is_not_a_file_that_is_gone(
    garage: InboxWorld, graph: Graph, priya: Staff, code: int, status: int
) -> None:
    graph.status, graph.answer = 400, {"error": {"message": f"(#{code})", "type": "OAuthException", "code": code}}
    assert (await priya.get(await a_file(garage))).status_code == status


async def test_a_file_that_comes_compressed_is_handed_on_whole(garage: InboxWorld, graph: Graph, priya: Staff) -> None:
    text = b"Front brakes, " * 5_000
    graph.file = Response(gzip.compress(text), headers={"Content-Encoding": "gzip"}, media_type="text/plain")
    assert (await priya.get(await a_file(garage, kind="document", filename="quote.txt"))).content == text


async def test_another_garages_file_and_a_message_without_one_are_not_there(
    inbox: RunningInbox, garage: InboxWorld, graph: Graph, priya: Staff
) -> None:
    path = await a_file(garage)
    stranger = await inbox.staff(await inbox.an_org())
    assert (await stranger.get(path)).status_code == 404
    _, anna = await garage.customer("Anna")
    text = await garage.hears(anna, "Hello")
    assert (await priya.get(f"/inbox/{anna}/media/{text}")).status_code == 404
    other = path.rpartition("/")[2]
    assert (await priya.get(f"/inbox/{anna}/media/{other}")).status_code == 404
    assert (await priya.get(f"/inbox/{anna}/media/{uuid4()}")).status_code == 404
    assert (await inbox.browser().get(path)).status_code == 303
    assert graph.asked == []
