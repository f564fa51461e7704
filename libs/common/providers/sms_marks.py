"""What an SMS provider's word about a recipient means, and how long it counts, whoever the provider is. Pure.

A wrong mark costs a message. A missing one costs the price of a failed SMS for every message.
"""

from datetime import timedelta
from typing import Final

from libs.common.faults import RecipientFault

_DAY = timedelta(days=1)
OUT_OF_REACH: Final = RecipientFault("unreachable", _DAY)
NO_ROUTE: Final = RecipientFault("no_phone", _DAY)
"""The number cannot be reached as things are set up at the provider, which may change: tried again every day."""
BLOCKED: Final = RecipientFault("no_phone", timedelta(days=30))
NO_PHONE: Final = RecipientFault("no_phone", timedelta(days=90))
STOPPED: Final = RecipientFault("sms_opted_out", timedelta(days=365))
