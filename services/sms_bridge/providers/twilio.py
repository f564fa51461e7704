"""Twilio's Messages resource: send, and the list that is asked when an answer got lost.

What an answer means is ``classify``, pure; every answer ever seen is a file in ``tests/data/twilio``. Source:
https://www.twilio.com/docs/messaging/api/message-resource and https://www.twilio.com/docs/api/errors. Sending is not
idempotent there: "if you get a 500 and you retry, it is possible to receive multiple messages".
"""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from libs.common.addresses import segment
from libs.common.answers import read_answer
from libs.common.errors import Transient
from libs.common.faults import AccountFault, Throttled, TransientFault, UnknownFault
from libs.common.providers.twilio import STATUSES, fault_of, is_of_creation
from libs.common.sending.outcomes import MENDING, Accepted, Curve, Refused, RetryLater, SendOutcome, Unknown
from services.sms_bridge.providers import ListedSms, ListUnavailable, OutgoingSms, RecordedStatus
from services.sms_bridge.shown import may_show_number

_API = "/2010-04-01"
_CALLBACK_PATH = "/webhooks/twilio/status"
_CONNECT_SHARE = 0.3
_PAGE_SIZE = 1000
_PAGE_LIMIT = 16 * 1024 * 1024  # a thousand messages of 10 segments each, and all that is said about them
_PAGES_MOST = 20
_SKEW = timedelta(minutes=5)
_LONGEST_VALIDITY = timedelta(seconds=36_000)

AUTH_STATUSES = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.FORBIDDEN})

_ENDED = frozenset({"failed", "undelivered", "canceled"})

THROTTLE = Curve(timedelta(seconds=1), 2.0, timedelta(minutes=1))
MESSAGE_PAUSE = Curve(timedelta(seconds=15), 2.0, timedelta(minutes=5))
_TRANSIENT_LIMIT = 5


def classify(account: str, status: int, body: Mapping[str, object], retry_after: str | None = None) -> SendOutcome:
    """What Twilio's answer to a send means. ``body`` is the JSON object, or empty when it was none.

    A refusal is final for this message; whose fault it is, is known by its code (``libs.common.providers.twilio``). A
    refusal without a code of Twilio's did not come from Twilio, but from something on the way: perhaps for this message
    alone, so this one waits.
    """
    code = _code(body)
    said = code or str(status)
    match status:
        case HTTPStatus.CREATED if isinstance(sid := body.get("sid"), str) and sid:
            return Accepted(account, sid)
        case HTTPStatus.REQUEST_TIMEOUT:
            return Unknown(said, answered=bool(body))
        case _ if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
            if code is None and status != HTTPStatus.TOO_MANY_REQUESTS:
                return RetryLater("message", MESSAGE_PAUSE, said, answered=bool(body))
            return _not_processed(status, code, retry_after)
        case _:
            return Unknown(said, answered=bool(body))


def read_list(body: Mapping[str, Any]) -> tuple[list[ListedSms], str | None]:
    """The messages of one page and the address of the next. Whatever stands there is on record, also what shows no id, text or date.

    Raises ``ListUnavailable`` for a page that names no record where one stands, or another host for the next page.
    """
    found = []
    for item in body.get("messages") or ():
        if not isinstance(item, dict):
            raise ListUnavailable("the SMS provider's list has something else among its records")
        found.append(
            ListedSms(
                _text(item, "sid") or None,
                _text(item, "body"),
                _rfc2822(_text(item, "date_created") or ""),
                _text(item, "from"),
                _text(item, "to"),
                _refusal_of(item),
                _fate_of(item),
            )
        )
    following = body.get("next_page_uri")
    if following is None or (isinstance(following, str) and following.startswith("/")):
        return found, following
    raise ListUnavailable("the SMS provider's list goes on where it cannot be followed")


def refusal(code: str | None) -> Refused | RetryLater | None:
    """What was answered to a creation that failed with this code; None when the code is of a message that was taken."""
    if not is_of_creation(code):
        return None
    answered = _not_processed(HTTPStatus.BAD_REQUEST, code, None)
    return answered if isinstance(answered, Refused | RetryLater) else None


