"""Reads an answer of the Graph API to a send. Pure.

Rule 1: the error ``code`` decides, by the one table (``libs.common.providers.meta``); the HTTP status only where there
        is no code that is known there. Titles and texts (localised) never count.
Rule 2: Meta knows no idempotency key, so an answer that may hide an acceptance is ``Unknown``: evidence decides, not
        another send.
Rule 3: a fault of the account (token, payment, lock, registration) is no fault of a message: messages wait until
        people have mended it.
Rule 4: an error that leaves the outcome open may be an outage, so it counts as no answer: several in a row pause the
        account (``libs.common.sending.breaker``). For a template it counts as an answer of Meta, unless its code says
        that it is an outage: such an error comes for one template again and again.
Rule 5: a refusal without Meta's ``error`` comes from a proxy on the way. It counts as no answer too, and its message
        alone waits.

Source: https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes; every answer ever seen is a file in
``tests/data/graph``.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from typing import assert_never

from libs.common.events.content import MAX_ID
from libs.common.faults import (
    AccountFault,
    ContentFault,
    CountryClosed,
    Fault,
    KnownFault,
    RecipientFault,
    TemplateGone,
    TemplateNeedsSync,
    Throttled,
    TransientFault,
    UnknownFault,
    WindowClosed,
    reroute_reason,
)
from libs.common.phone import from_wa_id
from libs.common.providers.meta import INVALID_PARAMETER, WRONG_NUMBER_ID, fault_of
from libs.common.sending.outcomes import (
    MENDING,
    Accepted,
    BackoffPolicy,
    Refused,
    Rerouted,
    RetryLater,
    Scope,
    SendOutcome,
    Unknown,
)
from services.whatsapp_sender import backoff_policies

_BACKOFF: dict[str, BackoffPolicy] = {
    "131057": backoff_policies.MAINTENANCE,
    **dict.fromkeys(("4", "17", "32", "341", "613", "80007", "80008"), backoff_policies.CALL_LIMIT),
}
"""How waits grow for codes of a class that has several policies."""


def classify(account: str, status: int, body: object, after: timedelta | None = None, *, template: bool) -> SendOutcome:
    """The outcome that the answer means. ``body`` is the JSON value, None when the body was no JSON.

    ``after`` is the wait that the answer asked for. ``template``: a template was sent.
    """
    fields = body if isinstance(body, dict) else {}
    if _is_success(status) and (wamid := _wamid(fields)) is not None:
        return Accepted(account, wamid, *_recipient(fields))
    error = fields.get("error")
    if not isinstance(error, dict):
        return _by_status(status, after, answered=False)
    code = _code(error.get("code"))
    if code is None:
        return _by_status(status, after, answered=True)
    if code == INVALID_PARAMETER and _code(error.get("error_subcode")) == WRONG_NUMBER_ID:
        return RetryLater("account", MENDING, code, after, fault=True)
    fault = fault_of(code)
    if isinstance(fault, UnknownFault):
        return _unlisted(status, code, error, after, template)
    return _of(fault, code, after, template)


def _of(fault: KnownFault, code: str, after: timedelta | None, template: bool) -> SendOutcome:  # noqa: FBT001, PLR0911 -- one return per class
    match fault:
        case AccountFault("templates"):
            scope: Scope = "templates" if template else "account"
            return RetryLater(scope, backoff_policies.SPAM, code, after, fault=True)
        case AccountFault():
            return RetryLater("account", MENDING, code, after, fault=True)
        case Throttled("pair"):
            return RetryLater("pair", backoff_policies.PAIR, code, after)
        case Throttled():
            return RetryLater("account", _BACKOFF.get(code, backoff_policies.THROUGHPUT), code, after)
        case TransientFault(certain=True):
            limit = backoff_policies.MEDIA_TRIES
            later = RetryLater("message", backoff_policies.MEDIA, code, after, limit)
            return replace(later, reroute="template_refused") if template else later
        case TransientFault(outage=outage):
            return Unknown(code, answered=template and not outage)
        case (
            WindowClosed() | TemplateGone() | TemplateNeedsSync() | RecipientFault() | ContentFault() | CountryClosed()
        ):
            return _refused(fault, code, template)
        case _:
            assert_never(fault)


def _refused(fault: Fault, code: str, template: bool) -> Refused | Rerouted:  # noqa: FBT001 -- as ``_of``
    reason = reroute_reason(fault, template=template)
    return Refused(code) if reason is None else Rerouted(reason, code)


def _unlisted(status: int, code: str, error: dict[str, object], after: timedelta | None, template: bool) -> SendOutcome:  # noqa: FBT001 -- as ``_of``
    """The outcome of an unknown code. Unless Meta refused clearly and for good, the call may have been processed."""
    if error.get("is_transient") is True or not _is_refusal(status) or status == HTTPStatus.REQUEST_TIMEOUT:
        return Unknown(code, answered=template)
    if status == HTTPStatus.UNAUTHORIZED:
        return RetryLater("account", MENDING, code, after, fault=True)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RetryLater("account", backoff_policies.THROUGHPUT, code, after)
    return _refused(UnknownFault(), code, template)


def _by_status(status: int, after: timedelta | None, *, answered: bool) -> SendOutcome:
    """The outcome of an answer without a code: not processed where the HTTP status says so, otherwise unknown.

    A refusal without a code comes from a proxy on the way and may concern this message alone, so this message waits.
    """
    said = str(status)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RetryLater("account", backoff_policies.THROUGHPUT, said, after)
    if (
        HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR
        and status != HTTPStatus.REQUEST_TIMEOUT
    ):
        return RetryLater("message", backoff_policies.STRAY, said, after, answered=answered)
    return Unknown(said)


def _wamid(fields: Mapping[str, object]) -> str | None:
    sent = fields.get("messages")
    first = sent[0] if isinstance(sent, list) and sent else None
    wamid = first.get("id") if isinstance(first, dict) else None
    return wamid if isinstance(wamid, str) and wamid else None


def _recipient(fields: Mapping[str, object]) -> tuple[str | None, str | None]:
    """wa_id (digits) and BSUID of the one contact in the answer.

    They are Meta's own and may differ from the address that the message was sent to.
    """
    contacts = fields.get("contacts")
    if not isinstance(contacts, list) or len(contacts) != 1 or not isinstance(contact := contacts[0], dict):
        return None, None
    number, bsuid = from_wa_id(contact.get("wa_id")), contact.get("user_id")
    return (
        None if number is None else number[1:],
        bsuid if isinstance(bsuid, str) and 0 < len(bsuid) <= MAX_ID else None,
    )


def _code(value: object) -> str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:  # noqa: PLR2004 -- codes have 6 digits
        return str(int(value))
    return None


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _is_refusal(status: int) -> bool:
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
