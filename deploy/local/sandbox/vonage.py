"""Vonage's SMS API: send. An answer is HTTP 200 also where it refuses; nothing can be looked up."""

import hmac
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from aiohttp import web

from deploy.local.sandbox.clock import unix_now, utc
from deploy.local.sandbox.faults import apply_fault, outcome, response
from deploy.local.sandbox.schemas import Answer, Json
from deploy.local.sandbox.segments import BASIC, EXTENDED, split
from deploy.local.sandbox.webhooks import Webhook
from deploy.local.sandbox.world import World

PRICE = 0.0333
TTL = (20_000, 604_800_000)
REFERENCE_MOST = 100
TEXT_MOST = 3200
SENDER_ID_MOST = 11
THROTTLED, MISSING, INVALID, CREDENTIALS, TOO_LONG, SENDER, CALLBACK = 1, 2, 3, 4, 12, 15, 23
ERRORS = {
    1: "Throughput Rate Exceeded - please wait [ 250 ] and retry",
    2: "Missing {field}",
    3: "Invalid value for parameter: {field}",
    4: "Bad Credentials",
    5: "Internal Error",
    6: "Unroutable message - rejected",
    7: "Number barred",
    8: "Partner account barred",
    9: "Quota Exceeded - rejected",
    12: "Message too long",
    15: "Illegal Sender Address - rejected",
    23: "Invalid callback URL",
    29: "Non-Whitelisted Destination - rejected",
}
AT_ONCE = {"opted_out": 7, "region_blocked": 29}
"""What may be known of a number, with the status that its sends get at once."""
LATE = {"landline": ("rejected", 12), "unreachable": ("expired", 2)}
"""The same for what only the operator knows: the receipt's status and err-code."""


class VonageApi:
    """Sends texts. A repeated request is another message."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/sms/json", self.on_send)]

    async def on_send(self, request: web.Request) -> web.Response:
        """Take a message: HTTP 200 with one entry for each part, or with one that says why it was refused."""
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        world, sender, to = self._world, form.get("from"), form.get("to")
        fault = world.faults.strike("vonage", "send", sender, to)
        mode = None if fault is None else fault.mode

        def refuse(code: int | None, http: int | None) -> Answer:
            if http is not None:  # a fault of the platform itself
                return Answer(http, {"title": "Internal Error", "type": "about:blank"}, None)
            return refusal(code or (THROTTLED if mode == "throttle" else 5))

        calls = world.ledger.calls
        answer, alive = await apply_fault(world.faults, fault, request, lambda late: self._send(form, late), refuse)
        call: Json = {"at": unix_now(), "provider": "vonage", "endpoint": "send", "number": sender, "to": to}
        calls.add(call | outcome(answer, mode, alive=alive))
        return response(answer, alive=alive)

    def _send(self, form: Mapping[str, str], late_code: int | None) -> Answer:
        world = self._world
        refused = _wrong(form, world.secrets.vonage_key, world.secrets.vonage_secret)
        if refused is not None:
            return refused
        known = world.sms_recipients.get(f"+{form['to']}", "")
        if known in AT_ONCE:
            return refusal(AT_ONCE[known])
        now, parts = unix_now(), split(form["text"])
        ids = [secrets.token_hex(8).upper() for _ in parts]
        # without type=unicode Vonage writes a question mark for what GSM-7 has not
        text = form["text"] if form.get("type") == "unicode" else "".join(_plain(c) for c in form["text"])
        failure = late_code if late_code is not None else LATE.get(known, (None, None))[1]
        message: Json = {
            "to": f"+{form['to']}",
            "from": f"+{form['from']}" if form["from"].isdigit() else form["from"],
            "body": text,
            "num_segments": str(len(parts)),
            "ttl": form.get("ttl"),
            "client_ref": form.get("client-ref"),
            "parts": ids,
        }
        world.ledger.sms.add(
            {
                "at": now,
                "provider": "vonage",
                "sid": ids[0],
                "message": message,
                "callback": form.get("callback"),
                "failure": failure,
            }
        )
        for message_id in ids:
            self._report(form, message_id, failure, LATE.get(known, ("failed", 0))[0])
        entries = [
            {
                "to": form["to"],
                "message-id": message_id,
                "status": "0",
                "remaining-balance": "15.50000000",
                "message-price": f"{PRICE:.8f}",
                "network": "23410",
                **({"client-ref": form["client-ref"]} if "client-ref" in form else {}),
            }
            for message_id in ids
        ]
        return Answer(200, {"message-count": str(len(ids)), "messages": entries}, subject=ids[0])

    def _report(self, form: Mapping[str, str], message_id: str, failure: int | None, failed: str) -> None:
        """The receipts of one part, to the address that the request names."""
        if not form.get("callback") or form.get("status-report-req", "1") not in ("1", "true"):
            return
        rules = self._world.behaviour
        last = "delivered" if failure is None else failed
        steps: list[tuple[float, Webhook]] = []
        for status, delay in (("accepted", rules.sent_after), (last, rules.delivered_after)):
            code = failure if failure is not None and status == last else 0
            receipt = {
                "msisdn": form["to"],
                "to": form["from"],
                "network-code": "23410",
                "messageId": message_id,
                "price": f"{PRICE:.8f}",
                "status": status,
                "scts": utc(unix_now()).strftime("%y%m%d%H%M"),
                "err-code": str(code),
                "api-key": self._world.secrets.vonage_key,
                **({"client-ref": form["client-ref"]} if "client-ref" in form else {}),
            }
            steps.append((delay, Webhook("vonage", form["callback"], "status", message_id, status, receipt)))
        self._world.webhook_sender.chain(steps)


def refusal(code: int, field: str = "$to") -> Answer:
    """Vonage's refusal: HTTP 200, one entry without an id."""
    entry = {"status": str(code), "error-text": ERRORS.get(code, "Rejected").format(field=field)}
    return Answer(200, {"message-count": "1", "messages": [entry]}, code)


