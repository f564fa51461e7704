from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from libs.common.answers import read_answer

LIMIT = 100_000


@pytest_asyncio.fixture
async def peer() -> AsyncIterator[str]:
    """Answers as many bytes as it is asked for, in pieces, or without an end."""

    async def on_request(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        left = float(request.query["bytes"])
        while left > 0:
            piece = b"x" * int(min(left, 65_536))
            await response.write(piece)
            left -= len(piece)
        return response

    app = web.Application()
    app.router.add_get("/", on_request)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    await runner.cleanup()


@pytest.mark.parametrize(
    ("size", "read"), [("0", 0), ("1", 1), (str(LIMIT), LIMIT), (str(LIMIT + 1), None), ("inf", None)]
)
async def test_an_answer_is_read_within_its_limit(peer: str, size: str, read: int | None) -> None:
    async with aiohttp.ClientSession() as http, http.get(peer, params={"bytes": size}) as response:
        answer = await read_answer(response, LIMIT)
    assert (None if answer is None else len(answer)) == read
