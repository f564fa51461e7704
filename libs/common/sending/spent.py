"""What the charges of one transaction change, for the log.

The changes of all lines add up to the sum of all charges: an estimate is told when the charge is made, and when the
price is known the difference. Lines are written after the commit, so that what was rolled back is not told.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from libs.common.logging import get_logger

log = get_logger()

_NOTHING = Decimal(0)


class ChargeChange(NamedTuple):
    """A charge before and after a statement, by the columns of ``charges``. A new one had no price before."""

    org_id: str
    channel: str
    category: str
    former_category: str | None
    former_currency: str | None
    former_price: Decimal | None
    currency: str | None
    price: Decimal | None


Group = tuple[str, str, str, str]
"""Organisation, channel, category, currency."""


@dataclass(slots=True)
class Spent:
    """Adds changes up by organisation, channel, category and currency."""

    amounts: dict[Group, Decimal] = field(default_factory=dict)

    def add(self, changes: Iterable[Any]) -> None:
        """``changes``: rows of a statement with the fields of ``ChargeChange``, in their order."""
        for one in map(ChargeChange._make, changes):
            self._add(one, one.former_category or one.category, one.former_currency, one.former_price, -1)
            self._add(one, one.category, one.currency, one.price, 1)

    def join(self, other: "Spent") -> None:
        """Add the changes of another one."""
        for group, amount in other.amounts.items():
            self.amounts[group] = self.amounts.get(group, _NOTHING) + amount

    @classmethod
    def of(cls, several: Iterable["Spent"]) -> "Spent":
        """The changes of all of these."""
        total = cls()
        for one in several:
            total.join(one)
        return total

    def log(self) -> None:
        """One line for each group whose sum has changed. Call after the commit."""
        for (org_id, channel, category, currency), amount in sorted(self.amounts.items()):
            if amount:
                log.info(
                    "spend.changed",
                    org_id=org_id,
                    channel=channel,
                    category=category,
                    currency=currency,
                    amount=float(amount),
                )
        self.amounts.clear()

    def _add(self, one: ChargeChange, category: str, currency: str | None, price: Decimal | None, sign: int) -> None:
        if price and currency is not None:
            group = one.org_id, one.channel, category, currency
            self.amounts[group] = self.amounts.get(group, _NOTHING) + sign * price
