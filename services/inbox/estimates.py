"""What a message to a customer would cost, for the composer and for who writes a template.

Rule 1: an estimate is made by the rate card and the rules of charges (``libs.common.sending``), for the country of the
        customer's number, in the organisation's currency where the card has it.
Rule 2: where the card has no price there is none. No price is guessed.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from libs.common.countries import country_of
from libs.common.db.pool import Connection
from libs.common.sending.whatsapp_prices import (
    FREE_SERVICE,
    SERVICE,
    SERVICE_BILLED_FROM,
    country_on_whatsapp,
    rate_categories,
)
from services.inbox import estimate_queries
from services.inbox.composer_views import Price, Prices

_TEMPLATES = ("utility", "marketing", "authentication")


async def prices_for(db: Connection, org_id: str, conversation_id: UUID, now: datetime) -> Prices:
    """The prices of today (UTC) for this conversation's customer."""
    today = now.date()
    billed = await estimate_queries.billed(db, org_id, conversation_id, today.replace(day=1))
    if billed is None:
        return Prices()
    country = country_on_whatsapp(billed.wa_id or billed.phone, billed.bsuid)
    wanted = [("whatsapp", one, country) for one in (SERVICE, *_TEMPLATES)]
    if billed.phone is not None:
        wanted.append(("sms", "sms", country_of(billed.phone)))
    rates = await estimate_queries.rates(db, wanted, billed.currency, today)
    found = _priced(rates)
    service = next((one for name in rate_categories(SERVICE) if (one := found.get(("whatsapp", name)))), None)
    if service is not None and (today < SERVICE_BILLED_FROM or billed.delivered < FREE_SERVICE):
        service = Price(Decimal(0), service.currency)
    return Prices(
        service=service,
        sms=found.get(("sms", "sms")),
        templates=_of_templates(found),
    )


async def prices_at(db: Connection, org_id: str, number: str, now: datetime) -> Prices:
    """The prices of templates of today (UTC) for customers in the country of this number of the organisation."""
    currency = await estimate_queries.currency(db, org_id)
    wanted = [("whatsapp", one, country_of(number)) for one in _TEMPLATES]
    return Prices(templates=_of_templates(_priced(await estimate_queries.rates(db, wanted, currency, now.date()))))


def _priced(rates: Mapping[tuple[str, str], tuple[Decimal, str]]) -> dict[tuple[str, str], Price]:
    return {name: Price(*rate) for name, rate in rates.items()}


def _of_templates(found: Mapping[tuple[str, str], Price]) -> dict[str, Price]:
    return {one.upper(): price for one in _TEMPLATES if (price := found.get(("whatsapp", one))) is not None}
