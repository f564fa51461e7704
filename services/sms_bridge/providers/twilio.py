"""Twilio's Messages resource: sending, and the list that shows what became of a call whose answer was lost.

``classify`` reads an answer and is pure. Every answer ever seen is a file in ``tests/data/twilio``. Sending is not
idempotent: "if you get a 500 and you retry, it is possible to receive multiple messages".

Source: https://www.twilio.com/docs/messaging/api/message-resource and https://www.twilio.com/docs/api/errors.
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import aiohttp

from libs.common.addresses import segment
from libs.common.answers import Unreached, read_answer
from libs.common.clock import Clock
from libs.common.errors import Transient
from libs.common.events.inbound import TwilioSmsWebhook
from libs.common.faults import AccountFault, Throttled, TransientFault, UnknownFault
from libs.common.providers.accounts import AccountKey
from libs.common.providers.cost import read_cost
from libs.common.providers.twilio import STATUSES, fault_of, is_of_creation
from libs.common.sending.outcomes import MENDING, Accepted, Refused, RetryLater, SendOutcome, Unknown
from services.sms_bridge.providers import (
    ListedSms,
    ListUnavailable,
    OutgoingSms,
    ReceivedSms,
    RecordedStatus,
    SmsLookup,
    may_show_number,
)
from services.sms_bridge.providers.calls import (
    MESSAGE_RETRY,
    THROTTLE,
    TRANSIENT_LIMIT,
    Answered,
    is_answered,
    json_object,
    post_form,
    timeout_of,
)
from services.sms_bridge.providers.twilio_received import files_of, read_received, text_of

_API = "/2010-04-01"
_CALLBACK_PATH = "/webhooks/twilio/status"
_PAGE_SIZE = 1000
_PAGE_LIMIT = 16 * 1024 * 1024  # a thousand records of messages of 10 segments
_MOST_PAGES = 20
_SKEW = timedelta(minutes=5)
_LONGEST_VALIDITY = timedelta(seconds=36_000)

_AUTH_STATUSES = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})

_FAILED = frozenset({"failed", "undelivered", "canceled"})


def classify(account: str, status: int, body: Mapping[str, object], after: timedelta | None = None) -> SendOutcome:
    """The outcome of a send by Twilio's answer. ``body`` is the JSON object, or empty where there is none.

    A refusal is final for this message; its code says whose fault it is (``libs.common.providers.twilio``). A refusal
    without such a code came from a proxy on the way. It may concern this message alone, so only this message waits. A
    server error counts as silence, also Twilio's own: it may be an outage.
    """
    code = _code(body)
    reason = code or str(status)
    match status:
        case _ if _is_success(status) and isinstance(sid := body.get("sid"), str) and sid:
            return Accepted(account, sid)
        case HTTPStatus.REQUEST_TIMEOUT:
            return Unknown(reason)
        case _ if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            if code is None and status != HTTPStatus.TOO_MANY_REQUESTS:
                return RetryLater("message", MESSAGE_RETRY, reason, answered=bool(body))
            return _not_processed(status, code, after)
        case _:
            return Unknown(reason)


def read_list(body: Mapping[str, Any]) -> tuple[list[ListedSms], str | None]:
    """The records of one page, also those without an id, text or date, and the path of the next page.

    Raises ``ListUnavailable`` where an entry is no record, or the next page is on another host.
    """
    found = []
    for item in body.get("messages") or ():
        if not isinstance(item, dict):
            raise ListUnavailable("the SMS provider's list has an entry that is no record")
        found.append(
            ListedSms(
                provider_id=text_of(item, "sid") or None,
                text=text_of(item, "body"),
                created_at=_rfc2822(text_of(item, "date_created") or ""),
                sender=text_of(item, "from"),
                to=text_of(item, "to"),
                refusal=_refusal_of(item),
                status=_status_of(item),
            )
        )
    return found, _following(body)


def refusal(code: str | None) -> Refused | RetryLater | None:
    """The outcome of a creation that failed with this code. None: the code is of a message that was taken."""
    if not is_of_creation(code):
        return None
    answered = _not_processed(HTTPStatus.BAD_REQUEST, code, None)
    return answered if isinstance(answered, Refused | RetryLater) else None


class Twilio:
    """One account of Twilio. The caller owns ``http``. Without ``public_url`` no status callback is asked for."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        base_url: str,
        account_sid: str,
        auth_token: str,
        public_url: str | None,
        timeout_seconds: float,
        now: Clock,
        page_size: int = _PAGE_SIZE,
    ) -> None:
        self._http = http
        self._base = base_url
        self._account = f"{_API}/Accounts/{segment(account_sid)}"
        self._messages = f"{self._account}/Messages.json"
        self._sid = account_sid
        self._headers = {"Authorization": aiohttp.encode_basic_auth(account_sid, auth_token)}
        self._callback = None if public_url is None else public_url + _CALLBACK_PATH
        self._now = now
        self._page_size = page_size
        self._timeout = timeout_of(timeout_seconds)
        self._unreached = Unreached("twilio")

    @property
    def key(self) -> AccountKey:
        return AccountKey("twilio", self._sid)

    @property
    def lookup(self) -> SmsLookup:
        """Twilio lists every message of the account."""
        return self

    def refusal(self, code: str | None) -> Refused | RetryLater | None:
        """See ``refusal`` of this module."""
        return refusal(code)

    async def send(self, sms: OutgoingSms) -> SendOutcome:
        """Send once. A request that never left is ``RetryLater``; any later failure is ``Unknown``."""
        form = {
            "From": sms.sender,
            "To": sms.to,
            "Body": sms.text,
            "ValidityPeriod": str(_validity_seconds(sms.validity)),
        }
        if sms.messaging_service is not None:
            form["MessagingServiceSid"] = sms.messaging_service  # with From it keeps the sender that is named
        if self._callback is not None:
            form["StatusCallback"] = f"{self._callback}?{urlencode({'ref': sms.reference}, safe=':')}"
        match await post_form(
            self._http,
            self._base + self._messages,
            form,
            timeout=self._timeout,
            now=self._now,
            unreached=self._unreached,
            headers=self._headers,
        ):
            case Answered(status, body, after):
                return classify(self._sid, status, body, after)
            case outcome:
                return outcome

    async def answers(self) -> bool:
        """See ``SmsProvider.answers``."""
        return await is_answered(
            self._http,
            f"{self._base}{self._account}.json",
            timeout=self._timeout,
            unreached=self._unreached,
            headers=self._headers,
        )

    async def list_sent(self, *, sender: str, to: str, since: datetime) -> Sequence[ListedSms]:
        """See ``SmsLookup.list_sent``. Raises Transient when the list cannot be read to its end.

        There is no filter by date. Twilio can filter and sort by ``DateSent`` alone, which a queued message does not
        have, and it does not document where such a message is sorted. So every page is read, up to the limit of pages.
        At the limit it is enough that all records of the last page are too old.
        """
        found: list[ListedSms] = []
        pages = 0
        async for page in self._pages({"From": sender, "To": to}):
            found += [sms for sms in page if not _is_too_old(sms, since)]
            pages += 1
            if pages == _MOST_PAGES and page and all(_is_too_old(sms, since) for sms in page):
                break
        return found

    async def list_obscured(self, *, sender: str, to: Collection[str], since: datetime) -> Sequence[ListedSms]:
        """See ``SmsLookup.list_obscured``.

        Twilio can mask numbers, for a whole account (phone number redaction) or for one message, and writes some lines
        as they are dialled elsewhere. It does not document whether a record is then found by the number that was sent.
        A sender may have very many messages, so the first page with records that are all too old is the last one read.
        """
        asked, found = frozenset(to), list[ListedSms]()
        async for page in self._pages({"From": sender}):
            if page and all(_is_too_old(sms, since) for sms in page):
                break
            found += [sms for sms in page if not _is_too_old(sms, since) and sms.to not in asked]
        return [sms for sms in found if any(may_show_number(sms.to, number) for number in asked)]

    async def list_received(self, *, to: str, since: datetime) -> Sequence[ReceivedSms]:
        """See ``SmsLookup.list_received``. What was received has its date from the beginning, so Twilio can filter.

        Twilio documents days alone for the filter: what is older than the time of ``since`` is left out here, and the
        first page of nothing else is the last one read.
        """
        found: list[ReceivedSms] = []
        async for body in self._bodies({"To": to, "DateSent>": since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}):
            page = read_received(body, to)
            found += [sms for sms in page if sms.at >= since]
            if page and all(sms.at < since for sms in page):
                break
        return found

    async def callback_of(self, sms: ReceivedSms, received_at: datetime) -> tuple[bytes, bytes]:
        """See ``SmsLookup.callback_of``. Where an MMS keeps its files is in a list of its own."""
        files: Mapping[str, str] = {}
        if sms.has_files:
            path = f"{self._account}/Messages/{segment(sms.provider_id)}/Media.json"
            files = files_of((await self._get(path, None, "media_list"))["media_list"], self._base)
        return TwilioSmsWebhook(
            received_at=received_at, form={**sms.form, **files}, verified_account=self._sid, sent_at=sms.at
        ).record()

    async def _pages(self, query: Mapping[str, str]) -> AsyncIterator[Sequence[ListedSms]]:
        async for body in self._bodies(query):
            yield read_list(body)[0]

    async def _bodies(self, query: Mapping[str, str]) -> AsyncIterator[Mapping[str, Any]]:
        path, asked = self._messages, dict(query) | {"PageSize": str(self._page_size)}
        for _ in range(_MOST_PAGES):
            body = await self._get(path, asked or None, "messages")
            following = _following(body)
            yield body
            if following is None:
                return
            path, asked = following, {}
        raise Transient("the SMS provider's list has no end")

    async def recorded_status(self, provider_id: str) -> RecordedStatus:
        """See ``SmsLookup.recorded_status``. The status of a message without a record is None."""
        path = f"{self._account}/Messages/{segment(provider_id)}.json"
        try:
            async with self._http.get(
                self._base + path, headers=self._headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = json_object(await read_answer(response))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Transient("the SMS provider's record cannot be read") from error
        match response.status, body:
            case HTTPStatus.OK, {"status": str()}:
                return _status_of(body)
            case HTTPStatus.NOT_FOUND, {"code": _}:
                return RecordedStatus(None)
            case _:
                raise Transient(f"the SMS provider's record answered {response.status}")

    async def _get(self, path: str, query: Mapping[str, str] | None, items: str) -> Mapping[str, Any]:
        try:
            async with self._http.get(
                self._base + path,
                params=query,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                body = json_object(await read_answer(response, _PAGE_LIMIT))
                if response.status != HTTPStatus.OK or not isinstance(body.get(items), list):
                    raise ListUnavailable(f"the SMS provider's list answered {response.status}")
                return body
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ListUnavailable("the SMS provider's list cannot be read") from error


def _is_success(status: int) -> bool:
    """Twilio answers 201. Gateways that speak its protocol answer 200 or 202 as well, and an id is an acceptance."""
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _not_processed(status: int, code: str | None, after: timedelta | None) -> SendOutcome:
    """The outcome of a 4xx. With an unknown code the status decides: 401, 402 and 403 are faults of the account."""
    reason = code or str(status)
    fault = fault_of(code)
    if status == HTTPStatus.TOO_MANY_REQUESTS or isinstance(fault, Throttled):
        return RetryLater("account", THROTTLE, reason, after=after)
    match fault:
        case AccountFault(every_sender=every_sender):
            return RetryLater("provider" if every_sender else "account", MENDING, reason, fault=True)
        case TransientFault(certain=True):
            return RetryLater("message", MESSAGE_RETRY, reason, limit=TRANSIENT_LIMIT)
        case UnknownFault() if status in _AUTH_STATUSES:
            return RetryLater("provider", MENDING, reason, fault=True)
        case _:
            return Refused(reason)


def _following(body: Mapping[str, Any]) -> str | None:
    following = body.get("next_page_uri")
    if following is None or (isinstance(following, str) and following.startswith("/")):
        return following
    raise ListUnavailable("the SMS provider's list goes on at an address that is no path")


def _refusal_of(item: Mapping[str, object]) -> Refused | RetryLater | None:
    return refusal(_code({"code": item.get("error_code")})) if item.get("status") in _FAILED else None


def _status_of(item: Mapping[str, object]) -> RecordedStatus:
    status = STATUSES.get(str(item.get("status")))
    cost = read_cost(item.get("num_segments"), item.get("price"), item.get("price_unit"))
    return RecordedStatus(status, _code({"code": item.get("error_code")}) if status == "failed" else None, cost)


def _is_too_old(sms: ListedSms, since: datetime) -> bool:
    return sms.created_at < since - _SKEW


def _code(body: Mapping[str, object]) -> str | None:
    match body.get("code"):
        case bool():
            return None
        case int(number):
            return str(number)
        case str(text) if text.isascii() and text.isdigit():
            return text
        case _:
            return None


def _rfc2822(text: str) -> datetime:
    """The date, or the latest possible one where it cannot be read: a record with an odd date stays evidence."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)


def _validity_seconds(validity: timedelta) -> int:
    return int(max(timedelta(seconds=1), min(validity, _LONGEST_VALIDITY)).total_seconds())
