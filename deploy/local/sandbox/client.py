"""An async client of the sandbox's control API, for demo, end-to-end tests and bench."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp

from deploy.local.sandbox.faults import Fault, Mode, Provider
from deploy.local.sandbox.schemas import Json
from deploy.local.sandbox.webhook_sender import Order

PATIENCE = aiohttp.ClientTimeout(total=30)
PAGE = 1000


class SandboxError(Exception):
    """A control call was refused; the message is the sandbox's sentence. Mend the call."""


class SandboxClient:
    """Plays customers, causes faults, and returns what the providers saw.

    An async context manager; ``url`` is the address of the ready line. Times are unix seconds.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=PATIENCE)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def health(self) -> Json:
        """Totals of calls, messages, sms, webhooks since the reset, and what is outstanding."""
        return await self._call("GET", "health")

    async def reset(self) -> None:
        """Everything as at the start: ledgers, windows, faults, settings, registered numbers and templates."""
        await self._call("POST", "reset")

    async def employ(self, user_id: str, **fields: Any) -> None:
        """Somebody who can sign in: ``name``, ``role``, ``tenant``, ``capabilities``."""
        await self._call("POST", "oidc/people", {"user_id": user_id, **fields})

    async def colleagues(self) -> list[Json]:
        """Everybody who can sign in."""
        return list((await self._call("GET", "oidc/people"))["people"])

    async def sign_in_ticket(self, user_id: str) -> str:
        """A ticket that signs this person in, once, as ``login_hint``."""
        return str((await self._call("POST", "oidc/tickets", {"user_id": user_id}))["ticket"])

    async def say_claims(self, **claims: Any) -> None:
        """What ID tokens say from now on instead of what is true."""
        await self._call("PUT", "oidc/claims", claims)

    async def configure(self, **settings: Any) -> Json:
        """Change settings (the fields of ``Behaviour``); answers all of them."""
        return await self._call("PATCH", "config", settings)

    async def number(self, phone_number_id: str, **fields: Any) -> Json:
        """Register a business number: ``waba_id``, ``display_number``, ``webhook_url``, ``token``.

        Once one is registered, all others are unknown to Meta.
        """
        return await self._call("POST", "numbers", {"phone_number_id": phone_number_id, **fields})

    async def template(self, name: str, language: str, body: str, **fields: Any) -> Json:
        """Register a template: ``category``, ``parameter_format``, ``status``, ``header``, ``buttons``, ``waba_id``."""
        return await self._call("POST", "templates", {"name": name, "language": language, "body": body, **fields})

    async def template_decided(self, waba_id: str, name: str, language: str, **what: Any) -> Json:
        """Meta decides about a template by itself: ``event`` and ``reason``, ``category``, ``quality``, ``components``.

        ``webhook=False``: it tells nobody.
        """
        return await self._call(
            "POST", "templates/decided", {"waba_id": waba_id, "name": name, "language": language, **what}
        )

    async def template_calls(self) -> list[Json]:
        """Every request about templates: ``n, at, endpoint, node, name, path, body, http_status, code, fault``."""
        return await self._records("template_calls")

    async def customer_writes(self, phone_number_id: str, phone: str | None = None, **fields: Any) -> Json:
        """A customer sends a message; see ``CustomerWrites`` for ``kind``, ``text``, ``content``, ``bsuid``, ``age``.

        Answers ``{wamid, timestamp, user_id, wa_id}``; the webhook is on its way.
        """
        return await self._call(
            "POST", "customer/writes", {"phone_number_id": phone_number_id, "phone": phone, **fields}
        )

    async def staff_writes(self, phone_number_id: str, phone: str | None = None, **fields: Any) -> Json:
        """Staff write in the WhatsApp Business app, and Meta echoes it; fields and answer as of ``customer_writes``."""
        return await self._call("POST", "staff/writes", {"phone_number_id": phone_number_id, "phone": phone, **fields})

    async def customer_registered(self, phone: str, wa_id: str, *, hidden: bool = False) -> None:
        """WhatsApp has the account ``wa_id`` behind ``phone``; ``hidden``: its answers name the user id instead."""
        await self._call("POST", "customer/registered", {"phone": phone, "wa_id": wa_id, "hidden": hidden})

    async def customer_calls(self, phone_number_id: str, phone: str) -> Json:
        """A customer calls; it opens the window. Answers ``{id, timestamp, user_id}``."""
        return await self._call("POST", "customer/calls", {"phone_number_id": phone_number_id, "phone": phone})

    async def customer_texts(self, phone: str, to: str, text: str, **fields: Any) -> Json:
        """A customer's SMS or MMS; see ``CustomerTexts`` for ``provider``, ``media``, ``times``, ``order``.

        At Twilio STOP and its like opt them out. Answers ``{sid, ids}``: ``ids`` of each callback.
        """
        return await self._call("POST", "customer/texts", {"phone": phone, "to": to, "text": text, **fields})

    async def meta_change(self, phone_number_id: str, value: Json) -> None:
        """Any other update of Meta's: a change of its messages with this value."""
        await self._call(
            "POST", "meta/change", {"phone_number_id": phone_number_id, "field": "messages", "value": value}
        )

    async def verify_webhook(self, verify_token: str | None = None) -> Json:
        """Meta's handshake with the configured URL. Answers ``{verified, status, error}``."""
        return await self._call("POST", "meta/verify", {} if verify_token is None else {"verify_token": verify_token})

    async def window(self, phone_number_id: str, who: str) -> Json:
        """Meta's view of a window, by phone or business-scoped id: ``{user_id, closes_at}``, null if never opened."""
        return await self._call("GET", f"windows/{phone_number_id}/{who.lstrip('+')}")

    async def fault(self, provider: Provider, mode: Mode, **fields: Any) -> int:
        """Set a fault for the next ``calls`` requests, or until it is cleared; see ``Fault``. Answers its id."""
        fault = Fault(provider=provider, mode=mode, **fields)
        return int((await self._call("POST", "faults", fault.model_dump()))["id"])

    async def faults(self) -> list[Json]:
        """The faults in force: ``id, left, fault``. One that was set for some calls goes with the last of them."""
        found: Any = await self._call("GET", "faults")
        return list(found)

    async def clear_faults(self, fault_id: int | None = None) -> None:
        """Clear that one or all. ``slow`` answers that are held up are given now."""
        await self._call("DELETE", "faults" if fault_id is None else f"faults?id={fault_id}")

    async def sms_recipient(
        self, phone: str, state: Literal["fine", "opted_out", "landline", "region_blocked", "unreachable"]
    ) -> None:
        """What Twilio knows of a number."""
        await self._call("PUT", f"sms/recipients/{phone}", {"state": state})

    async def meta_app(self, **fields: Any) -> None:
        """What Meta says about the app and its tokens; see ``MetaApp``. What is not named is as it should be."""
        await self._call("PUT", "meta/app", fields)

    async def sms_account(self, **fields: Any) -> None:
        """What Twilio and Vonage say about the account; see ``SmsAccount``."""
        await self._call("PUT", "sms/account", fields)

    async def sms_number(self, phone: str, **fields: Any) -> None:
        """What they say about one number; see ``SmsNumber``."""
        await self._call("PUT", f"sms/numbers/{phone}", fields)

    async def calls(self) -> list[Json]:
        """Every request to a provider's endpoint, with its outcome.

        ``n, at, provider, endpoint, number, to, http_status`` (null: no answer was given), ``code, fault, subject``.
        """
        return await self._records("calls")

    async def messages(self, *, after: int = 0) -> list[Json]:
        """WhatsApp messages that Meta accepted, and so sent, whatever the caller got as an answer.

        ``n, at, phone_number_id, wamid, to, wa_id, user_id, type, callback, window_open, failure, body``.
        """
        return await self._records("messages", after)

    async def sms(self, *, after: int = 0) -> list[Json]:
        """SMS that were sent: ``n, at, provider, sid, callback, failure`` and ``message``.

        Twilio's ``message`` is the resource as its API shows it. Vonage's has ``to, from, body, num_segments, ttl,
        client_ref, parts``.
        """
        return await self._records("sms", after)

    async def webhooks(self) -> list[Json]:
        """Webhooks posted. One webhook is one body, whatever the number of attempts.

        ``n, at, provider, url, items[{kind, subject, status}], body, attempts[{at, status, error}], delivered``.
        """
        return await self._records("webhooks")

    async def hold_webhooks(self) -> None:
        """Keep webhooks back until released."""
        await self._call("POST", "webhooks/hold")

    async def release_webhooks(self, order: Order = "as_held", *, times: int = 1, together: bool = False) -> int:
        """Post them in the order held, reversed or shuffled, each ``times`` times, Meta's ``together`` in one POST.

        Answers how many were held.
        """
        return int(
            (await self._call("POST", "webhooks/release", {"order": order, "times": times, "together": together}))[
                "released"
            ]
        )

    async def retry_webhooks(self) -> int:
        """Let Meta retry at once what pauses before a retry; answers how many webhooks that are."""
        return int((await self._call("POST", "webhooks/retry"))["tried"])

    async def outstanding(self) -> Json:
        """``{under_way, waiting, held, lost, flowing}``; ``waiting`` counts those that pause before a retry."""
        return await self._call("GET", "webhooks/outstanding")

    async def settled(self, seconds: float = 40.0) -> None:
        """Wait until no webhook is under way (those held do not count); raises ``TimeoutError``."""
        await self.until(self._nothing_under_way, seconds)

    async def until(self, happened: Callable[[], Any], seconds: float = 40.0) -> Any:
        """SendRequest an async question every 20 ms until its answer is true; answers it, raises ``TimeoutError``."""
        async with asyncio.timeout(seconds):
            while not (answer := await happened()):  # noqa: ASYNC110  the event is in another process
                await asyncio.sleep(0.02)
            return answer

    async def _nothing_under_way(self) -> bool:
        return int((await self.outstanding())["under_way"]) == 0

    async def _records(self, name: str, after: int = 0) -> list[Json]:
        records: list[Json] = []
        while True:
            page = (await self._call("GET", f"{name}?after={after}&limit={PAGE}"))["records"]
            records += page
            if len(page) < PAGE:
                return records
            after = int(page[-1]["n"])

    async def _call(self, method: str, path: str, body: Json | None = None) -> Json:
        if self._session is None:
            raise SandboxError("use the client as an async context manager")
        async with self._session.request(method, f"{self.url}/_control/{path}", json=body) as answer:
            data: Json = await answer.json()
            if answer.status != 200:  # noqa: PLR2004  control calls know no other success
                raise SandboxError(data.get("error", str(answer.status)))
            return data