@asynccontextmanager
async def open_twilio(
    *,
    base_url: str,
    account_sid: str,
    auth_token: str,
    public_url: str | None,
    timeout_seconds: float,
    connections: int,
) -> AsyncIterator["Twilio"]:
    """Twilio with its connections, closed on leaving. Without ``public_url`` no status callback is asked for."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=connections)) as http:
        yield Twilio(
            http,
            base_url=base_url,
            account_sid=account_sid,
            auth_token=auth_token,
            status_callback=None if public_url is None else public_url + _CALLBACK_PATH,
            timeout_seconds=timeout_seconds,
        )


class Twilio:
    """One account, spoken to through one pool of connections that the caller owns."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        base_url: str,
        account_sid: str,
        auth_token: str,
        status_callback: str | None,
        timeout_seconds: float,
        page_size: int = _PAGE_SIZE,
    ) -> None:
        self._http = http
        self._base = base_url
        self._account = f"{_API}/Accounts/{segment(account_sid)}"
        self._messages = f"{self._account}/Messages.json"
        self._sid = account_sid
        self._headers = {"Authorization": aiohttp.encode_basic_auth(account_sid, auth_token)}
        self._callback = status_callback
        self._page_size = page_size
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds, connect=timeout_seconds * _CONNECT_SHARE)

    @property
    def account(self) -> str:
        """The account sid."""
        return self._sid

    def refusal(self, code: str | None) -> Refused | RetryLater | None:
        """See ``refusal`` of this module."""
        return refusal(code)

    async def send(self, sms: OutgoingSms) -> SendOutcome:
        """Send once.

        A connection that was never made is simply later; whatever goes wrong after that is ``Unknown``.
        """
        form = {
            "From": sms.sender,
            "To": sms.to,
            "Body": sms.text,
            "ValidityPeriod": str(_validity_seconds(sms.validity)),
        }
        if self._callback is not None:
            form["StatusCallback"] = f"{self._callback}?{urlencode({'ref': sms.reference}, safe=':')}"
        try:
            async with self._http.post(
                self._base + self._messages,
                data=form,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                return classify(
                    self._sid,
                    response.status,
                    _json_object(await read_answer(response)),
                    response.headers.get("Retry-After"),
                )
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
            return RetryLater("account", THROTTLE, "never_left")
        except (TimeoutError, aiohttp.ClientError, OSError):
            return Unknown("no_answer")

    async def list_sent(self, *, sender: str, to: str, since: datetime) -> Sequence[ListedSms]:
        """What Twilio has on record from ``sender`` to ``to``, newest first, page by page; raises Transient when it does not say it all.

        No filter by date: the list knows ``DateSent`` alone, which a message that is still queued does not have. The
        list is sorted by it, and where such a message stands in that order is not said, so the list is read to its end.
        Of one that is longer than anything two numbers have to say to each other enough is read when its last page is
        all too old.
        """
        found: list[ListedSms] = []
        pages = 0
        async for page in self._pages({"From": sender, "To": to}):
            found += [sms for sms in page if not _is_too_old(sms, since)]
            pages += 1
            if pages == _PAGES_MOST and page and all(_is_too_old(sms, since) for sms in page):
                break
        return found

    async def list_obscured(self, *, sender: str, to: Collection[str], since: datetime) -> Sequence[ListedSms]:
        """Records of ``sender`` that a question for ``to`` may not find, since then, newest first; raises as ``listed``.

        Twilio masks numbers for a whole account (phone number redaction) or for one message, and writes a line as it is
        dialled elsewhere. Whether it then finds a record by the number that we wrote is not said. A sender may have
        very many messages, so the first page that is all too old ends the reading.
        """
        asked, found = frozenset(to), list[ListedSms]()
        async for page in self._pages({"From": sender}):
            if page and all(_is_too_old(sms, since) for sms in page):
                break
            found += [sms for sms in page if not _is_too_old(sms, since) and sms.to not in asked]
        return [sms for sms in found if any(may_show_number(sms.to, number) for number in asked)]

    async def _pages(self, query: Mapping[str, str]) -> AsyncIterator[Sequence[ListedSms]]:
        path, asked = self._messages, dict(query) | {"PageSize": str(self._page_size)}
        for _ in range(_PAGES_MOST):
            page, following = read_list(await self._get(path, asked or None))
            yield page
            if following is None:
                return
            path, asked = following, {}
        raise Transient("the SMS provider's list has no end")

    async def recorded_status(self, provider_id: str) -> RecordedStatus:
        """What Twilio has on record of a message; raises Transient.

        One that is there no more is a fate that nobody knows.
        """
        path = f"{self._account}/Messages/{segment(provider_id)}.json"
        try:
            async with self._http.get(
                self._base + path, headers=self._headers, timeout=self._timeout, allow_redirects=False
            ) as response:
                body = _json_object(await read_answer(response))
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise Transient("the SMS provider's record cannot be read") from error
        match response.status, body:
            case HTTPStatus.OK, {"status": str()}:
                return _fate_of(body)
            case HTTPStatus.NOT_FOUND, {"code": _}:
                return RecordedStatus(None)
            case _:
                raise Transient(f"the SMS provider's record answered {response.status}")

    async def _get(self, path: str, query: Mapping[str, str] | None) -> Mapping[str, Any]:
        try:
            async with self._http.get(
                self._base + path,
                params=query,
                headers=self._headers,
                timeout=self._timeout,
                allow_redirects=False,
            ) as response:
                body = _json_object(await read_answer(response, _PAGE_LIMIT))
                if response.status != HTTPStatus.OK or not isinstance(body.get("messages"), list):
                    raise ListUnavailable(f"the SMS provider's list answered {response.status}")
                return body
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise ListUnavailable("the SMS provider's list cannot be read") from error


def _not_processed(status: int, code: str | None, retry_after: str | None) -> SendOutcome:
    """A 4xx.

    What the table does not know goes by the status: with 401, 402 and 403 the account is not in order, with others the
    message is.
    """
    said = code or str(status)
    fault = fault_of(code)
    if status == HTTPStatus.TOO_MANY_REQUESTS or isinstance(fault, Throttled):
        return RetryLater("account", THROTTLE, said, after=_seconds(retry_after))
    match fault:
        case AccountFault(every_sender=every_sender):
            return RetryLater("provider" if every_sender else "account", MENDING, said, fault=True)
        case TransientFault(certain=True):
            return RetryLater("message", MESSAGE_PAUSE, said, limit=_TRANSIENT_LIMIT)
        case UnknownFault() if status in AUTH_STATUSES:
            return RetryLater("provider", MENDING, said, fault=True)
        case _:
            return Refused(said)


def _refusal_of(item: Mapping[str, object]) -> Refused | RetryLater | None:
    return refusal(_code({"code": item.get("error_code")})) if item.get("status") in _ENDED else None


def _fate_of(item: Mapping[str, object]) -> RecordedStatus:
    status = STATUSES.get(str(item.get("status")))
    return RecordedStatus(status, _code({"code": item.get("error_code")}) if status == "failed" else None)


def _is_too_old(sms: ListedSms, since: datetime) -> bool:
    return sms.created_at < since - _SKEW


def _text(item: Mapping[str, object], name: str) -> str | None:
    value = item.get(name)
    return value if isinstance(value, str) else None


def _json_object(raw: bytes | None) -> Mapping[str, Any]:
    if raw is None:  # larger than any answer of Twilio
        return {}
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


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


def _seconds(retry_after: str | None) -> timedelta | None:
    if retry_after is None or not retry_after.isascii() or not retry_after.isdigit() or len(retry_after) > 5:  # noqa: PLR2004 -- a day
        return None
    return timedelta(seconds=int(retry_after))


def _rfc2822(text: str) -> datetime:
    """The date, or the end of time when it cannot be read: evidence is not lost to an odd date."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return datetime.max.replace(tzinfo=UTC)


def _validity_seconds(validity: timedelta) -> int:
    return int(max(timedelta(seconds=1), min(validity, _LONGEST_VALIDITY)).total_seconds())
