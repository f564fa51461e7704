"""Files of customers' messages: fetched from Meta for one person, and handed on as a download.

Rule 1: a media id stands in an address as one quoted segment. Meta's answer names where the file lies; only a host of
        Meta, or the one of GRAPH_BASE_URL, is asked there, and only it gets the token. No redirect is followed.
Rule 2: a file is a download, whatever it is: ``attachment``, of a type of the list or of none, in a sandbox, and never
        sniffed. So no SVG and no HTML of a customer runs as a page of ours.
Rule 3: a file is passed on in pieces and has at most ``MOST_BYTES``. A longer one is cut off, and the browser says so.

Source: Meta, "Media": an address is asked for by the media's id, is good for five minutes and wants the token. A file
has at most 100 MB.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import quote, urlsplit

import aiohttp
import orjson

from libs.common.addresses import segment
from libs.common.answers import read_answer
from libs.common.faults import ContentFault
from libs.common.providers.meta import fault_of
from services.inbox.problems import Problem, away, not_found

MOST_BYTES = 100 * 1024 * 1024
_ANSWER_SECONDS = 10.0
_SILENT_SECONDS = 20.0
_PIECE = 64 * 1024
_METAS = ("fbsbx.com", "fbcdn.net", "facebook.com", "whatsapp.net")
TYPES = frozenset(
    {
        *("image/jpeg", "image/png", "image/webp", "video/mp4", "video/3gpp", "text/plain", "application/pdf"),
        *("audio/aac", "audio/amr", "audio/mp4", "audio/mpeg", "audio/ogg"),
        *("application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint"),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    }
)
"""What WhatsApp carries. Anything else is handed on without a type."""
_NO_TYPE = "application/octet-stream"
_AS_IT_IS = {"Accept-Encoding": "identity"}
"""The size of a file that comes compressed is not said."""
_ENDINGS = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp", "video/mp4": "mp4", "audio/ogg": "ogg"}


class StoredFile(NamedTuple):
    """What is stored of a file. ``token``: of the number that it came to, None where it has none of its own."""

    media_id: str
    kind: str
    filename: str | None
    token: str | None


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file on its way. ``size`` is None where Meta does not say."""

    media_type: str
    size: int | None
    pieces: AsyncIterator[bytes]


def headers_of(stored: StoredFile, file: MediaFile) -> dict[str, str]:
    """What makes it a download and nothing else."""
    name = stored.filename or f"{stored.kind}.{_ENDINGS.get(file.media_type, 'bin')}"
    shown = "".join(letter for letter in name if letter.isprintable() and letter not in '/\\"')[:120] or "file"
    found = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(shown, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
    }
    return found if file.size is None else found | {"Content-Length": str(file.size)}


def is_metas(address: str, base_url: str) -> bool:
    """Whether this address may be asked with our token: https at a host of Meta, or the origin of ``base_url``."""
    try:
        asked, ours = urlsplit(address), urlsplit(base_url)
        port = asked.port
    except ValueError:
        return False
    if asked.username is not None or asked.password is not None or not asked.hostname:
        return False
    if (asked.scheme, asked.netloc.lower()) == (ours.scheme, ours.netloc.lower()):
        return True
    host = asked.hostname
    return (
        asked.scheme == "https"
        and port in (None, 443)
        and any(host == one or host.endswith(f".{one}") for one in _METAS)
    )


class Media:
    """One pool of connections to Meta. Each call has its token, because a number may have its own."""

    def __init__(self, http: aiohttp.ClientSession, *, base_url: str, version: str, token: str) -> None:
        self._http = http
        self._base_url = base_url
        self._version = version
        self._token = token

    @asynccontextmanager
    async def open(self, stored: StoredFile) -> AsyncIterator[MediaFile]:
        """The file, while the block runs. Raises Problem: 404 where Meta has it no more, 502 and 503 where it fails."""
        headers = {"Authorization": f"Bearer {stored.token or self._token}"}
        try:
            address = await self._address(stored.media_id, headers)
            async with self._http.get(address, headers=headers | _AS_IT_IS, allow_redirects=False) as answer:
                if answer.status == HTTPStatus.NOT_FOUND:
                    raise not_found()
                if answer.status != HTTPStatus.OK:
                    raise _bad("Meta did not hand out this file")
                size = None if answer.headers.get("Content-Encoding") else answer.content_length
                if size is not None and size > MOST_BYTES:
                    raise _bad("this file is too large")
                kind = answer.content_type.partition(";")[0].strip().lower()
                yield MediaFile(kind if kind in TYPES else _NO_TYPE, size, _pieces(answer))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise away("Meta") from error

    async def _address(self, media_id: str, headers: dict[str, str]) -> str:
        try:
            address = f"{self._base_url}/{self._version}/{segment(media_id)}"
        except ValueError:
            raise not_found() from None
        async with self._http.get(
            address,
            headers=headers,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS),
        ) as answer:
            raw = await read_answer(answer)
            if answer.status == HTTPStatus.NOT_FOUND:
                raise not_found()
        try:
            said = None if raw is None else orjson.loads(raw)
        except orjson.JSONDecodeError:
            said = None
        match said:
            case {"url": str(url)} if is_metas(url, self._base_url):
                return url
            case {"error": {"code": int(code)}} if isinstance(fault_of(code), ContentFault):
                raise not_found()  # gone: kept for 30 days. Other codes are about the token, or a limit
        raise _bad("Meta's answer names no address of a file of theirs")


async def _pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    passed = 0
    async for piece in answer.content.iter_chunked(_PIECE):
        passed += len(piece)
        if passed > MOST_BYTES:
            raise OSError("the file is longer than a file may be")
        yield piece


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_GATEWAY, detail)


@asynccontextmanager
async def open_media(*, base_url: str, version: str, token: str) -> AsyncIterator[Media]:
    """A ``Media`` with its pool, closed on leaving. A file that comes to a standstill is given up."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_SECONDS, sock_read=_SILENT_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Media(http, base_url=base_url, version=version, token=token)
