"""The line of a charge says when it was made, and whether its price is the estimate or the provider's figure."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from deploy.cli.explain import _charge_line
from deploy.cli.queries import Charge

AT = datetime(2026, 11, 26, microsecond=4000, tzinfo=UTC)


def a_charge(**changes: Any) -> Charge:
    fields: dict[str, Any] = {
        "channel": "sms",
        "category": "bridge",
        "segments": 1,
        "currency": "GBP",
        "price": Decimal("0.040000"),
        "estimated": True,
        "estimate": Decimal("0.040000"),
        "estimate_currency": "GBP",
        "at": AT,
    }
    return Charge(**fields | changes)


@pytest.mark.parametrize(
    ("charge", "line"),
    [
        (a_charge(), "sms bridge, 1 segment(s): 0.04 GBP (estimated)"),
        (a_charge(price=None, estimate=None), "sms bridge, 1 segment(s): no rate card covers the day"),
        (
            a_charge(category="sms", segments=2, price=Decimal("0.0666"), currency="EUR", estimated=False),
            "sms sms, 2 segment(s): 0.0666 EUR by the provider, estimated as 0.04 GBP",
        ),
        (
            a_charge(estimated=False, estimate=None, currency=None),
            "sms bridge, 1 segment(s): 0.04 in an unknown currency by the provider",
        ),
    ],
)
def test_a_charge_is_explained(charge: Charge, line: str) -> None:
    assert _charge_line(charge) == (AT, "charged", line)


def test_a_charge_that_meta_dates_in_whole_seconds_is_shown_after_what_was_done_within_the_second() -> None:
    at, *_ = _charge_line(a_charge(at=AT.replace(microsecond=0)))
    assert at > AT
