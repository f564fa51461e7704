"""The calls about templates: what stands in an address, and that a token goes nowhere else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

from services.inbox.template_answers import Done, Page, Throttled, Unknown
from services.inbox.template_graph import TemplateGraph, open_template_graph


@dataclass
class Meta:
    """Answers everything with one answer, and keeps what was asked."""

    url: str = ""
    answer: Any = field(default_factory=lambda: {"data": []})
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)

    async def on_request(self, request: web.Request) -> web.Response:
        self.asked.append((request.method, request.raw_path, request.headers.get("Authorization", "")))
        return web.json_response(self.answer, status=self.status, headers=self.headers)


@pytest_asyncio.fixture
async def meta() -> AsyncIterator[Meta]:
    made = Meta()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.on_request)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


@pytest_asyncio.fixture
async def graph(meta: Meta) -> AsyncIterator[TemplateGraph]:
    async with open_template_graph(base_url=meta.url, version="v26.0", timeout_seconds=20) as opened:
        yield opened


async def test_ids_names_and_cursors_stay_in_their_place(meta: Meta, graph: TemplateGraph) -> None:
    await graph.page("1/../me?x=1", "secret", after="a&limit=9/..", name="b&c=d#e")
    meta.answer = {"success": True}
    assert await graph.delete("206", "secret", name="x&hsm_id=1", meta_id="52&name=y") == Done()
    assert await graph.edit("52/../206", "secret", {"components": []}) == Done()
    paths = [path for _, path, _ in meta.asked]
    assert paths[0].startswith("/v26.0/1%2F..%2Fme%3Fx=1/message_templates?fields=")
    assert paths[0].endswith("&limit=100&after=a%26limit%3D9/..&name=b%26c%3Dd%23e")
    assert paths[1] == "/v26.0/206/message_templates?name=x%26hsm_id%3D1&hsm_id=52%26name%3Dy"
    assert paths[2] == "/v26.0/52%2F..%2F206"


async def test_the_address_of_a_next_page_is_not_followed(meta: Meta, graph: TemplateGraph) -> None:
    meta.answer = {"data": [], "paging": {"next": "http://evil.example/?t=1", "cursors": {"after": "b"}}}
    assert await graph.page("206", "secret") == Page((), (), "b")
    assert len(meta.asked) == 1


async def test_a_redirect_gets_no_token(meta: Meta, graph: TemplateGraph) -> None:
    meta.status, meta.headers = 302, {"Location": "http://127.0.0.1:1/"}
    assert await graph.page("206", "secret") == Unknown("unreadable")
    assert [token for _, _, token in meta.asked] == ["Bearer secret"]


@pytest.mark.parametrize("waba_id", ["", ".", ".."])
async def test_what_is_no_segment_is_not_asked_for(meta: Meta, graph: TemplateGraph, waba_id: str) -> None:
    with pytest.raises(ValueError, match="segment"):
        await graph.page(waba_id, "secret")
    assert meta.asked == []


async def test_a_call_that_never_left_was_not_made() -> None:
    async with open_template_graph(base_url="http://127.0.0.1:1", version="v26.0", timeout_seconds=2) as graph:
        assert await graph.create("206", "secret", {}) == Throttled("never_left")
