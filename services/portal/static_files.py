"""The style sheet, the script and the icon, under names that hold the hash of their content.

Rule 1: a name never means two contents, so a browser keeps a file for ever and asks for a new one after a release.
Rule 2: replicas of two releases stand side by side: a name of another release gets today's file, kept for no time.
"""

import gzip
import hashlib
import re
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parent / "static"
PREFIX = "/static/"
_FOR_EVER = "public, max-age=31536000, immutable"
_NAME = re.compile(r"(?P<stem>[a-z]+)-[0-9a-f]{12}\.(?P<suffix>[a-z]+)")
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file in both forms in which it is served."""

    name: str
    media_type: str
    plain: bytes
    packed: bytes


class StaticFiles:
    """Reads the folder once."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files = {path.name: _read(path) for path in sorted(folder.iterdir()) if path.suffix in _TYPES}

    def url(self, name: str) -> str:
        """Path of a file, such as ``/static/portal-0123456789ab.css``. Raises KeyError for an unknown one."""
        return PREFIX + self._files[name].name

    def files(self) -> list[StaticFile]:
        """All of them, in the order of their names."""
        return list(self._files.values())

    async def serve(self, request: Request) -> Response:
        """``GET /static/{name}``."""
        asked = str(request.path_params["name"])
        found = _NAME.fullmatch(asked)
        file = self._files.get(f"{found['stem']}.{found['suffix']}") if found else None
        if file is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        headers = {"Cache-Control": _FOR_EVER if file.name == asked else "no-store", "Vary": "Accept-Encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            return Response(file.packed, headers=headers | {"Content-Encoding": "gzip"}, media_type=file.media_type)
        return Response(file.plain, headers=headers, media_type=file.media_type)


def _read(path: Path) -> StaticFile:
    plain = path.read_bytes()
    digest = hashlib.sha256(plain).hexdigest()[:12]
    name = f"{path.stem}-{digest}{path.suffix}"
    return StaticFile(name, _TYPES[path.suffix], plain, gzip.compress(plain, 9, mtime=0))
