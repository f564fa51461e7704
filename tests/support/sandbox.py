"""The sandbox providers as a process, and a receiver of their webhooks.

``sandbox``: the client of a process that serves the whole run; each test finds it reset, calm (nothing shuffled,
repeated or batched) and without a webhook URL. ``hook_inbox``: an HTTP server that keeps what is posted to it.
A test that wants other options launches a sandbox of its own: ``with launched("--day-seconds", "2") as url``.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from deploy.local.sandbox.client import SandboxClient

APP_SECRET, VERIFY_TOKEN, GRAPH_TOKEN = "sandbox-app-secret", "sandbox-verify-token", "sandbox-graph-token"
TWILIO_SID, TWILIO_TOKEN = "AC" + "0" * 32, "sandbox-twilio-token"
VONAGE_KEY, VONAGE_SECRET, VONAGE_SIGNATURE = "sandbox1", "sandbox-vonage-secret", "sandbox-vonage-signature"
NUMBER_ID, CUSTOMER = "106400000000001", "+447700900999"
ROOT = Path(__file__).parents[2]
CALM = {"shuffle": 0, "repeat": 0, "batch": 0, "pace": 240, "retry_most": 240}
"""No disorder.

A minute of Meta's pauses takes a quarter of a second; none is longer than the second after which the tests' systems
take silence for settled, whatever they do to ingest.
"""
ANSWER_SECONDS = 40


@contextmanager
def launched(*options: str) -> Iterator[str]:
    """A sandbox process with the secrets above and these options; gives its address, stops it afterwards."""
    secrets = ["--app-secret", APP_SECRET, "--verify-token", VERIFY_TOKEN, "--token", GRAPH_TOKEN]
    secrets += ["--twilio-sid", TWILIO_SID, "--twilio-token", TWILIO_TOKEN, "--config", json.dumps(CALM)]
    secrets += ["--vonage-key", VONAGE_KEY, "--vonage-secret", VONAGE_SECRET, "--vonage-signature", VONAGE_SIGNATURE]
    command = [sys.executable, "-m", "deploy.local.sandbox", "--parent", str(os.getpid()), *secrets, *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("sandbox ready on "), f"the sandbox did not start: {line!r}"
            yield line.split()[-1]
        finally:
            process.terminate()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


@dataclass
class Post:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    raw: bytes
    query: str = ""

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.raw.decode(), keep_blank_values=True)


@dataclass
class HookInbox:
    """Keeps what is posted; answers 200, or the statuses in ``answers`` first."""

    url: str = ""
    verify_token: str = VERIFY_TOKEN
    posts: list[Post] = field(default_factory=list)
    answers: deque[int] = field(default_factory=deque)

    async def on_request(self, request: web.Request) -> web.Response:
        if request.method == "GET":
            known = request.query.get("hub.verify_token") == self.verify_token
            return web.Response(text=request.query["hub.challenge"]) if known else web.Response(status=403)
        body = await request.read()
        self.posts.append(Post(request.path, dict(request.headers), body, request.query_string))
        return web.Response(status=self.answers.popleft() if self.answers else 200)

    async def got(self, count: int, path: str = "/") -> list[Post]:
        """The posts under a path once there are ``count`` of them."""
        async with asyncio.timeout(ANSWER_SECONDS):
            while len(found := [post for post in self.posts if post.path.startswith(path)]) < count:  # noqa: ASYNC110  filled by the server
                await asyncio.sleep(0.01)
        return found

    def statuses(self) -> list[str]:
        """The Meta message statuses that arrived, in order."""
        return [item["status"] for value in self.values() for item in value.get("statuses", [])]

    def values(self) -> list[Any]:
        """The ``value`` of every Meta change that arrived, in order."""
        bodies = [post.json for post in self.posts if "X-Hub-Signature-256" in post.headers]
        return [change["value"] for body in bodies for entry in body["entry"] for change in entry["changes"]]


class ProviderCaller:
    """Calls the providers as a customer of theirs would, without any code of the services."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self.url, self._session = url, session

    async def graph(self, body: Any, *, token: str | None = GRAPH_TOKEN, number: str = NUMBER_ID) -> tuple[int, Any]:
        """A send to Meta: status and answer."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self._session.post(f"{self.url}/v26.0/{number}/messages", json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def text(
        self, text: str = "Your Golf is ready.", *, to: str = CUSTOMER, callback: str = "m1:1"
    ) -> tuple[int, Any]:
        """A free-form text."""
        body = {"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": text}}
        return await self.graph(body | {"biz_opaque_callback_data": callback})

    async def sms(self, form: dict[str, str], *, token: str = TWILIO_TOKEN) -> tuple[int, Any]:
        """A send to Twilio."""
        headers = {"Authorization": aiohttp.encode_basic_auth(TWILIO_SID, token)}
        async with self._session.post(f"{self.messages_url}.json", data=form, headers=headers) as answer:
            return answer.status, await answer.json()

    async def sms_get(self, path: str = "", query: dict[str, str] | None = None) -> tuple[int, Any]:
        """A question to Twilio: the list, or with ``/{sid}`` one message; or any path that it named itself."""
        headers = {"Authorization": aiohttp.encode_basic_auth(TWILIO_SID, TWILIO_TOKEN)}
        url = f"{self.url}{path}" if path.startswith("/2010") else f"{self.messages_url}{path}.json"
        async with self._session.get(url, params=query, headers=headers) as answer:
            return answer.status, await answer.json()

    @property
    def messages_url(self) -> str:
        return f"{self.url}/2010-04-01/Accounts/{TWILIO_SID}/Messages"


@pytest.fixture(scope="session")
def sandbox_url() -> Iterator[str]:
    """The address of the run's sandbox; tests want ``sandbox``."""
    with launched() as url:
        yield url


@pytest_asyncio.fixture
async def sandbox(sandbox_url: str) -> AsyncIterator[SandboxClient]:
    async with SandboxClient(sandbox_url) as client:
        await client.reset()
        yield client


@pytest_asyncio.fixture
async def providers(sandbox_url: str) -> AsyncIterator[ProviderCaller]:
    async with aiohttp.ClientSession() as session:
        yield ProviderCaller(sandbox_url, session)


@pytest_asyncio.fixture
async def hook_inbox() -> AsyncIterator[HookInbox]:
    inbox = HookInbox()
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/{tail:.*}", inbox.on_request)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    inbox.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield inbox
    await runner.cleanup()
