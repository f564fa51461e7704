"""What an answer of the Graph API to a send means. Pure.

Rule 1: the error ``code`` decides; the HTTP status only where there is no code that is known here. Titles and texts (localised) never count.
Rule 2: Meta knows no idempotency key, so an answer that may hide an acceptance is ``Unknown``: evidence decides, not another send.
Rule 3: what lies with the account (token, payment, lock, registration) is nobody's message's fault: messages wait for it to be mended.

Source: https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes; every answer ever seen is a file in ``tests/data/graph``.
"""

from datetime import timedelta
from http import HTTPStatus

from libs.common.phone import from_wa_id
from libs.common.sending.outcomes import Accepted, Curve, Refused, RetryLater, Returned, Scope, SendOutcome, Unknown
from services.whatsapp_sender import pace

WINDOW_CLOSED = 131047
TEMPLATE_GONE = {
    132001: "DELETED",  # no such template in this language, or not approved
    132015: "PAUSED",
    132016: "DISABLED",
}
"""Codes that say a template cannot be used, and the status it has then."""

_AMBIGUOUS = frozenset({1, 2, 131000, 131016, 133004})

_LATER: dict[int, tuple[Scope, Curve, int | None]] = {
    131056: ("pair", pace.PAIR, None),
    130429: ("account", pace.THROUGHPUT, None),
    **dict.fromkeys((4, 17, 341, 613, 80007), ("account", pace.CALL_LIMIT, None)),
    131057: ("account", pace.MAINTENANCE, None),
    131048: ("templates", pace.SPAM, None),
    131053: ("message", pace.MEDIA, pace.MEDIA_TRIES),  # media could not be fetched; now and then it can a moment later
    # The account must be mended by people: token, permission, payment, lock, registration, display name, certificate.
    **dict.fromkeys(
        (0, 3, 10, 33, 102, 104, 190, *range(200, 300), 368),
        ("account", pace.BREAKER, None),
    ),
    **dict.fromkeys(
        (131005, 131031, 131037, 131042, 131045, 131064, 133010),
        ("account", pace.BREAKER, None),
    ),
}

_REFUSED = frozenset(
    {
        *(100, 131008, 131009, 131051, 132000, 132005, 132007, 132012, 132018, 132068, 132069, 135000),  # the content
        *(130403, 130497, 131021, 131026, 131030, 131049, 131050, 130472),  # the recipient
        *(131062, 131063, 137000),  # not this way
    }
)

_MAX_ID = 512
_INVALID_PARAMETER = 100
_WRONG_NUMBER_ID = 33  # subcode of 100: the phone number id does not exist, or the token may not see it


def classify(account: str, status: int, body: object, after: timedelta | None = None) -> SendOutcome:
    """What the answer means. ``body`` is the JSON value, None when it was none; ``after`` is the wait that the answer asked for."""
    if _is_success(status) and (wamid := _wamid(body)) is not None:
        return Accepted(account, wamid, *_recipient(body))
    error = body.get("error") if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return _by_status(status, None, after)
    code = _number(error.get("code"))
    if code is None:
        return _by_status(status, None, after)
    if code == _INVALID_PARAMETER and _number(error.get("error_subcode")) == _WRONG_NUMBER_ID:
        return RetryLater("account", pace.BREAKER, str(code), after)
    return _by_code(code, after) or _unlisted(status, code, error, after)


def _by_code(code: int, after: timedelta | None) -> SendOutcome | None:
    said = str(code)
    if code == WINDOW_CLOSED:
        return Returned("window_closed", said)
    if code in TEMPLATE_GONE:
        return Returned("template_not_approved", said)
    if code in _AMBIGUOUS:
        return Unknown(said)
    if code in _LATER:
        scope, curve, limit = _LATER[code]
        return RetryLater(scope, curve, said, after, limit)
    return Refused(said) if code in _REFUSED else None


def _unlisted(status: int, code: int, error: dict[str, object], after: timedelta | None) -> SendOutcome:
    """A code that is not known here: what Meta calls transient, and what is no clear refusal, may have been processed."""
    if error.get("is_transient") is True:
        return Unknown(str(code))
    outcome = _by_status(status, code, after)
    plain = isinstance(outcome, RetryLater) and status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.TOO_MANY_REQUESTS}
    return Refused(str(code)) if plain and _is_refusal(status) else outcome


def _by_status(status: int, code: int | None, after: timedelta | None) -> SendOutcome:
    """Without a known code: not processed when the status says so, else unknown.

    A refusal without a code did not come from Meta, but from something on the way; its fault is not the message's.
    """
    said = str(status if code is None else code)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return RetryLater("account", pace.THROUGHPUT, said, after)
    if status == HTTPStatus.REQUEST_TIMEOUT:
        return Unknown(said)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return RetryLater("account", pace.BREAKER, said, after)
    return Unknown(said)


def _wamid(body: object) -> str | None:
    match body:
        case {"messages": [{"id": str(wamid)}, *_]} if wamid:
            return wamid
        case _:
            return None


def _recipient(body: object) -> tuple[str | None, str | None]:
    """wa_id (digits) and BSUID of the one contact in the answer: Meta's own numbers and ids, which may differ from what was written to."""
    match body:
        case {"contacts": [dict(contact)]}:
            number, bsuid = from_wa_id(contact.get("wa_id")), contact.get("user_id")
            return (
                None if number is None else number[1:],
                bsuid if isinstance(bsuid, str) and 0 < len(bsuid) <= _MAX_ID else None,
            )
        case _:
            return None, None


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:  # noqa: PLR2004 -- codes have 6 digits
        return int(value)
    return None


def _is_success(status: int) -> bool:
    return HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES


def _is_refusal(status: int) -> bool:
    return HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
