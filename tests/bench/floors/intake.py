"""The floor of *intake*: the same HTTP server, which verifies, splits and produces with the same acknowledgement, and
nothing else.

``python -m tests.bench.floors.intake PORT``
"""

import hmac
import sys
from collections.abc import Iterator
from typing import Any

import orjson
import uvicorn
from aiokafka import AIOKafkaProducer
from starlette.types import Receive, Scope, Send

from libs.common.clock import utc_now
from libs.common.events.topics import WEBHOOKS
from libs.common.service import _config
from tests.bench.floors import raw
from tests.bench.traffic import SECRET

_SECRET = SECRET.encode()
_DRAIN_SECONDS = 1.0


class _Edge:
    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            await _answer(send, 200 if await self._take(scope, receive) else 403)
        else:
            await _answer(send, 200)

    async def _take(self, scope: Scope, receive: Receive) -> bool:
        chunks, more = [], True
        while more:
            message = await receive()
            chunks.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(chunks)
        signed = next((value for name, value in scope["headers"] if name == b"x-hub-signature-256"), b"")
        if not hmac.compare_digest(b"sha256=" + hmac.digest(_SECRET, body, "sha256").hex().encode(), signed):
            return False
        await raw.publish(self._producer, WEBHOOKS, list(_split(orjson.loads(body))))
        return True


def _split(webhook: Any) -> Iterator[tuple[bytes, bytes]]:
    at = utc_now().isoformat()
    for entry in webhook["entry"]:
        for change in entry["changes"]:
            value = change["value"]
            number, contacts = value["metadata"]["phone_number_id"], value.get("contacts", [])
            for kind, items in (("message", value.get("messages", ())), ("status", value.get("statuses", ()))):
                for item in items:
                    record = {
                        "type": "webhook.meta.v1",
                        "received_at": at,
                        "waba_id": entry["id"],
                        "field": change["field"],
                        "phone_number_id": number,
                        "item_kind": kind,
                        "item": item,
                        "contact": contacts[0] if contacts else None,
                    }
                    yield f"{number}:{item.get('from') or item.get('recipient_id')}".encode(), orjson.dumps(record)


async def _answer(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def floor() -> None:
    """Serve until the end."""
    async with raw.producing() as producer:
        config = _config(_Edge(producer), _DRAIN_SECONDS)
        config.host, config.port = "127.0.0.1", int(sys.argv[1])
        await uvicorn.Server(config).serve()


if __name__ == "__main__":
    raw.run(floor)
