"""Meta's error codes in their two forms: an answer's ``error`` and a webhook's ``errors[]``. No I/O."""

import secrets
from typing import NamedTuple

from deploy.local.sandbox.schemas import Answer, Json

HREF = "https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes/"


class Known(NamedTuple):
    """One code: the HTTP status it came with, its title, and the sentence in ``details``."""

    http: int
    title: str
    details: str


KNOWN: dict[int, Known] = {
    0: Known(401, "AuthException", "We were unable to authenticate the app user."),
    1: Known(500, "An unknown error occurred", "Invalid request or possible server error."),
    2: Known(503, "Service temporarily unavailable", "Temporary due to downtime or due to being overloaded."),
    3: Known(500, "API Method", "Capability or permissions issue."),
    4: Known(400, "Application request limit reached", "The app has reached its API call rate limit."),
    10: Known(403, "Application does not have permission for this action", "Permission is either not granted or has been removed."),
    33: Known(400, "Parameter value is not valid", "The business phone number has been deleted."),
    100: Known(400, "Invalid parameter", "The request included one or more unsupported or misspelled parameters."),
    104: Known(401, "An access token is required to request this resource.", "The request carries no access token."),
    190: Known(401, "Invalid OAuth access token - Cannot parse access token", "Your access token is not valid or has expired."),
    368: Known(403, "Temporarily blocked for policies violations", "The account has been restricted for violating a platform policy."),
    80007: Known(400, "Rate limit issues", "The WhatsApp Business Account has reached its rate limit."),
    130403: Known(403, "Business has blocked the user", "Message failed to send because this user is blocked by the business."),
    130429: Known(429, "Rate limit hit", "Message failed to send because there were too many messages sent from this phone number in a short period of time."),
    130472: Known(400, "User's number is part of an experiment", "Failed to send message because this user's phone number is part of an experiment"),
    130497: Known(403, "Business account is restricted from messaging users in this country.", "The account may not message users in this country."),
    80008: Known(400, "There have been too many calls to this WhatsApp Business account.", "Wait a bit and try again."),
    131000: Known(500, "Something went wrong", "Message failed to send due to an unknown error."),
    131005: Known(403, "Access denied", "Permission is either not granted or has been removed."),
    131008: Known(400, "Required parameter is missing", "The request is missing a required parameter."),
    131009: Known(400, "Parameter value is not valid", "One or more parameter values are invalid."),
    131016: Known(503, "Service unavailable", "A service is temporarily unavailable."),
    131021: Known(400, "Recipient cannot be sender", "Sender and recipient phone number is the same."),
    131026: Known(400, "Message undeliverable", "Message Undeliverable."),
    131030: Known(400, "Recipient phone number not in allowed list", "Recipient phone number not in allowed list."),
    131031: Known(403, "Account has been locked", "Business account has been locked."),
    131042: Known(400, "Business eligibility payment issue", "Message failed to send because there were one or more errors related to your payment method."),
    131045: Known(500, "Incorrect certificate", "Message failed to send due to a phone number registration error."),
    131047: Known(400, "Re-engagement message", "Message failed to send because more than 24 hours have passed since the customer last replied to this number."),
    131048: Known(400, "Spam rate limit hit", "Message failed to send because there are restrictions on how many messages can be sent from this phone number."),
    131049: Known(400, "Meta chose not to deliver.", "This message was not delivered to maintain healthy ecosystem engagement."),
    131050: Known(400, "User has stopped marketing messages", "The recipient has chosen to stop receiving marketing messages from this business."),
    131051: Known(400, "Unsupported message type", "Message type is currently not supported."),
    131053: Known(400, "Media upload error", "Unable to upload the media used in the message."),
    131056: Known(400, "(Business Account, Consumer Account) pair rate limit hit", "Too many messages sent from this phone number to the same recipient in a short period of time."),
    131057: Known(500, "Account in maintenance mode", "Business Account is in maintenance mode."),
    131062: Known(400, "Business-scoped user id is not supported for this message", "This message needs a phone number."),
    131063: Known(400, "Marketing templates are disabled", "Marketing templates are disabled on Cloud API for this account."),
    131064: Known(400, "Template categorization limit", "The account is limited because of incorrectly categorized templates."),
    132000: Known(400, "Number of parameters does not match the expected number of params", "The number of localizable_params does not match the expected number of params."),
    132001: Known(404, "Template name does not exist in the translation", "The template does not exist in the specified language or has not been approved."),
    132012: Known(400, "Parameter format does not match format in the created template", "Variable parameter values formatted incorrectly."),
    132015: Known(400, "Template is paused", "Template is paused due to low quality so it cannot be sent in a template message."),
    132016: Known(400, "Template is disabled", "Template has been paused too many times due to low quality and is now permanently disabled."),
    132018: Known(400, "There was an issue with the parameters in your template", "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"),
    133004: Known(503, "Server Temporarily Unavailable", "Server is temporarily unavailable."),
    133010: Known(400, "Account not registered", "The phone number is not registered on the WhatsApp Business Platform."),
    135000: Known(400, "Generic user error", "Message failed to send because of an unknown error with your request parameters."),
    137000: Known(400, "Recipient identity key hash mismatch", "The identity key hash does not match."),
}  # fmt: skip


def known(code: int) -> Known:
    """The entry of a code. A code that the table lacks is a bad request without details."""
    return KNOWN.get(code, Known(400, "Unknown error", "No further details."))


def refusal(code: int, details: str | None = None, *, http: int | None = None, message: str | None = None) -> Answer:
    """An error answer of the Graph API; ``details``, ``http`` and ``message`` override what the table says."""
    entry = known(code)
    error: Json = {
        "message": message or f"(#{code}) {entry.title}",
        "type": "OAuthException",
        "code": code,
        "error_data": {"messaging_product": "whatsapp", "details": details or entry.details},
        "fbtrace_id": "A" + secrets.token_urlsafe(16),
    }
    return Answer(http or entry.http, {"error": error}, code)


def unauthorised(code: int) -> Answer:
    """Errors of the access token: no ``error_data``, the message without a number."""
    error = {
        "message": known(code).title,
        "type": "OAuthException",
        "code": code,
        "fbtrace_id": "A" + secrets.token_urlsafe(16),
    }
    return Answer(401, {"error": error}, code)


def no_such_object(object_id: str) -> Answer:
    """100 with subcode 33: the number does not exist or the token may not see it."""
    message = (
        f"Unsupported post request. Object with ID '{object_id}' does not exist, cannot be loaded due to missing"
        " permissions, or does not support this operation. Please read the Graph API documentation at"
        " https://developers.facebook.com/docs/graph-api"
    )
    error: Json = {"message": message, "type": "GraphMethodException", "code": 100, "error_subcode": 33}
    return Answer(400, {"error": error | {"fbtrace_id": "A" + secrets.token_urlsafe(16)}}, 100)


def bad_template(subcode: int, title: str, sentence: str) -> Answer:
    """100 with a subcode: a template that cannot be. The sentences for people stand in ``error_user_*``."""
    error: Json = {
        "message": "Invalid parameter",
        "type": "OAuthException",
        "code": 100,
        "error_subcode": subcode,
        "is_transient": False,
        "error_user_title": title,
        "error_user_msg": sentence,
        "fbtrace_id": "A" + secrets.token_urlsafe(16),
    }
    return Answer(400, {"error": error}, 100)


def webhook_error(code: int) -> Json:
    """The same code as an element of ``errors[]`` in a webhook."""
    entry = known(code)
    return {
        "code": code,
        "title": entry.title,
        "message": entry.title,
        "error_data": {"details": entry.details},
        "href": HREF,
    }
