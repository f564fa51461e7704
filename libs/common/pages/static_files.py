"""Style sheets, scripts and the icon, under names that hold the hash of their content.

Rule 1: a name never means two contents, so a browser keeps a file for ever and asks for a new one after a release.
Rule 2: a script that imports another one of the folder asks for it under that name, so both are of one release.
Rule 3: replicas of two releases stand side by side: a name of another release gets today's file, kept for no time.
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
_IMPORT = re.compile(rb'from "\./([a-z]+\.js)"')
_TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file in both forms in which it is served."""

    name: str
    media_type: str
    plain: bytes
    packed: bytes


class StaticFiles:
    """The files of a service's folder and those of this package. Reads both once."""

    def __init__(self, folder: Path) -> None:
        paths = [path for one in (FOLDER, folder) for path in sorted(one.iterdir())]
        self._paths = {path.name: path for path in paths if path.suffix in _TYPES}
        self._files: dict[str, StaticFile] = {}
        for name in self._paths:
            self._read(name)

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

    def _read(self, name: str) -> StaticFile:
        """The file, after those that it imports. Scripts that import each other in a circle are a RecursionError."""
        if (known := self._files.get(name)) is None:
            plain = self._paths[name].read_bytes()
            if self._paths[name].suffix == ".js":
                plain = _IMPORT.sub(lambda found: b'from "./%s"' % self._read(found[1].decode()).name.encode(), plain)
            known = self._files[name] = _packed(self._paths[name], plain)
        return known


def _packed(path: Path, plain: bytes) -> StaticFile:
    digest = hashlib.sha256(plain).hexdigest()[:12]
    name = f"{path.stem}-{digest}{path.suffix}"
    return StaticFile(name, _TYPES[path.suffix], plain, gzip.compress(plain, 9, mtime=0))
