"""Meta's error codes: one table, for responses of the Graph API and for later failed statuses. Pure.

Only the code counts; titles and texts are localised and change. An unknown code is an ``UnknownFault``. A response is
then read by its HTTP status. A failed status fails its message with the code.

Source: https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes. Meta does not say which codes come
in a response and which in a status, so every row holds for both.
"""

from datetime import timedelta
from typing import Final

from libs.common.faults import (
    AccountFault,
    ContentFault,
    Fault,
    RecipientFault,
    TemplateGone,
    TemplateNeedsSync,
    Throttled,
    TransientFault,
    UnknownFault,
    WindowClosed,
)

INVALID_PARAMETER: Final = "100"
WRONG_NUMBER_ID: Final = "33"
"""As the subcode of 100: the phone number id does not exist, or the token may not see it."""

_UNREACHABLE = RecipientFault("unreachable", timedelta(days=3))
"""Meta sometimes returns 131026 for a customer who is reached an hour later: days, not weeks."""
_BLOCKED = RecipientFault("unreachable", timedelta(days=30))
_NOT_AS_TEMPLATE = RecipientFault()
_LIMITED = RecipientFault("marketing_limited", timedelta(days=1))
"""Meta asks for no retry within a day, and holds many of them against the whole account."""

_ACCOUNT = (
    *(0, 3, 10, 102, 104, 190, *range(200, 300), 131005),  # token and permission
    *(33, 131045, 133010),  # the number: deleted, not registered
    *(368, 131031),  # locked for a breach of policy
    *(131042, 131044),  # payment: messages, calls
    131064,  # the WABA's limit for templates of a wrong category, free-form too
    131037,  # the display name is not approved
)
_CONTENT = (
    *(100, 131009, 131051, 135000),  # parameters, type, "generic user error"
    *(132068, 132069),  # the flow is blocked or throttled
    131021,  # the sender is the recipient
    131030,  # a test number writes to a recipient outside its list
    131052,  # media that the customer sent
    137000,  # the identity's hash does not match: the hold was requested
)

FAULTS: Final[dict[int, Fault]] = {
    131047: WindowClosed(),
    **dict.fromkeys(_ACCOUNT, AccountFault()),
    131048: AccountFault("templates"),  # the number's quality: what it sends is held back as spam, templates first
    132001: TemplateGone("DELETED"),  # no such template in this language, or not approved
    132015: TemplateGone("PAUSED"),
    132016: TemplateGone("DISABLED"),
    # the variables, texts, components or values do not fit the template at Meta
    **dict.fromkeys((131008, 132000, 132005, 132007, 132012, 132018), TemplateNeedsSync()),
    131026: _UNREACHABLE,  # undeliverable: not on WhatsApp, an old client, terms not accepted, blocked
    130403: _BLOCKED,  # the business blocked the user
    130497: _BLOCKED,  # this WABA may not write to the recipient's country
    131050: RecipientFault("marketing_stopped"),  # the user stopped marketing: a consent, withdrawn
    131049: _LIMITED,  # the user had enough marketing of any business for a day
    130472: _LIMITED,  # the user is part of an experiment: no marketing outside the window
    131062: _NOT_AS_TEMPLATE,  # such a template needs a phone number, and only the user id is known
    131063: _NOT_AS_TEMPLATE,  # marketing templates are disabled on this API
    131056: Throttled("pair"),
    **dict.fromkeys((4, 17, 32, 341, 613, 80007, 80008, 130429, 131057), Throttled("account")),
    **dict.fromkeys((1, 131000), TransientFault()),
    **dict.fromkeys((2, 131016, 133004), TransientFault(outage=True)),  # "temporarily unavailable"
    131053: TransientFault(certain=True),  # media could not be fetched; now and then it can a moment later
    **dict.fromkeys(_CONTENT, ContentFault()),
}
"""The fault of every known code, by its number."""


def fault_of(code: str | int | None) -> Fault:
    """The fault of a code. ``code`` is None where Meta gave none."""
    text = str(code)
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 12 else None  # noqa: PLR2004 -- codes have 6 digits
    return UnknownFault() if number is None else FAULTS.get(number, UnknownFault())
