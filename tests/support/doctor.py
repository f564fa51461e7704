"""``transom doctor`` in this process, on settings that a test chooses; no report of it may hold a planted secret."""

import asyncio
import base64
import io
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import quote, quote_plus

import jsonschema
import pytest

from deploy.cli.doctor.checks import CHECKS
from deploy.cli.doctor.configuration import SETTINGS, look_at_configuration, read_variables
from deploy.cli.doctor.findings import Finding, Report
from deploy.cli.doctor.output import write_json, write_words
from deploy.cli.doctor.running import run_checks
from deploy.cli.doctor.secrecy import Secrets
from deploy.cli.doctor.site import Directory, site_of
from deploy.local.servers.ports import LOOPBACK

SCHEMA = json.loads((Path(__file__).parents[2] / "deploy/cli/doctor/report_schema.json").read_text())
PLANTED = "planted/Se+cret?%41"
"""It looks different in plain, percent-encoded and in base64."""
GOOD = {
    "META_APP_SECRETS": "0f3b6c1d9e8a47525b6d7c8e9f0a1b2c",
    "META_VERIFY_TOKEN": "handshake-word-27c1",
    "WHATSAPP_TOKEN": "EAAJplantedGraphToken1",
    "TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "TWILIO_AUTH_TOKENS": "twilio-planted-9a8b7c",
    "PORTAL_LINK_KEYS": "f1e2d3c4b5a697887960504132231405162738495a6b7c8d9eafb0c1d2e3f405",
    "JWT_KEYS": "00112233445566778899aabbccddeeff0f1e2d3c4b5a69788796a5b4c3d2e1f0",
    "PUBLIC_URL": "https://hooks.transom.example",
    "PORTAL_URL": "https://portal.transom.example",
    "INBOX_URL": "https://inbox.transom.example",
    "TRUSTED_PROXIES": "1",
}
"""Settings of a production without fault, but for its servers."""
_SECRETS = (
    "META_APP_SECRETS",
    "META_VERIFY_TOKEN",
    "WHATSAPP_TOKEN",
    "TWILIO_AUTH_TOKENS",
    "PORTAL_LINK_KEYS",
    "JWT_KEYS",
)


class Doctor:
    """Looks at one area after the other, with ``GOOD`` and what ``set`` adds. Secrets that are given are planted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.planted = {PLANTED, *(GOOD[name] for name in _SECRETS)}
        self.services: Sequence[str] = tuple(SETTINGS)
        self.set(**GOOD)

    def set(self, **settings: str) -> None:
        """Set variables, by their names without prefix."""
        for name, value in settings.items():
            self._monkeypatch.setenv(f"TRANSOM_{name}", value)

    def unset(self, *names: str) -> None:
        for name in names:
            self._monkeypatch.delenv(f"TRANSOM_{name}", raising=False)

    def configuration(self) -> Report:
        """The findings about the variables."""
        variables = read_variables(os.environ)
        return self._held(Report.of(look_at_configuration(variables, self.services)), variables.secrets())

    async def look_at(self, area: str, directory: Directory | None = None) -> Report:
        """The findings of one area. ``directory``: what PostgreSQL would have given."""
        return await self.look_at_all(area, directory=directory)

    async def look_at_all(self, *areas: str, directory: Directory | None = None) -> Report:
        """The findings of these areas, looked at side by side."""
        site = site_of(self.services, read_variables(os.environ))
        if "postgres" not in areas:
            site.give_directory(directory)
        checks = [check for check in CHECKS if check.area in areas]
        assert len(checks) == len(areas), areas
        found = await asyncio.to_thread(run_checks, checks, site)
        return self._held(Report.of(found), site.secrets)

    def _held(self, report: Report, secrets: Secrets) -> Report:
        """The report, after its forms were held against their schema and looked through for secrets."""
        words, as_json = io.StringIO(), io.StringIO()
        write_words(report, secrets, words)
        write_json(report, secrets, as_json)
        jsonschema.validate(json.loads(as_json.getvalue()), SCHEMA)
        for text in (repr(report), words.getvalue(), as_json.getvalue()):
            assert_secretless(text, self.planted)
        return report


def assert_secretless(text: str, secrets: set[str]) -> None:
    """No secret stands in the text: in plain, percent-encoded or in base64."""
    for secret in secrets:
        raw = secret.encode()
        forms = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret)}
        forms |= {base64.b64encode(raw).decode().rstrip("="), base64.urlsafe_b64encode(raw).decode().rstrip("=")}
        for form in forms:
            assert form not in text, "a secret stands in the output"


def codes(report: Report) -> set[str]:
    return {one.code for one in report.findings}


def finding(report: Report, code: str) -> Finding:
    """The one finding of this code."""
    (found,) = [one for one in report.findings if one.code == code]
    return found


@asynccontextmanager
async def a_silent_server() -> AsyncIterator[int]:
    """The port of a server that accepts connections and says nothing."""
    held: list[asyncio.StreamWriter] = []

    async def hold(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        held.append(writer)

    server = await asyncio.start_server(hold, LOOPBACK, 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for writer in held:
            writer.transport.abort()
        await server.wait_closed()
