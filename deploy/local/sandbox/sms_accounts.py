"""What Twilio and Vonage say about an account and its numbers."""

import base64
import binascii
import hmac
from collections.abc import Callable

from aiohttp import web

from deploy.local.sandbox.accounts import SmsNumber
from deploy.local.sandbox.faults import Provider, apply_fault, response
from deploy.local.sandbox.schemas import Answer, Json
from deploy.local.sandbox.twilio import SERVER, THROTTLED
from deploy.local.sandbox.twilio_rules import refusal
from deploy.local.sandbox.world import World

PAGE = 50


class SmsAccountsApi:
    """Reads only. Every number exists at both, unless the control API says otherwise."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/2010-04-01/Accounts/{account}.json", self._account),
            web.get("/2010-04-01/Accounts/{account}/IncomingPhoneNumbers.json", self._numbers),
            web.get("/v1/Services/{service}", self._service),
            web.get("/account/get-balance", self._balance),
            web.get("/account/numbers", self._vonage_numbers),
        ]

    def _twilio(self, request: web.Request, account: str | None) -> Answer | None:
        """The refusal of a caller who is not this account; None lets it pass."""
        keys = self._world.secrets
        if _is_basic(request, f"{keys.twilio_sid}:{keys.twilio_token}") and account in (None, keys.twilio_sid):
            return None
        return refusal(20003)

    async def _struck(self, provider: Provider, request: web.Request, read: Callable[[], Answer]) -> web.Response:
        """The answer to a read of the account, unless a fault strikes it."""
        faults = self._world.faults
        struck = faults.strike(provider, "account", None, None)

        def refuse(code: int | None, http: int | None) -> Answer:
            return refusal(code or (THROTTLED if http is None else SERVER), http=http)

        answer, alive = await apply_fault(faults, struck, request, lambda _late: read(), refuse)
        return response(answer, alive=alive)

    async def _account(self, request: web.Request) -> web.Response:
        sid = request.match_info["account"]
        account = self._world.sms_account
        shown: Json = {
            "sid": sid,
            "friendly_name": "Sandbox",
            "status": account.status,
            "type": account.type,
            "owner_account_sid": sid,
            "uri": request.path,
        }
        return await self._struck("twilio", request, lambda: self._twilio(request, sid) or Answer(200, shown))

    async def _numbers(self, request: web.Request) -> web.Response:
        sid = request.match_info["account"]
        if (refused := self._twilio(request, sid)) is not None:
            return response(refused, alive=True)
        asked = request.query.get("PhoneNumber", "")
        known = self._world.sms_numbers.get(asked, SmsNumber())
        found = [self._number(sid, asked, known)] if asked and known.exists else []
        page: Json = {"incoming_phone_numbers": found, "page": 0, "page_size": PAGE, "next_page_uri": None}
        return web.json_response(page)

    def _number(self, sid: str, phone: str, number: SmsNumber) -> Json:
        return {
            "sid": "PN" + phone.lstrip("+").zfill(32),
            "account_sid": sid,
            "friendly_name": phone,
            "phone_number": phone,
            "capabilities": {"voice": True, "sms": number.sms, "mms": False, "fax": False},
            "sms_url": self._world.behaviour.sms_url if number.webhook_url is None else number.webhook_url,
            "sms_method": "POST",
            "sms_application_sid": "",
            "status": "in-use",
        }

    async def _service(self, request: web.Request) -> web.Response:
        if (refused := self._twilio(request, None)) is not None:
            return response(refused, alive=True)
        account = self._world.sms_account
        if not account.messaging_service_exists:
            answer = refusal(20404)
            return web.json_response(answer.body, status=answer.status)
        return web.json_response(
            {
                "sid": request.match_info["service"],
                "account_sid": self._world.secrets.twilio_sid,
                "friendly_name": "Sandbox",
                "inbound_request_url": account.inbound_request_url,
                "inbound_method": "POST",
                "use_inbound_webhook_on_number": account.inbound_request_url is None,
            }
        )

    def _vonage(self, request: web.Request) -> Answer | None:
        keys = self._world.secrets
        if _is_basic(request, f"{keys.vonage_key}:{keys.vonage_secret}"):
            return None
        return Answer(401, {"error-code": "401", "error-code-label": "authentication failed"})

    async def _balance(self, request: web.Request) -> web.Response:
        shown: Json = {"value": self._world.sms_account.balance, "autoReload": False}
        return await self._struck("vonage", request, lambda: self._vonage(request) or Answer(200, shown))

    async def _vonage_numbers(self, request: web.Request) -> web.Response:
        if (refused := self._vonage(request)) is not None:
            return response(refused, alive=True)
        asked = request.query.get("pattern", "")
        known = self._world.sms_numbers.get(f"+{asked}", SmsNumber())
        if not asked or not known.exists:
            return web.json_response({})
        url = self._world.behaviour.vonage_sms_url if known.webhook_url is None else known.webhook_url
        one: Json = {
            "country": "GB",
            "msisdn": asked,
            "type": "mobile-lvn",
            "features": ["SMS", "VOICE"] if known.sms else ["VOICE"],
        } | ({"moHttpUrl": url} if url else {})
        return web.json_response({"count": 1, "numbers": [one]})


def _is_basic(request: web.Request, wanted: str) -> bool:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    try:
        plain = base64.b64decode(given.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    return scheme.lower() == "basic" and hmac.compare_digest(plain, wanted.encode())
