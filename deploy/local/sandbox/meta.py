"""Meta's messages endpoint: ``POST /{version}/{phone_number_id}/messages``."""

import base64
import binascii
import hmac
import json
import secrets
from typing import Any

from aiohttp import web

from deploy.local.sandbox.clock import unix_now
from deploy.local.sandbox.faults import apply_fault, outcome, response
from deploy.local.sandbox.meta_errors import no_such_object, refusal, unauthorised
from deploy.local.sandbox.meta_rules import SendRequest, judge
from deploy.local.sandbox.schemas import Answer, Json
from deploy.local.sandbox.templates import Number
from deploy.local.sandbox.webhooks import Person, Webhook, meta_status
from deploy.local.sandbox.world import World

REENGAGEMENT = 131047
THROTTLED = 130429
FAILED, FAILED_HTTP = 131000, 500
STRANGE = 135000


def new_wamid(user: str) -> str:
    """A message id that looks like Meta's: base64 of a little structure with the user in it."""
    who, rest = user.encode(), binascii.hexlify(secrets.token_bytes(9)).upper()
    packed = b"\x1c\x18" + bytes([len(who) % 256]) + who + b"\x15\x02\x00\x11\x18\x12" + rest + b"\x00"
    return "wamid." + base64.b64encode(packed).decode()


class MetaApi:
    """Judges sends by Meta's rules and the windows, and plans their statuses."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        return [web.post(r"/{version:v\d+\.0}/{number_id}/messages", self.on_send)]

    async def on_send(self, request: web.Request) -> web.Response:
        world, number_id = self._world, request.match_info["number_id"]
        raw = await request.read()
        try:
            body: Any = json.loads(raw)
        except ValueError:
            body = None
        to = str(body.get("to") or body.get("recipient") or "") if isinstance(body, dict) else ""
        fault = world.faults.strike("meta", "send", number_id, to)
        mode = None if fault is None else fault.mode

        def process(late_code: int | None) -> Answer:
            return self._process(request.headers.get("Authorization", ""), number_id, body, late_code)

        def refuse(code: int | None, http: int | None) -> Answer:
            usual = THROTTLED if mode == "throttle" else FAILED if http is None or http >= FAILED_HTTP else STRANGE
            return refusal(code or usual, http=http)

        calls = world.ledger.calls  # after a reset during this call, its record belongs to the old ledger
        answer, alive = await apply_fault(world.faults, fault, request, process, refuse)
        callback = body.get("biz_opaque_callback_data") if isinstance(body, dict) else None
        call: Json = {"at": unix_now(), "provider": "meta", "endpoint": "send", "number": number_id, "to": to}
        calls.add(call | {"callback": callback} | outcome(answer, mode, alive=alive))
        return response(answer, alive=alive)

    def _process(self, authorization: str, number_id: str, body: Any, late_code: int | None) -> Answer:
        """Accept or refuse. An accepted message is in the ledger, and its statuses are scheduled."""
        number = self._world.number(number_id)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            return unauthorised(104)
        wanted = [*self._world.secrets.graph_tokens, *([number.token] if number is not None and number.token else [])]
        if not any(hmac.compare_digest(token.strip().encode(), good.encode()) for good in wanted):
            return unauthorised(190)
        if number is None:
            return no_such_object(number_id)
        if isinstance(body, dict) and body.get("status") == "read":
            return Answer(200, {"success": True}) if isinstance(body.get("message_id"), str) else refusal(100)
        self._world.templates.settle(unix_now())
        try:
            ask = judge(body, number, self._world.templates)
        except (AttributeError, TypeError, KeyError):  # some part was of another JSON type than Meta's schema allows
            return refusal(100)
        return ask if isinstance(ask, Answer) else self._accept(number, ask, body, late_code)

    def _accept(self, number: Number, ask: SendRequest, body: Json, late_code: int | None) -> Answer:
        world, now = self._world, unix_now()
        rules = world.behaviour
        wa_id = None if ask.wa_id is None else world.customers.wa_id_of(ask.wa_id)
        bsuid = ask.bsuid or world.customers.bsuid_of(wa_id or "")
        is_open = world.windows.is_open(number.phone_number_id, bsuid, now, rules.day_seconds)
        if ask.free_form and not is_open and late_code is None:
            if rules.reengagement == "sync":
                return refusal(REENGAGEMENT)
            late_code = REENGAGEMENT
        wamid = new_wamid(wa_id or bsuid)
        world.ledger.messages.add(
            {
                "at": now,
                "phone_number_id": number.phone_number_id,
                "wamid": wamid,
                "to": ask.input,
                "wa_id": wa_id,
                "user_id": bsuid,
                "type": ask.type,
                "callback": ask.callback,
                "window_open": is_open,
                "failure": late_code,
                "body": body,
            }
        )
        if rules.webhooks:
            world.webhook_sender.chain(
                self._planned_statuses(
                    number, ask, Person(wa_id, bsuid, world.customers.name_of(bsuid)), wamid, late_code
                )
            )
        who = {"user_id": bsuid} if wa_id is None or world.customers.hides(wa_id) else {"wa_id": wa_id}
        contact = {"input": ask.input, **who}
        return Answer(
            200, {"messaging_product": "whatsapp", "contacts": [contact], "messages": [{"id": wamid}]}, subject=wamid
        )

    def _planned_statuses(
        self, number: Number, ask: SendRequest, person: Person, wamid: str, code: int | None
    ) -> list[tuple[float, Webhook]]:
        """The statuses this message will have, with the delay before each."""
        rules, url, at = self._world.behaviour, self._world.webhook_url(number), unix_now()

        def status(name: str, after: float, *, priced: bool = False, code: int | None = None) -> Webhook:
            return meta_status(
                number, url, person, ask, wamid=wamid, status=name, at=int(at + after), priced=priced, code=code
            )

        if code is not None:
            return [(rules.failed_after, status("failed", rules.failed_after, code=code))]
        implied = rules.read_receipts and self._world.rng.random() < rules.implied_delivery
        delivered = rules.sent_after + rules.delivered_after
        steps = [(rules.sent_after, status("sent", rules.sent_after, priced=True))]
        if not implied:
            steps.append((rules.delivered_after, status("delivered", delivered, priced=True)))
        if rules.read_receipts:
            steps.append((rules.read_after, status("read", delivered + rules.read_after, priced=implied)))
        return steps
