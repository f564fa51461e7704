"""Twilio's Messages resource: send, fetch, list; and the files of an MMS."""

import base64
import binascii
import hmac
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from urllib.parse import urlencode

from aiohttp import web

from deploy.local.sandbox.clock import unix_now, utc
from deploy.local.sandbox.faults import Endpoint, apply_fault, outcome, response
from deploy.local.sandbox.schemas import Answer, Json
from deploy.local.sandbox.twilio_rules import PRICE, Text, callback_form, judge, refusal, resource
from deploy.local.sandbox.twilio_texts import as_sent, as_shown, masked_number
from deploy.local.sandbox.webhooks import Webhook
from deploy.local.sandbox.world import World

THROTTLED, SERVER, UNREACHABLE = 20429, 20500, 30003
UNDELIVERED = frozenset({30003, 30004, 30005, 30006, 30007, 30008, 30036, 30042, 30410})
"""Codes that come after the operator took the message; the others make it ``failed`` before it was sent."""
PAGE, PAGE_MOST = 50, 1000


Work = Callable[[int | None], Answer]


class TwilioApi:
    """Sends texts. A repeated request is another message."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        """The four endpoints."""
        base = "/2010-04-01/Accounts/{account}/Messages"
        return [
            web.post(f"{base}.json", self.on_send),
            web.get(f"{base}.json", self.on_list),
            web.get(f"{base}/{{sid}}.json", self.on_fetch),
            web.get(f"{base}/{{sid}}/Media.json", self.on_files),
        ]

    async def on_send(self, request: web.Request) -> web.Response:
        """Take a message: 201 with its resource."""
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        return await self._answer(
            request, "send", form.get("From"), form.get("To"), lambda late: self._send(form, late)
        )

    async def on_fetch(self, request: web.Request) -> web.Response:
        """One message as it stands."""
        return await self._answer(request, "fetch", None, None, lambda _late: self._fetch(request.match_info["sid"]))

    async def on_files(self, request: web.Request) -> web.Response:
        """Where the files of a customer's MMS are."""
        return await self._answer(request, "fetch", None, None, lambda _late: self._files(request.match_info["sid"]))

    async def on_list(self, request: web.Request) -> web.Response:
        """Messages taken, refused at their creation (HTTP 400) or received, newest first, a page at a time."""
        query = request.query
        return await self._answer(
            request, "list", query.get("From"), query.get("To"), lambda _late: self._list(request)
        )

    async def _answer(
        self, request: web.Request, endpoint: Endpoint, sender: str | None, to: str | None, work: Work
    ) -> web.Response:
        world = self._world
        fault = world.faults.strike("twilio", endpoint, sender, to)
        mode = None if fault is None else fault.mode

        def refuse(code: int | None, http: int | None) -> Answer:
            return refusal(
                code or (THROTTLED if mode == "throttle" else SERVER), http=http, to=to or "", sender=sender or ""
            )

        def process(late_code: int | None) -> Answer:
            return work(late_code) if self._authorised(request) else refusal(20003)

        calls = world.ledger.calls  # after a reset during this call, its record belongs to the old ledger
        answer, alive = await apply_fault(world.faults, fault, request, process, refuse)
        call: Json = {"at": unix_now(), "provider": "twilio", "endpoint": endpoint, "number": sender, "to": to}
        calls.add(call | outcome(answer, mode, alive=alive))
        return response(answer, alive=alive)

    def _authorised(self, request: web.Request) -> bool:
        keys = self._world.secrets
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        try:
            plain = base64.b64decode(given.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        right = hmac.compare_digest(plain, f"{keys.twilio_sid}:{keys.twilio_token}".encode())
        return scheme.lower() == "basic" and right and request.match_info["account"] == keys.twilio_sid

    def _send(self, form: dict[str, str], late_code: int | None) -> Answer:
        world = self._world
        text = judge(form, world.sms_recipients)
        if isinstance(text, Answer):
            self._record_refusal(form, text)
            return text
        if late_code is None and world.sms_recipients.get(text.to) == "unreachable":
            late_code = UNREACHABLE
        text = replace(text, body=as_sent(text.body, world.behaviour))
        now, sid = unix_now(), "SM" + secrets.token_hex(16)
        created = resource(world.secrets.twilio_sid, sid, text, now) | {"price_unit": world.sms_account.currency}
        message = dict(created)
        world.ledger.sms.add(
            {"at": now, "provider": "twilio", "sid": sid, "message": message}
            | {"callback": text.callback, "failure": late_code}
        )
        self._deliver(message, text, late_code, now)
        return Answer(201, created, subject=sid)

    def _record_refusal(self, form: dict[str, str], answer: Answer) -> None:
        """Record a refused creation. Twilio lists it too, and posts no callback about it."""
        if answer.status != 400:  # noqa: PLR2004  only what Twilio understood and refused
            return
        now, sid = unix_now(), "SM" + secrets.token_hex(16)
        to, sender, service = form.get("To") or "", form.get("From"), form.get("MessagingServiceSid")
        body = as_sent(form.get("Body") or "", self._world.behaviour)
        message = resource(self._world.secrets.twilio_sid, sid, Text(to, sender, service, body, None), now)
        message |= {"status": "failed", "error_code": answer.code, "error_message": answer.body["message"]}
        self._world.ledger.refused_sms.add({"at": now, "sid": sid, "message": message})

    def _recorded(self) -> list[Json]:
        """Every message that has a record, newest first."""
        ledger = self._world.ledger
        sent = (record for record in ledger.sms.newest_first() if record["provider"] == "twilio")
        every = [*sent, *ledger.refused_sms.newest_first(), *ledger.received_sms.newest_first()]
        return sorted(every, key=lambda record: -record["at"])

    def _deliver(self, message: Json, text: Text, late_code: int | None, now: float) -> None:
        """Set the final state of the message, which the list shows when it is sent, and schedule its callbacks."""
        rules = self._world.behaviour
        if not rules.webhooks:
            return
        message["status"], message["error_code"] = "delivered", late_code
        if late_code is not None:
            message["status"] = "undelivered" if late_code in UNDELIVERED else "failed"
        if message["status"] != "failed":
            after = now + rules.sent_after
            message["date_sent"] = message["date_updated"] = format_datetime(utc(after))
            message["price"] = f"-{PRICE * int(message['num_segments']):.5f}"
        if text.callback is None:
            return
        middle = [] if message["status"] == "failed" else ["sent"]
        stages = ["queued", *middle, message["status"]]
        delays = [rules.sent_after / 2, *([rules.sent_after / 2] if middle else []), rules.delivered_after]
        shown = message | ({"to": masked_number(text.to)} if rules.sms_redact_numbers else {})
        steps: list[tuple[float, Webhook]] = []
        for stage, delay in zip(stages, delays, strict=True):
            steps.append(
                (delay, Webhook("twilio", text.callback, "status", message["sid"], stage, callback_form(shown, stage)))
            )
        self._world.webhook_sender.chain(steps)

    def _fetch(self, sid: str) -> Answer:
        for record in self._recorded():
            if record["sid"] == sid:
                return Answer(200, self._as_it_stands(record), subject=sid)
        return refusal(20404)

    def _files(self, sid: str) -> Answer:
        for record in self._world.ledger.received_sms.newest_first():
            if record["sid"] == sid:
                return Answer(200, {"media_list": record["files"]})
        return refusal(20404)

    def _as_it_stands(self, record: Json) -> Json:
        """The message as the API shows it: queued until it is sent."""
        message: Json = record["message"]
        if message["status"] in ("failed", "received") or unix_now() >= record["at"] + self._world.behaviour.sent_after:
            return as_shown(message, self._world.behaviour)
        status = "accepted" if message["messaging_service_sid"] else "queued"
        unsent = {"status": status, "date_sent": None, "price": None, "error_code": None}
        return message | unsent | {"date_updated": message["date_created"]}

    def _list(self, request: web.Request) -> Answer:
        """A ``DateSent`` filter leaves out what is not sent yet. ``To`` is compared with the number as it is shown."""
        query = request.query
        try:
            size = min(PAGE_MOST, max(1, int(query.get("PageSize", PAGE))))
            page = max(0, int(query.get("Page", 0)))
            since, until = _instant(query.get("DateSent>")), _instant(query.get("DateSent<"), end=True)
            on = _instant(query.get("DateSent"))
        except ValueError:
            return refusal(20001)
        found = []
        until_now = unix_now() - self._world.behaviour.sms_list_lag
        for record in self._recorded():
            if record["at"] > until_now:
                continue
            message = self._as_it_stands(record)
            sent = parsedate_to_datetime(message["date_sent"]) if message["date_sent"] else None
            wrong_party = query.get("To") not in (None, message["to"]) or query.get("From") not in (
                None,
                message["from"],
            )
            wrong_time = any((since, until, on)) and (
                sent is None
                or (since and sent < since)
                or (until and sent >= until)
                or (on and not on <= sent < on + timedelta(days=1))
            )
            if not wrong_party and not wrong_time:
                found.append(message)
        return Answer(200, self._page(request, found, page, size))

    def _page(self, request: web.Request, found: list[Json], page: int, size: int) -> Json:
        """One page in Twilio's envelope; ``next_page_uri`` is None on the last."""

        def uri(number: int) -> str:
            query = [
                (name, value) for name, value in request.query.items() if name not in ("Page", "PageSize", "PageToken")
            ]
            return request.path + "?" + urlencode([*query, ("PageSize", str(size)), ("Page", str(number))])

        start = page * size
        items = found[start : start + size]
        return {
            "first_page_uri": uri(0),
            "end": start + len(items) - 1 if items else start,
            "previous_page_uri": uri(page - 1) if page else None,
            "messages": items,
            "uri": uri(page),
            "page_size": size,
            "start": start,
            "next_page_uri": uri(page + 1) if start + size < len(found) else None,
            "page": page,
        }


def _instant(text: str | None, *, end: bool = False) -> datetime | None:
    """A ``DateSent`` filter: a day (all of it) or an instant, in UTC; raises ``ValueError`` for anything else."""
    if text is None:
        return None
    if len(text) == len("2026-11-22"):
        day = datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC)
        return day + timedelta(days=1) if end else day
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
