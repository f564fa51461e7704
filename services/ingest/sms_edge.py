"""The edge for callbacks of SMS providers: statuses of our SMS, and customers' SMS.

Rule 1: the account that a callback names chooses the secrets, and only a signature by one of these counts. The record
        names that account (``verified_account``).
Rule 2: only forms are taken, and no field twice. JSON is signed in other ways, which would be a second way in.
Rule 3: Twilio signs the address too. It is built from PUBLIC_URL, path and query, never from the Host header.
Rule 4: Vonage's callbacks carry their time. Beyond five minutes they are refused: a captured one is soon worth nothing.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import perf_counter
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.clock import Clock
from libs.common.events.directory import SmsProviderName
from libs.common.events.topics import WEBHOOKS
from libs.common.kafka.producer import Record
from libs.common.log_throttle import LogThrottle
from libs.common.providers.accounts import SmsAccounts
from services.ingest import twilio, vonage
from services.ingest.coalescing_producer import CoalescingProducer
from services.ingest.edge_answers import (
    Answer,
    header_of,
    last_of,
    log_answer,
    not_allowed,
    publish,
    read_body,
    send_answer,
)
from services.ingest.forms import read_form
from services.ingest.signature import is_twilio_signature, signed_by_twilio, signed_by_vonage, twilio_urls

TWILIO_LIMIT = 256 * 1024
VONAGE_LIMIT = 32 * 1024
"""Its signature is in the body, so the body is read before it is known who sends it."""
VONAGE_FRESH = timedelta(minutes=5)
_FORM_TYPE = b"application/x-www-form-urlencoded"
_SECONDS = re.compile(r"[0-9]{1,11}")

_Form = Mapping[str, str]
_Split = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class _Target:
    """The address of a request as it came: path and query."""

    path: str
    query: str

    @classmethod
    def of(cls, scope: Scope) -> "_Target":
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        return cls(path.decode("latin-1"), scope["query_string"].decode("latin-1"))


@dataclass(frozen=True, slots=True)
class TwilioCallbacks:
    """One kind of callback of Twilio. ``is_sms``: a customer's SMS, else a status."""

    accounts: SmsAccounts
    public_url: str | None
    is_sms: bool
    source: SmsProviderName = "twilio"
    limit: int = TWILIO_LIMIT
    twiml: bytes = b"<Response/>"

    def refused_unread(self, scope: Scope) -> Answer | None:
        """Why nothing of the body is read."""
        if self.public_url is None:
            return Answer(403, "not_configured", unread=True)
        signature = header_of(scope, b"x-twilio-signature")
        return None if is_twilio_signature(signature) else Answer(403, "bad_signature", unread=True)

    def read(self, scope: Scope, form: _Form, now: datetime) -> _Split | str:
        """The record, or why the callback is refused."""
        account, target = form.get("AccountSid", ""), _Target.of(scope)
        if not (tokens := self.accounts.signing("twilio", account)):
            return "unknown_account"
        signed = {name: (value,) for name, value in form.items()}
        urls = twilio_urls(self.public_url or "", target.path, target.query)
        if not signed_by_twilio(urls, signed, header_of(scope, b"x-twilio-signature"), tokens):
            return "bad_signature"
        if not twilio.is_split_as_sent(target.query, form, is_sms=self.is_sms):
            return "bad_form"
        if self.is_sms:
            return twilio.sms_record(form, now, account)
        return twilio.status_record(form, now, account, last_of(parse_qs(target.query, errors="replace"), "ref"))


@dataclass(frozen=True, slots=True)
class VonageCallbacks:
    """One kind of callback of Vonage, signed in a field of the form."""

    accounts: SmsAccounts
    record: Callable[[_Form, datetime, str], _Split]
    source: SmsProviderName = "vonage"
    limit: int = VONAGE_LIMIT
    twiml: bytes = b""

    def refused_unread(self, _scope: Scope) -> Answer | None:
        """Why nothing of the body is read: the signature is in the body."""
        return None

    def read(self, _scope: Scope, form: _Form, now: datetime) -> _Split | str:
        """The record, or why the callback is refused."""
        account = form.get("api-key", "")
        if not (secrets := self.accounts.signing("vonage", account)):
            return "unknown_account"
        if not signed_by_vonage(form, secrets):
            return "bad_signature"
        sent = form.get("timestamp", "")
        if not _SECONDS.fullmatch(sent) or abs(now.timestamp() - int(sent)) > VONAGE_FRESH.total_seconds():
            return "stale"
        return self.record(form, now, account)


class SmsEdge:
    """One address that an SMS provider calls."""

    def __init__(self, callbacks: TwilioCallbacks | VonageCallbacks, producer: CoalescingProducer, now: Clock) -> None:
        self._callbacks = callbacks
        self._refusals = LogThrottle()
        self._producer = producer
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kind = self._callbacks
        if scope["method"] != "POST":
            await not_allowed(self._refusals, kind.source, "POST")(scope, receive, send)
            return
        began = perf_counter()
        answer = await self._accept(scope, receive)
        log_answer(self._refusals, kind.source, answer, began)
        await send_answer(answer, send, kind.twiml)

    async def _accept(self, scope: Scope, receive: Receive) -> Answer:
        if (refused := self._callbacks.refused_unread(scope)) is not None:
            return refused
        content_type = (header_of(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
        if content_type != _FORM_TYPE:
            return Answer(415, "not_a_form", unread=True)
        body = await read_body(scope, receive, self._callbacks.limit)
        if isinstance(body, Answer):
            return body
        form = read_form(body)
        if form is None:
            return Answer(403, "bad_form")
        found = self._callbacks.read(scope, form, self._now())
        if isinstance(found, str):
            return Answer(403, found)
        return await publish(self._producer, [Record(WEBHOOKS, *found)])


def sms_apps(
    accounts: SmsAccounts, public_url: str | None, producer: CoalescingProducer, now: Clock
) -> dict[str, ASGIApp]:
    """The applications by path."""
    kinds: dict[str, TwilioCallbacks | VonageCallbacks] = {
        "/webhooks/twilio/status": TwilioCallbacks(accounts, public_url, is_sms=False),
        "/webhooks/twilio/sms": TwilioCallbacks(accounts, public_url, is_sms=True),
        "/webhooks/vonage/status": VonageCallbacks(accounts, vonage.status_record),
        "/webhooks/vonage/sms": VonageCallbacks(accounts, vonage.sms_record),
    }
    return {path: SmsEdge(kind, producer, now) for path, kind in kinds.items()}
