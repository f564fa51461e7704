"""The check of Meta's Graph API: token, app, accounts and numbers, and where webhooks go.

Only GET is used. The app's webhooks are read with the app's own token, which is its id and its secret: so it is seen
too whether ingest knows the secret.
"""

import asyncio
from collections.abc import Mapping, Sequence
from itertools import groupby

import aiohttp

from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.graph_rules import (
    app_faults,
    is_refused_token,
    number_faults,
    objects,
    refusal,
    subscribed_faults,
    template_faults,
    token_faults,
)
from deploy.cli.doctor.http import NoReply, Reply, ask, open_http
from deploy.cli.doctor.queries import WhatsappNumber
from deploy.cli.doctor.running import Tell, Told
from deploy.cli.doctor.site import GraphAccess, Site
from libs.common.addresses import segment
from libs.common.clock import utc_now

_SUBJECT = "Graph API"
_TOKEN = "TRANSOM_WHATSAPP_TOKEN"  # noqa: S105 -- the name of a variable
_MOST_ACCOUNTS = 40
_AT_ONCE = 8
_PAGE, _MOST_PAGES = "100", 20
_NUMBER_FIELDS = "id,display_phone_number,quality_rating,status,name_status,webhook_configuration"
_OK = 200


async def look_at_graph(site: Site, tell: Tell) -> None:
    if not site.serves("ingest", "whatsapp-sender", "inbox"):
        return
    if site.graph is None:
        tell(
            Finding(
                "graph_not_checked",
                _SUBJECT,
                "Nothing was looked at, because its settings are wrong.",
                "Mend the settings first.",
            )
        )
        return
    told = Told(tell)

    async with open_http() as http:
        await _Graph(http, site, site.graph, told).look()
    if told.is_good and not any(one.code == "graph_token_none" for one in told.findings):
        tell(Finding("graph_good", _SUBJECT, "Token, app, accounts and numbers are as they should be."))