def _wrong(form: Mapping[str, str], key: str, secret: str) -> Answer | None:
    """The first thing that is wrong with the request."""
    for name in ("api_key", "api_secret", "from", "to", "text"):
        if not form.get(name):
            return refusal(MISSING, name)
    if form["api_key"] != key or not hmac.compare_digest(form["api_secret"].encode(), secret.encode()):
        return refusal(CREDENTIALS)
    sender, ttl, callback = form["from"], form.get("ttl"), form.get("callback")
    letters = sender.isascii() and sender.isalnum() and len(sender) <= SENDER_ID_MOST
    checks = (
        (not (form["to"].isdigit() and 7 <= len(form["to"]) <= 15), INVALID, "to"),  # noqa: PLR2004  E.164, no plus
        (not sender.isdigit() and not letters, SENDER, "from"),
        (form.get("type", "text") not in ("text", "unicode"), INVALID, "type"),
        (ttl is not None and not (ttl.isdigit() and TTL[0] <= int(ttl) <= TTL[1]), INVALID, "ttl"),
        (len(form.get("client-ref", "")) > REFERENCE_MOST, INVALID, "client-ref"),
        (len(form["text"]) > TEXT_MOST, TOO_LONG, "text"),
        (callback is not None and urlsplit(callback).scheme not in ("http", "https"), CALLBACK, "callback"),
    )
    return next((refusal(code, field) for wrong, code, field in checks if wrong), None)


def _plain(character: str) -> str:
    return character if character in BASIC or character in EXTENDED else "?"


def inbound_forms(key: str, phone: str, to: str, text: str) -> list[dict[str, str]]:
    """A customer's SMS as Vonage posts it: each part of a concatenated one by itself."""
    parts = split(text)
    unicode = any(_plain(character) == "?" != character for character in text)
    ref = str(secrets.randbelow(256))
    stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    return [
        {
            "msisdn": phone.lstrip("+"),
            "to": to.lstrip("+"),
            "messageId": secrets.token_hex(8).upper(),
            "text": part,
            "type": "unicode" if unicode else "text",
            "keyword": (text.split() or [""])[0].upper()[:20],
            "api-key": key,
            "message-timestamp": stamp,
            **(
                {
                    "concat": "true",
                    "concat-ref": ref,
                    "concat-total": str(len(parts)),
                    "concat-part": str(number),
                }
                if len(parts) > 1
                else {}
            ),
        }
        for number, part in enumerate(parts, 1)
    ]
