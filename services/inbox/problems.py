"""What is wrong with a request, as RFC 9457 has it (``application/problem+json``)."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import NamedTuple

from starlette.responses import Response

from libs.common import content_limits, template_parameters
from libs.common.errors import Transient, TransomError
from libs.common.events.content import IntentContent, OutBridge, OutTemplate, OutText
from libs.common.log_throttle import LogThrottle
from libs.common.logging import get_logger
from libs.common.sms_reach import MOST_SEGMENTS, parts_of
from libs.common.web import problem

log = get_logger()
_throttle = LogThrottle()


class FieldFault(NamedTuple):
    """``field``: the path of the field in the body, dotted, or the name of a parameter."""

    field: str
    message: str


class Problem(TransomError):  # noqa: N818 -- as in: raise Problem(HTTPStatus.CONFLICT)
    """The request is answered with this problem. ``detail`` and ``faults`` name no value of the request."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str | None = None,
        *,
        faults: Sequence[FieldFault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or status.phrase)
        self.status = status
        self.detail = detail
        self.faults = tuple(faults)
        self.headers = headers

    def response(self) -> Response:
        """The answer."""
        members = {"errors": [fault._asdict() for fault in self.faults]} if self.faults else {}
        return problem(self.status, self.status.phrase, detail=self.detail, headers=self.headers, **members)


class ProviderAway(Transient):
    """The identity provider does not answer, or not as one does."""


def report_away(error: Exception) -> None:
    """Log which server is away: each kind of error once a second at most, with its count."""
    reason, dependency = type(error).__name__, "identity-provider" if isinstance(error, ProviderAway) else "postgres"
    _throttle.report(
        reason, lambda times: log.warning("dependency.away", dependency=dependency, reason=reason, times=times)
    )


def report_refused(why: str) -> None:
    """Log that somebody brought no token or sign-in that counts: each reason once a second at most, with its count."""
    _throttle.report(why, lambda times: log.warning("token.refused", reason=why, times=times))


def not_found() -> Problem:
    """There is no such thing in the organisation: it never was, or it is another one's. Both look alike."""
    return Problem(HTTPStatus.NOT_FOUND)


def invalid(*faults: FieldFault, detail: str | None = None) -> Problem:
    """Fields of the request are wrong."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, faults=faults)


def away(dependency: str) -> Problem:
    """A server of ours is away. The client may ask again."""
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{dependency} cannot be reached at the moment: try again",
        headers={"Retry-After": "2"},
    )


_LIMITS = {
    "missing": "Meta takes no message without it",
    "too_long": "it is longer than Meta takes",
    "too_many": "there are more than Meta takes",
    "duplicate": "it stands here twice",
    "format": "this is no address that can be fetched: http or https, a host, no spaces",
    "not_shown": "WhatsApp shows none here: send it as a message of its own",
}


_VALUES: Mapping[template_parameters.FaultCode, str] = {
    "missing": "the template asks for it",
    "empty": "Meta takes no empty value",
    "layout": "Meta takes no line breaks, tabs or more than four spaces in a row",
    "too_long": "it is longer than Meta takes, or makes the text so",
    "format": "the template asks for another shape, or this is no address that can be fetched",
    "unexpected": "the template does not ask for it",
}


def value_fault(field: str, fault: template_parameters.Fault) -> FieldFault:
    """What is wrong with a value of the template in ``field``, where the router would not send it."""
    return FieldFault(f"{field}.{fault.field}", _VALUES[fault.code])


def refuse_beyond_limits(content: IntentContent, channel: str = "auto") -> None:
    """Raise Problem (422), with each field, where the router would reject the content for its limits.

    Those are Meta's (``invalid_intent``), and those of what is to go by SMS (``unsupported_content``).
    """
    found = [FieldFault(f"content.{fault.field}", _LIMITS[fault.code]) for fault in content_limits.faults(content)]
    if channel == "sms" and isinstance(content, OutText) and (parts := parts_of(content.text)) > MOST_SEGMENTS:
        message = f"an SMS has at most {MOST_SEGMENTS} segments, and this text would need {parts}: send it in parts"
        found.append(FieldFault("content.text", message))
    if channel == "sms" and not isinstance(content, OutText | OutTemplate | OutBridge):
        found.append(FieldFault("content.kind", "an SMS carries text alone: send it by WhatsApp"))
    if found:
        raise invalid(*found)