class _Graph:
    def __init__(self, http: aiohttp.ClientSession, site: Site, access: GraphAccess, tell: Tell) -> None:
        self._http = http
        self._site = site
        self._access = access
        self._tell = tell
        self._wanted = None if site.public_url is None else f"{site.public_url.rstrip('/')}/webhooks/meta"
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def look(self) -> None:
        directory, answers = await asyncio.gather(self._site.directory(), self._answers())
        if directory is None and self._site.reads_directory:
            self._tell(
                Finding(
                    "graph_directory_unseen",
                    "directory",
                    "The directory could not be read from PostgreSQL, so no account and no number was looked at.",
                    "Mend PostgreSQL first.",
                )
            )
        numbers = () if directory is None else directory.numbers
        if directory is not None and not numbers:
            self._tell(Finding("graph_directory_empty", "directory", "The directory has no WhatsApp number yet."))
        by_token: dict[str, list[WhatsappNumber]] = {self._access.token: []} if self._access.token else {}
        for number in numbers:
            by_token.setdefault(number.token or self._access.token, []).append(number)
        if not answers:
            return
        if "" in by_token or not by_token:
            self._tell(
                Finding(
                    "graph_token_none",
                    _TOKEN,
                    "It is not set here, so no token, app, account or number was looked at with it.",
                    "Run doctor where the WhatsApp sender runs, which has it.",
                )
            )
        await asyncio.gather(*(self._look_with(token, of) for token, of in by_token.items() if token))

    async def _answers(self) -> bool:
        """Whether there is a Graph API at all; any answer will do."""
        reply = await ask(self._http, f"{self._access.base_url}/{self._access.version}/debug_token")
        if isinstance(reply, NoReply):
            code = "graph_certificate_bad" if reply.distrusted else "graph_silent" if reply.silent else None
            self._tell(
                Finding(
                    code or "graph_unreachable",
                    _SUBJECT,
                    f"It cannot be asked: {reply.why}.",
                    "See TRANSOM_GRAPH_BASE_URL, and whether this host may reach it.",
                )
            )
        return isinstance(reply, Reply)

    async def _look_with(self, token: str, numbers: Sequence[WhatsappNumber]) -> None:
        """Look at a token, and at the accounts of the numbers that it serves."""
        subject = _TOKEN if token == self._access.token else f"token of number {numbers[0].phone_number_id}"
        accounts = list(dict.fromkeys(one.waba_id for one in numbers))
        reply = await self._ask("debug_token", token, {"input_token": token})
        app_id: str | None = None
        match reply:
            case Reply(status=200, body={"data": dict(data)}):
                faults = list(token_faults(subject, data, accounts, utc_now()))
                for fault in faults:
                    self._tell(fault)
                if any(fault.code in ("token_invalid", "token_expired") for fault in faults):
                    return
                app_id = str(data["app_id"]) if data.get("app_id") else None
            case Reply():
                fault = refusal(subject, reply.status, reply.body)
                self._tell(fault)
                if fault.code in ("token_invalid", "token_expired"):
                    return
            case NoReply():
                self._tell(_unanswered(subject, reply))
                return
        if app_id is not None and token == self._access.token:
            await self._look_at_app(app_id)
        if len(accounts) > _MOST_ACCOUNTS:
            self._tell(
                Finding(
                    "graph_accounts_left_out",
                    subject,
                    f"Of {len(accounts)} accounts the first {_MOST_ACCOUNTS} were looked at.",
                )
            )
        chosen = sorted(numbers, key=lambda one: one.waba_id)
        of = {account: list(some) for account, some in groupby(chosen, key=lambda one: one.waba_id)}
        await asyncio.gather(
            *(self._look_at_account(account, of[account], token, app_id) for account in accounts[:_MOST_ACCOUNTS])
        )

    async def _look_at_app(self, app_id: str) -> None:
        """The app's webhooks, by the first of ingest's secrets that Meta accepts."""
        if not self._site.serves("ingest"):
            return
        if not self._access.app_secrets:
            self._tell(
                Finding(
                    "app_fields_unseen",
                    "app",
                    "Without TRANSOM_META_APP_SECRETS the app's webhooks cannot be read.",
                    "Set it, as ingest needs it.",
                )
            )
            return
        for place, secret in enumerate(self._access.app_secrets):
            reply = await self._ask(f"{segment(app_id)}/subscriptions", f"{app_id}|{secret}")
            if isinstance(reply, Reply) and reply.status == _OK and isinstance(reply.body.get("data"), list):
                if place:
                    self._tell(
                        Finding(
                            "app_secret_old",
                            "TRANSOM_META_APP_SECRETS",
                            f"Meta accepts the secret in place {place + 1}, and none before it.",
                            "Take the others away once no webhook is signed with them.",
                        )
                    )
                for fault in app_faults(reply.body, self._wanted):
                    self._tell(fault)
                return
            if isinstance(reply, NoReply):
                self._tell(_unanswered("app", reply))
                return
            if not is_refused_token(reply.status, reply.body):
                self._tell(refusal("app", reply.status, reply.body))
                return
        self._tell(
            Finding(
                "app_secret_wrong",
                "TRANSOM_META_APP_SECRETS",
                "Meta accepts none of the secrets for the token's app, so signatures of its webhooks are refused.",
                "Copy the app secret of the same app that the token is of.",
            )
        )

    async def _look_at_account(
        self, account: str, numbers: Sequence[WhatsappNumber], token: str, app_id: str | None
    ) -> None:
        found = await self._numbers(account, token)
        if found is None:
            return
        for fault in number_faults(numbers, found, self._wanted):
            self._tell(fault)
        subscribed = await self._ask(f"{segment(account)}/subscribed_apps", token)
        if (body := self._good(f"account {account}", subscribed)) is not None:
            for fault in subscribed_faults(account, body, app_id):
                self._tell(fault)
        query = {"fields": "name", "limit": "1", "summary": "message_template_count,message_template_limit"}
        templates = await self._ask(f"{segment(account)}/message_templates", token, query)
        if (body := self._good(f"account {account}", templates)) is not None:
            for fault in template_faults(account, body):
                self._tell(fault)

    async def _numbers(self, account: str, token: str) -> list[Mapping[str, object]] | None:
        """Every number that Meta lists for the account; None after telling why not."""
        found: list[Mapping[str, object]] = []
        after = ""
        for _ in range(_MOST_PAGES):
            query = {"fields": _NUMBER_FIELDS, "limit": _PAGE} | ({"after": after} if after else {})
            body = self._good(f"account {account}", await self._ask(f"{segment(account)}/phone_numbers", token, query))
            if body is None:
                return None
            found += objects(body.get("data"))
            paging = body.get("paging")
            cursors = paging.get("cursors") if isinstance(paging, dict) and paging.get("next") else None
            after = str(cursors.get("after") or "") if isinstance(cursors, dict) else ""
            if not after:
                break
        return found

    def _good(self, subject: str, reply: Reply | NoReply) -> Mapping[str, object] | None:
        """The body of a good answer; None after telling what is wrong."""
        if isinstance(reply, NoReply):
            self._tell(_unanswered(subject, reply))
            return None
        if reply.status != _OK or not isinstance(reply.body.get("data"), list):
            self._tell(refusal(subject, reply.status, reply.body))
            return None
        return reply.body

    async def _ask(self, path: str, token: str, query: Mapping[str, str] | None = None) -> Reply | NoReply:
        async with self._limit:
            return await ask(
                self._http,
                f"{self._access.base_url}/{self._access.version}/{path}",
                headers={"Authorization": f"Bearer {token}"},
                query=query,
            )


def _unanswered(subject: str, reply: NoReply) -> Finding:
    return Finding(
        "graph_silent" if reply.silent else "graph_unreachable",
        subject,
        f"A question about it was not answered: {reply.why}.",
        "Run transom doctor again.",
    )
