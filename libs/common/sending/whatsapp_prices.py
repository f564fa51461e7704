"""What a WhatsApp message costs by Meta's words and the rate card. Pure.

Meta tells type and category of a message in its statuses, and no amount. It bills on delivery.

Rule 1: a type that begins with ``free`` costs nothing: the free entry point, and whatever else Meta gives away. Where
        there is no type, ``billable: false`` says the same. Any other type is billed by its category.
Rule 2: free-form messages are of the category ``service``. Until ``SERVICE_BILLED_FROM`` they cost nothing. From then
        on the first ``FREE_SERVICE`` that a business number delivers in a month cost nothing, and the others the price
        of ``service``, else that of ``utility``: Meta's prices of the two are the same in every market.
Rule 3: what comes through a free entry point does not count towards those. Whether Meta marks the others as free or
        not, they count.
Rule 4: a category without a price in the rate card has no known price. It is never guessed from another one, but
        ``marketing_lite``, which costs what ``marketing`` does.

Source: Meta's pricing pages of July 2025 and October 2026. Months are those of UTC, for Meta's accounts have zones
that Transom does not know.
"""

from datetime import date
from typing import NamedTuple

from libs.common.countries import ANYWHERE, country_of

SERVICE = "service"
SERVICE_BILLED_FROM = date(2026, 10, 1)
FREE_SERVICE = 1000
_CODE_LETTERS = 2
_ENTRY_POINT = "free_entry_point"
_SAME_PRICE = {SERVICE: "utility", "marketing_lite": "marketing"}


class MetaWords(NamedTuple):
    """What Meta said of one message. ``day``: when it was delivered; before that, when Meta said so (UTC)."""

    type: str | None
    category: str | None
    billable: bool | None
    day: date


def is_free(words: MetaWords) -> bool:
    """Whether the message costs nothing, whatever its number has delivered this month."""
    told = words.billable is False if words.type is None else words.type.startswith("free")
    return told or (words.category == SERVICE and words.day < SERVICE_BILLED_FROM)


def counts_towards_free(words: MetaWords) -> bool:
    """Whether the message is one of those of which a number has ``FREE_SERVICE`` a month for nothing."""
    return words.category == SERVICE and words.day >= SERVICE_BILLED_FROM and words.type != _ENTRY_POINT


def rate_categories(category: str | None) -> tuple[str, ...]:
    """The categories of the rate card by which this one is priced, the first that has a price counts."""
    if category is None:
        return ()
    known = category.replace("-", "_")  # Meta writes authentication-international and authentication_international
    return (known, _SAME_PRICE[known]) if known in _SAME_PRICE else (known,)


def country_on_whatsapp(number: str | None, bsuid: str | None) -> str:
    """Where a customer is billed (ISO 3166-1 alpha-2): by their number, else by what their BSUID begins with."""
    if number:
        return country_of(number)
    head = (bsuid or "").partition(".")[0]
    return head if len(head) == _CODE_LETTERS and head.isalpha() else ANYWHERE
