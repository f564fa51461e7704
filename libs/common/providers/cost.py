"""What a provider says a message costs. Pure.

Twilio gives a negative price, as an entry of its account; ours are what is paid.
"""

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import NamedTuple

_MOST_SEGMENTS = 100
_MOST_PRICE = 100_000
"""In any currency: a long SMS to Vietnam costs more than 1,000 of its own."""
_LONGEST = 30  # characters


class Cost(NamedTuple):
    """The segments and the price of one message, as far as the provider said it. ``currency`` is ISO 4217.

    A price without a currency is in one that the provider does not name.
    """

    segments: int | None
    amount: Decimal | None
    currency: str | None


def read_cost(segments: object, amount: object, currency: object) -> Cost | None:
    """The cost in a provider's words; None where it says nothing of it, or nothing that can be one."""
    count = int(segments) if isinstance(segments, int | str) and _is_count(str(segments)) else None
    price = _price(amount)
    named = currency.upper() if isinstance(currency, str) and _is_currency(currency) else None
    return None if count is None and price is None else Cost(count, price, None if price is None else named)


def total(amounts: Sequence[object]) -> Decimal | None:
    """The sum of the prices of a message's parts; None where one of them has none, or where it can be no price."""
    prices = [_price(amount) for amount in amounts]
    known = [price for price in prices if price is not None]
    return _price(sum(known, Decimal(0))) if known and len(known) == len(prices) else None


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < _LONGEST and 0 < int(text) <= _MOST_SEGMENTS


def _is_currency(text: str) -> bool:
    return text.isascii() and text.isalpha() and len(text) == len("EUR")


def _price(amount: object) -> Decimal | None:
    if isinstance(amount, bool) or not isinstance(amount, str | int | float | Decimal) or len(str(amount)) > _LONGEST:
        return None
    try:
        price = abs(Decimal(str(amount)))
    except InvalidOperation:
        return None
    return price if price.is_finite() and price <= _MOST_PRICE else None
