"""The HTTP edge for providers' webhooks: verify, split, publish to Kafka, answer. Nothing else, and no database.

Rule 1: 200 means that every item is acknowledged by Kafka. After any other answer the provider tries again for days.
Rule 2: a signed body is taken, whether or not it can be parsed. A body without a valid signature is not stored.
Rule 3: each webhook taken has one log line; refused ones have one a second for each reason. No content is in it.
Rule 4: without a header that has the form of a signature nothing of the body is read, and the connection is closed.
Rule 5: the edge records which of Meta's POSTs it took last and which it refused (``edge_coverage.py``). Silence proves
        nothing for that time.

These are bare ASGI applications, because every microsecond here is paid per webhook. SMS providers: ``sms_edge``.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from urllib.parse import parse_qs

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.clock import Clock, utc_now
from libs.common.errors import Permanent
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.producer import Record
from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger
from libs.common.providers.accounts import SmsAccounts
from libs.common.web import problem
from services.ingest import meta
from services.ingest.coalescing_producer import CoalescingProducer
from services.ingest.edge_answers import (
    Answer,
    header_of,
    last_of,
    log_answer,
    log_refused,
    not_allowed,
    publish,
    read_body,
    send_answer,
)
from services.ingest.edge_coverage import EdgeCoverage
from services.ingest.signature import is_meta_signature, same_token, signed_by_meta
from services.ingest.sms_edge import sms_apps

log = get_logger()

SPLIT_IN_PLACE = 256 * 1024
META_LIMIT = 3 * 1024 * 1024

PATIENCE_SECONDS = 3.0
"""How long a request may wait for Kafka before it gets 503."""


@dataclass(frozen=True, slots=True)
class EdgeConfig:
    """The secrets by which the edge verifies requests.

    Without an account's secrets, or ``public_url`` for Twilio's, callbacks of SMS providers are refused.
    """

    meta_secrets: tuple[bytes, ...] = field(repr=False)
    verify_token: bytes = field(repr=False)
    accounts: SmsAccounts
    public_url: str | None


class MetaEdge:
    """``GET /webhooks/meta``: the verification challenge. ``POST /webhooks/meta``: signed webhooks."""

    def __init__(
        self,
        *,
        secrets: Sequence[bytes],
        verify_token: bytes,
        producer: CoalescingProducer,
        now: Clock,
        coverage: EdgeCoverage,
    ) -> None:
        self._coverage = coverage
        self._secrets = secrets
        self._verify_token = verify_token
        self._refusals = LogThrottle()
        self._producer = producer
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        match scope["method"]:
            case "POST":
                began = perf_counter()
                try:
                    answer = await self._accept(scope, receive)
                except BaseException as error:  # a bug, or a stop that cancels the request
                    self._coverage.refused("failed" if isinstance(error, Exception) else "cut_short")
                    raise
                log_answer(self._refusals, "meta", answer, began)
                await send_answer(answer, send)
            case "GET":
                await self._verify_challenge(scope)(scope, receive, send)
            case "HEAD":  # a monitor asks whether the address is there
                await Response()(scope, receive, send)
            case _:
                await not_allowed(self._refusals, "meta", "GET, HEAD, POST")(scope, receive, send)

    def _verify_challenge(self, scope: Scope) -> Response:
        """200 and the raw challenge as text when the token is ours, else 403."""
        query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True, errors="replace")
        token, challenge = last_of(query, "hub.verify_token"), last_of(query, "hub.challenge")
        if (
            last_of(query, "hub.mode") == "subscribe"
            and challenge is not None
            and same_token(token, self._verify_token)
        ):
            log.info("webhook.received", source="meta", status=200, outcome="handshake")
            return PlainTextResponse(challenge)
        log_refused(self._refusals, "meta", 403, "handshake")
        return problem(403, "forbidden")

    async def _accept(self, scope: Scope, receive: Receive) -> Answer:
        signature = header_of(scope, b"x-hub-signature-256")
        if not is_meta_signature(signature):
            return Answer(403, "bad_signature", unread=True)
        answer = await self._accept_signed(scope, receive, signature or b"")
        if answer.status not in {200, 503}:
            self._coverage.refused(answer.outcome, "doubtful")
        return answer

    async def _accept_signed(self, scope: Scope, receive: Receive, signature: bytes) -> Answer:
        body = await read_body(scope, receive, META_LIMIT)
        if isinstance(body, Answer):
            return body
        if not signed_by_meta(body, signature, self._secrets):
            return Answer(403, "bad_signature")
        now = self._now()
        try:
            large = len(body) > SPLIT_IN_PLACE  # other requests are answered meanwhile
            split = await asyncio.to_thread(meta.read, body, now) if large else meta.read(body, now)
        except meta.NotJsonError:
            return Answer(400, "not_json")
        records = [Record(WEBHOOKS, *record) for record in split]
        try:
            return await self._publish(records)
        except Permanent:  # an item that grew beyond a record; the others go on beside the whole body
            whole = Record(WEBHOOKS, *await asyncio.to_thread(meta.whole, body, now, "too_large"))
            return await self._publish([*(record for record in records if record.fits()), whole])

    async def _publish(self, records: Sequence[Record]) -> Answer:
        ticket = self._coverage.begin_publish()
        try:
            answer = await publish(self._producer, records)
            if answer.status != 200:  # noqa: PLR2004 -- OK
                self._coverage.refused(answer.outcome)
            return answer
        finally:
            self._coverage.end_publish(ticket)


def edge_apps(config: EdgeConfig, producer: CoalescingProducer, coverage: EdgeCoverage) -> dict[str, ASGIApp]:
    """Ingest's own applications by exact path, also with a slash behind it. Providers do not follow redirects."""
    apps: dict[str, ASGIApp] = {
        "/webhooks/meta": MetaEdge(
            secrets=config.meta_secrets,
            verify_token=config.verify_token,
            producer=producer,
            now=utc_now,
            coverage=coverage,
        ),
        **sms_apps(config.accounts, config.public_url, producer, utc_now),
    }
    return apps | {f"{path}/": app for path, app in apps.items()}
