"""The check of the SMS accounts: credentials, state, and each organisation's number and where its SMS go.

Only GET is used. Vonage's default webhook of an account can be read by a POST alone, so it is not read.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

import aiohttp

from deploy.cli.doctor.findings import Finding
from deploy.cli.doctor.http import NoReply, Reply, ask, open_http
from deploy.cli.doctor.queries import SmsLine
from deploy.cli.doctor.running import Tell, Told
from deploy.cli.doctor.site import Site, SmsAccess
from deploy.cli.doctor.sms_rules import twilio_account, twilio_number, twilio_service, vonage_balance, vonage_number
from libs.common.addresses import segment
from libs.common.providers.accounts import SmsAccount

OfNumber = Callable[[str], Awaitable[None]]
_MOST_NUMBERS = 60
_AT_ONCE = 8
_OK, _UNAUTHORISED, _FORBIDDEN, _NOT_FOUND = 200, 401, 403, 404
_TWILIO, _TWILIO_MESSAGING = "https://api.twilio.com", "https://messaging.twilio.com"


async def look_at_sms(site: Site, tell: Tell) -> None:
    if not site.serves("ingest", "sms-bridge"):
        return
    if site.sms is None:
        tell(
            Finding(
                "sms_not_checked",
                "SMS accounts",
                "Nothing was looked at, because their settings are wrong.",
                "Mend the settings first.",
            )
        )
        return
    if not list(site.sms.accounts):
        tell(Finding("sms_none", "SMS accounts", "No account is configured, so no SMS is sent."))
        return
    told = Told(tell)

    async with open_http() as http:
        await _Sms(http, site, site.sms, told).look()
    if told.is_good:
        tell(Finding("sms_good", "SMS accounts", "Credentials and numbers are as they should be."))


class _Sms:
    def __init__(self, http: aiohttp.ClientSession, site: Site, access: SmsAccess, tell: Tell) -> None:
        self._http = http
        self._site = site
        self._access = access
        self._tell = tell
        self._limit = asyncio.Semaphore(_AT_ONCE)

    async def look(self) -> None:
        lines = asyncio.ensure_future(self._lines())
        await asyncio.gather(lines, *(self._look_at(one, lines) for one in self._accounts()))

    def _accounts(self) -> list[SmsAccount]:
        """Each account once: two names may lead to one."""
        return list({one.key.name: one for one in self._access.accounts}.values())

    async def _lines(self) -> Mapping[str, list[SmsLine]]:
        """The organisations of each account. What no account is for is told."""
        directory = await self._site.directory()
        if directory is None and self._site.reads_directory:
            self._tell(
                Finding(
                    "sms_directory_unseen",
                    "directory",
                    "The directory could not be read from PostgreSQL, so no number was looked at.",
                    "Mend PostgreSQL first.",
                )
            )
        lines: dict[str, list[SmsLine]] = {}
        for line in () if directory is None else directory.lines:
            account = self._access.accounts.of(line.sms_provider, line.sms_account)
            if account is not None:
                lines.setdefault(account.key.name, []).append(line)
            elif line.sms_active:
                self._tell(_no_account(line))
        return lines

    async def _look_at(self, account: SmsAccount, lines: Awaitable[Mapping[str, list[SmsLine]]]) -> None:
        look = self._look_at_twilio if account.key.provider == "twilio" else self._look_at_vonage
        if (of_number := await look(account)) is None:
            return
        of_account = (await lines).get(account.key.name, [])
        numbers = list(dict.fromkeys(line.sms_number for line in of_account if line.sms_number))
        if len(numbers) > _MOST_NUMBERS:
            self._tell(
                Finding(
                    "sms_numbers_left_out",
                    f"account {account.key.name}",
                    f"Of {len(numbers)} numbers the first {_MOST_NUMBERS} were looked at.",
                )
            )
        await asyncio.gather(*map(of_number, numbers[:_MOST_NUMBERS]))

    async def _look_at_twilio(self, account: SmsAccount) -> OfNumber | None:
        """Look at the account. Returns how one of its numbers is looked at; None where there is no use."""
        base, sid = self._access.twilio_base_url, account.key.account
        subject = f"account {account.key.name}"
        at = f"{base}/2010-04-01/Accounts/{segment(sid)}"
        body = await self._good(subject, f"{at}.json", account)
        if body is None:
            return None
        for fault in twilio_account(subject, body):
            self._tell(fault)
        inbound_elsewhere = False
        if account.messaging_service is not None:
            service = f"Messaging Service of {account.key.name}"
            messaging = _TWILIO_MESSAGING if base == _TWILIO else base
            found = await self._good(service, f"{messaging}/v1/Services/{segment(account.messaging_service)}", account)
            if found is not None:
                faults = list(twilio_service(service, found, self._wanted("twilio")))
                inbound_elsewhere = found.get("use_inbound_webhook_on_number") is False
                for fault in faults:
                    self._tell(fault)
        wanted = None if inbound_elsewhere else self._wanted("twilio")

        async def of_number(number: str) -> None:
            listed = await self._good(
                f"number {number}", f"{at}/IncomingPhoneNumbers.json", account, {"PhoneNumber": number}
            )
            if listed is not None:
                for fault in twilio_number(number, listed, wanted):
                    self._tell(fault)

        return of_number

    async def _look_at_vonage(self, account: SmsAccount) -> OfNumber | None:
        """As ``_look_at_twilio``."""
        base, subject = self._access.vonage_base_url, f"account {account.key.name}"
        body = await self._good(subject, f"{base}/account/get-balance", account)
        if body is None:
            return None
        for fault in vonage_balance(subject, body):
            self._tell(fault)

        async def of_number(number: str) -> None:
            query = {"pattern": number.lstrip("+"), "search_pattern": "0"}
            listed = await self._good(f"number {number}", f"{base}/account/numbers", account, query)
            if listed is not None:
                for fault in vonage_number(number, listed, self._wanted("vonage")):
                    self._tell(fault)

        return of_number

    def _wanted(self, provider: str) -> str | None:
        public = self._site.public_url
        return None if public is None else f"{public.rstrip('/')}/webhooks/{provider}/sms"

    async def _good(
        self, subject: str, url: str, account: SmsAccount, query: Mapping[str, str] | None = None
    ) -> Mapping[str, object] | None:
        """The body of a good answer; None after telling what is wrong."""
        credentials = aiohttp.encode_basic_auth(account.key.account, account.tokens[0])
        async with self._limit:
            reply = await ask(self._http, url, headers={"Authorization": credentials}, query=query)
        if isinstance(reply, Reply) and reply.status == _OK and reply.is_object:
            return reply.body
        self._tell(_refusal(subject, url, reply))
        return None


def _no_account(line: SmsLine) -> Finding:
    named = f"sms_account {line.sms_account}" if line.sms_account else f"provider {line.sms_provider or 'none'}"
    return Finding(
        "sms_account_unknown",
        f"organisation {line.org_id}",
        f"It sends by {named}, which has no account here.",
        "Add the account to TRANSOM_SMS_ACCOUNTS, or correct the organisation in the directory.",
    )


def _refusal(subject: str, url: str, reply: Reply | NoReply) -> Finding:
    host = urlsplit(url).hostname
    match reply:
        case NoReply(distrusted=True):
            return Finding(
                "sms_certificate_bad", subject, f"{host} is not trusted: {reply.why}.", "See this host's authorities."
            )
        case NoReply():
            return Finding(
                "sms_silent" if reply.silent else "sms_unreachable",
                subject,
                f"{host} cannot be asked: {reply.why}.",
                "See the base URL of the provider, and whether this host may reach it.",
            )
        case Reply(status=401 | 403):
            return Finding(
                "sms_credentials_refused",
                subject,
                f"The provider refuses the account's first credential (HTTP {reply.status}).",
                "Correct the account and its token or secret; the first of several is used for requests.",
            )
        case Reply(status=404):
            return Finding(
                "sms_service_unknown" if "Service" in subject else "sms_answer_strange",
                subject,
                "The provider does not know it (HTTP 404).",
                "Correct its id.",
            )
    return Finding(
        "sms_answer_strange", subject, f"The answer was HTTP {reply.status}, and was not understood.", "Try again."
    )
