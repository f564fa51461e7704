import gzip
import re
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from libs.common.pages.static_files import FOLDER, StaticFiles
from services.portal.html import STATIC

FILES = StaticFiles(STATIC)
CLIENT = httpx.AsyncClient(
    transport=httpx.ASGITransport(Starlette(routes=[Route("/static/{name}", FILES.serve)])), base_url="http://portal"
)


def folder_of(name: str) -> Path:
    return next(path for folder in (FOLDER, STATIC) if (path := folder / name).exists())


NAMES = pytest.mark.parametrize("name", ["portal.css", "portal.js", "icon.svg"])


@NAMES
async def test_a_file_is_kept_for_ever_under_the_name_of_its_content(name: str) -> None:
    answer = await CLIENT.get(FILES.url(name), headers={"Accept-Encoding": "identity"})
    assert answer.content == folder_of(name).read_bytes()
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Vary"] == "Accept-Encoding"


@NAMES
async def test_a_file_is_served_packed_where_the_browser_takes_that(name: str) -> None:
    async with CLIENT.stream("GET", FILES.url(name), headers={"Accept-Encoding": "gzip, br"}) as answer:
        packed = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == folder_of(name).read_bytes()


@NAMES
async def test_the_name_of_another_release_gets_todays_file_for_once(name: str) -> None:
    answer = await CLIENT.get(re.sub("[0-9a-f]{12}", "0" * 12, FILES.url(name)))
    assert answer.content == folder_of(name).read_bytes()
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ["portal.css", "nothing-000000000000.css", "..%2Fhtml.py", "portal-000000000000.py"])
async def test_nothing_else_is_served(name: str) -> None:
    assert (await CLIENT.get(f"/static/{name}")).status_code == 404


def test_a_script_asks_for_the_script_that_it_imports_under_the_name_of_its_content(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text('import { one } from "./b.js";')
    (tmp_path / "b.js").write_text("export const one = 1;")
    first = StaticFiles(tmp_path)
    assert f'from ".{first.url("b.js").removeprefix("/static")}"' in next(
        file.plain.decode() for file in first.files() if file.name.startswith("a-")
    )
    (tmp_path / "b.js").write_text("export const one = 2;")
    assert StaticFiles(tmp_path).url("a.js") != first.url("a.js")
