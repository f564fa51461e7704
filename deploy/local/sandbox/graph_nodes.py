"""Meta's reading endpoints: token, app, account and business number."""

import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web

from deploy.local.sandbox.clock import unix_now
from deploy.local.sandbox.faults import apply_fault, response
from deploy.local.sandbox.meta_errors import no_such_object, refusal, unauthorised
from deploy.local.sandbox.schemas import Answer, Json
from deploy.local.sandbox.templates import Number
from deploy.local.sandbox.world import World

PAGE, PAGE_MOST = 25, 100
THROTTLED = 4
EXPIRED, ACCESS_DENIED = 190, 200
MANAGEMENT = "whatsapp_business_management"


class GraphNodes:
    """Answers questions about what is registered. It changes nothing."""

    def __init__(self, world: World) -> None:
        self._world = world

    def routes(self) -> list[web.RouteDef]:
        version = r"/{version:v\d+\.0}"
        return [
            web.get(f"{version}/debug_token", self._asked(self._token)),
            web.get(rf"{version}/{{node:\d+}}/subscribed_apps", self._asked(self._subscribed)),
            web.get(rf"{version}/{{node:\d+}}/phone_numbers", self._asked(self._numbers)),
            web.get(rf"{version}/{{node:\d+}}/subscriptions", self._asked(self._subscriptions)),
            web.get(rf"{version}/{{node:\d+}}", self._asked(self._node)),
        ]

    def _asked(self, answer: Callable[[web.Request], Answer]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            node = request.match_info.get("node", "")
            fault = self._world.faults.strike("meta", "fetch", node, None)

            def refuse(code: int | None, http: int | None) -> Answer:
                throttled = fault is not None and fault.mode == "throttle"
                return refusal(code or (THROTTLED if throttled else 1), http=http)

            found, alive = await apply_fault(self._world.faults, fault, request, lambda _late: answer(request), refuse)
            return response(found, alive=alive)

        return handle

    def _bearer(self, request: web.Request) -> str | None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None

    def _is_good(self, token: str) -> bool:
        world = self._world
        good = [*world.secrets.graph_tokens, *(one.token for one in world.numbers.values() if one.token)]
        known = any(hmac.compare_digest(token.encode(), one.encode()) for one in good)
        return known and not 0 < world.app.expires_at <= unix_now()

    def _is_app(self, token: str) -> bool:
        """Whether it is the app's own: its id and secret."""
        mine = f"{self._world.app.app_id}|{self._world.secrets.app_secret}"
        return hmac.compare_digest(token.encode(), mine.encode())

    def _refused(self, request: web.Request, account: str | None = None) -> Answer | None:
        """Of a caller who may not see this account."""
        token = self._bearer(request)
        if token is None:
            return unauthorised(104)
        if not self._is_good(token):
            return unauthorised(EXPIRED)
        app = self._world.app
        if MANAGEMENT not in app.scopes:
            return refusal(ACCESS_DENIED, http=403)
        if account is not None and app.only_accounts is not None and account not in app.only_accounts:
            return no_such_object(account)
        return None

    def _token(self, request: web.Request) -> Answer:
        token, asked = self._bearer(request), request.query.get("input_token", "")
        if token is None:
            return unauthorised(104)
        if not (self._is_good(token) or self._is_app(token)):
            return unauthorised(EXPIRED)
        app = self._world.app
        if not self._is_good(asked):
            error = {"code": 190, "message": "Invalid OAuth access token."}
            return Answer(200, {"data": {"error": error, "is_valid": False, "scopes": []}})
        accounts = sorted({one.waba_id for one in self._world.numbers.values()})
        allowed = accounts if app.only_accounts is None else app.only_accounts
        granted = [one for one in app.scopes if one.startswith("whatsapp")]
        data: Json = {
            "app_id": app.app_id,
            "type": "SYSTEM_USER",
            "application": app.name,
            "data_access_expires_at": 0,
            "expires_at": app.expires_at,
            "is_valid": True,
            "issued_at": int(unix_now()) - 3600,
            "scopes": list(app.scopes),
            "granular_scopes": [{"scope": one, "target_ids": list(allowed)} for one in granted],
            "user_id": "10222270944537964",
        }
        return Answer(200, {"data": data})

    def _subscribed(self, request: web.Request) -> Answer:
        account, app = request.match_info["node"], self._world.app
        if (refused := self._refused(request, account)) is not None:
            return refused
        if self._world.numbers_of(account) is None:
            return no_such_object(account)
        one = {"id": app.app_id, "link": f"https://www.facebook.com/games/?app_id={app.app_id}", "name": app.name}
        there = account not in app.unsubscribed_accounts
        return Answer(200, {"data": [{"whatsapp_business_api_data": one}] if there else []})

    def _subscriptions(self, request: web.Request) -> Answer:
        """The app's webhooks; an app's own token sees them, and no other."""
        app, token = self._world.app, self._bearer(request)
        if token is None:
            return unauthorised(104)
        if request.match_info["node"] != app.app_id or not self._is_app(token):
            return unauthorised(EXPIRED)
        if not app.object_subscribed:
            return Answer(200, {"data": []})
        fields = [{"name": name, "version": request.match_info["version"]} for name in app.fields]
        one: Json = {
            "object": "whatsapp_business_account",
            "callback_url": self._callback(),
            "active": app.active,
            "fields": fields,
        }
        return Answer(200, {"data": [one]})

    def _callback(self) -> str:
        return self._world.app.callback_url or self._world.behaviour.webhook_url

    def _numbers(self, request: web.Request) -> Answer:
        account = request.match_info["node"]
        if (refused := self._refused(request, account)) is not None:
            return refused
        found = self._world.numbers_of(account)
        if found is None:
            return no_such_object(account)
        try:
            limit = min(max(int(request.query.get("limit", PAGE)), 1), PAGE_MOST)
            start = int(request.query.get("after", 0) or 0)
        except ValueError:
            return refusal(100)
        page = found[start : start + limit]
        body: Json = {"data": [self._shown(one, request) for one in page]}
        if page:
            body["paging"] = {"cursors": {"before": str(start), "after": str(start + len(page))}}
            if start + limit < len(found):
                body["paging"]["next"] = f"{request.url.origin()}{request.path}?after={start + len(page)}"
        return Answer(200, body)

    def _node(self, request: web.Request) -> Answer:
        node = request.match_info["node"]
        number = self._world.number(node)
        account = node if number is None else number.waba_id
        if (refused := self._refused(request, account)) is not None:
            return refused
        if number is not None:
            return Answer(200, self._shown(number, request))
        if self._world.numbers_of(node) is None:
            return no_such_object(node)
        return Answer(200, {"id": node, "name": self._world.app.name})

    def _shown(self, number: Number, request: web.Request) -> Json:
        everything: Json = {
            "verified_name": number.verified_name,
            "display_phone_number": number.shown_number or number.display_number,
            "quality_rating": number.quality,
            "code_verification_status": "VERIFIED",
            "platform_type": "CLOUD_API",
            "status": number.status,
            "name_status": number.name_status,
            "webhook_configuration": {"application": self._callback()}
            | ({} if number.webhook_url is None else {"phone_number": number.webhook_url}),
        }
        usual = ["verified_name", "code_verification_status", "display_phone_number", "quality_rating", "platform_type"]
        asked = [name for name in request.query.get("fields", "").split(",") if name] or usual
        return {name: everything[name] for name in asked if name in everything} | {"id": number.phone_number_id}
