"""Vonage's SMS API: sending. Every answer ever seen is a file in ``tests/data/vonage``.

An answer is HTTP 200 also where Vonage refuses: each part of the SMS has a ``status``, and only ``0`` was taken. A long
SMS is taken part by part, each under an id of its own, and each part has receipts of its own.

What became of a call whose answer was lost cannot be looked up in time: the Reports API shows records minutes to hours
later, and not on every account. So there is no ``lookup``. A receipt that echoes ``client-ref`` is the evidence, and no
second call is made without it (docs/decisions/0010-vonage-is-settled-by-its-receipts.md).

Source: https://developer.vonage.com/en/api/sms and https://developer.vonage.com/en/api-errors/sms.
"""

from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus

import aiohttp

from libs.common.answers import Unreached
from libs.common.clock import Clock
from libs.common.faults import AccountFault, Throttled, TransientFault
from libs.common.gsm7 import fits
from libs.common.phone import digits
from libs.common.providers.accounts import AccountKey
from libs.common.providers.cost import read_cost, total
from libs.common.providers.vonage import CURRENCY, fault_of
from libs.common.sending.outcomes import MENDING, Accepted, Refused, RetryLater, SendOutcome, Unknown
from services.sms_bridge.providers import OutgoingSms
from services.sms_bridge.providers.calls import (
    MESSAGE_RETRY,
    THROTTLE,
    TRANSIENT_LIMIT,
    Answered,
    is_answered,
    post_form,
    timeout_of,
)

_PATH = "/sms/json"
_BALANCE_PATH = "/account/get-balance"
_CALLBACK_PATH = "/webhooks/vonage/status"
_SHORTEST_VALIDITY = timedelta(seconds=20)
_LONGEST_VALIDITY = timedelta(days=7)
_TAKEN = "0"
_AUTH_STATUSES = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})


def classify(account: str, status: int, body: Mapping[str, object], after: timedelta | None = None) -> SendOutcome:
    """The outcome of a send by Vonage's answer. ``body`` is the JSON object, or empty where there is none.

    One part that was taken makes the SMS one that was sent: it is never sent again. A server error counts as silence,
    also Vonage's own: it may be an outage.
    """
    match status, body:
        case HTTPStatus.OK, {"messages": [*parts]} if parts:
            return _of_parts(account, parts, after)
        case HTTPStatus.TOO_MANY_REQUESTS, _:
            return RetryLater("account", THROTTLE, str(status), after=after)
        case _ if status in _AUTH_STATUSES and body:
            return RetryLater("provider", MENDING, str(status), fault=True)
        case HTTPStatus.REQUEST_TIMEOUT, _:
            return Unknown(str(status))
        case _ if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return RetryLater("message", MESSAGE_RETRY, str(status), answered=bool(body))
        case _:
            return Unknown(str(status))


def _of_parts(account: str, parts: list[object], after: timedelta | None) -> SendOutcome:
    taken, codes, prices, unread = [], [], list[object](), False
    for part in parts:
        match part:
            case {"status": "0" | 0, "message-id": str(message_id), **more} if message_id:
                taken.append(message_id)
                prices.append(more.get("message-price"))
            case {"status": str() | int() as code} if str(code).isdigit() and str(code) != _TAKEN:
                codes.append(str(code)[:10])
            case _:  # taken without an id, or what nobody can read: it may have been taken
                unread = True
    if taken:
        cost = None if unread else read_cost(len(taken), total(prices), CURRENCY)
        return Accepted(account, taken[0], cost=cost, parts=tuple(taken[1:]))
    return Unknown("unreadable") if unread else _refused(codes[0], after)


def _refused(code: str, after: timedelta | None) -> SendOutcome:
    """Vonage's word of an SMS of which no part was taken. Its internal error alone leaves that open."""
    match fault_of(code):
        case Throttled():
            return RetryLater("account", THROTTLE, code, after=after)
        case AccountFault(every_sender=every_sender):
            return RetryLater("provider" if every_sender else "account", MENDING, code, fault=True)
        case TransientFault(certain=True):
            return RetryLater("message", MESSAGE_RETRY, code, limit=TRANSIENT_LIMIT)
        case TransientFault():
            return Unknown(code)
        case _:
            return Refused(code)


class Vonage:
    """One account of Vonage. The caller owns ``http``. Without ``public_url`` no receipt is asked for."""

    lookup = None

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        base_url: str,
        api_key: str,
        api_secret: str,
        public_url: str | None,
        timeout_seconds: float,
        now: Clock,
    ) -> None:
        self._http = http
        self._url = base_url + _PATH
        self._balance = base_url + _BALANCE_PATH
        self._key = api_key
        self._secret = api_secret
        self._callback = None if public_url is None else public_url + _CALLBACK_PATH
        self._now = now
        self._timeout = timeout_of(timeout_seconds)
        self._unreached = Unreached("vonage")

    @property
    def key(self) -> AccountKey:
        return AccountKey("vonage", self._key)

    def refusal(self, _code: str | None) -> None:
        """Vonage reports a refusal in its answer alone: a receipt is of an SMS that was taken."""

    async def send(self, sms: OutgoingSms) -> SendOutcome:
        """Send once."""
        form = {
            "api_key": self._key,
            "api_secret": self._secret,
            "from": digits(sms.sender),
            "to": digits(sms.to),
            "text": sms.text,
            "type": "text" if fits(sms.text) else "unicode",
            "ttl": str(int(max(_SHORTEST_VALIDITY, min(sms.validity, _LONGEST_VALIDITY)).total_seconds() * 1000)),
            "client-ref": sms.reference,
        }
        if self._callback is not None:
            form |= {"callback": self._callback, "status-report-req": "1"}
        match await post_form(
            self._http, self._url, form, timeout=self._timeout, now=self._now, unreached=self._unreached
        ):
            case Answered(status, body, after):
                return classify(self._key, status, body, after)
            case outcome:
                return outcome

    async def answers(self) -> bool:
        """See ``SmsProvider.answers``."""
        return await is_answered(
            self._http,
            self._balance,
            timeout=self._timeout,
            unreached=self._unreached,
            headers={"Authorization": aiohttp.encode_basic_auth(self._key, self._secret)},
        )
