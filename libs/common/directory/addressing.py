"""To which address a customer's message goes. Pure.

Rule 1: the number that an intent names in ``to`` is the address.
Rule 2: without one it is the number that was confirmed last: by the customer, who wrote from it, or by the directory,
        which changed it.
Rule 3: Meta sends to ``to`` where a request has a number and a BSUID. A number that was confirmed before the BSUID is
        left out, because it may be another person's by now.
Rule 4: of two spellings of one line WhatsApp gets its own; every other channel gets the directory's.
"""

from datetime import datetime
from typing import NamedTuple

from libs.common.phone import from_wa_id, same_line


class KnownAddresses(NamedTuple):
    """What is known of a customer's addresses, each with its last confirmation (None: before all others)."""

    phone: str | None = None
    """E.164, as the directory or the first message spelled it."""
    phone_at: datetime | None = None
    wa_id: str | None = None
    wa_id_at: datetime | None = None
    bsuid: str | None = None
    bsuid_at: datetime | None = None

    @property
    def number(self) -> str | None:
        """The number for WhatsApp, E.164 (rules 2 and 4)."""
        return self.number_by(from_wa_id(self.wa_id))

    def number_by(self, wa_number: str | None) -> str | None:
        """The same, where the number of ``wa_id`` is at hand."""
        return wa_number if wa_number is not None and not self._corrected(wa_number) else self.phone

    def number_at(self, wa_number: str | None) -> datetime | None:
        """When the number was confirmed last."""
        if wa_number is None or self._corrected(wa_number):
            return self.phone_at
        if self.phone_at is None or self.phone is None or not same_line(self.phone, wa_number):
            return self.wa_id_at
        return self.phone_at if self.wa_id_at is None else max(self.wa_id_at, self.phone_at)

    def _corrected(self, wa_number: str) -> bool:
        if self.phone is None or same_line(self.phone, wa_number):
            return False
        return self.phone_at is not None and (self.wa_id_at is None or self.phone_at > self.wa_id_at)


class WhatsAppAddress(NamedTuple):
    """For Meta: ``to`` in E.164, ``recipient`` a BSUID. Both None: the customer cannot be reached by WhatsApp."""

    to: str | None
    recipient: str | None


def address_of(known: KnownAddresses, named: str | None = None) -> WhatsAppAddress:
    """The address of a WhatsApp message; ``named`` is the number in the intent's ``to``, E.164."""
    wa_number = from_wa_id(known.wa_id)
    number = named
    if number is None:
        if known.bsuid is not None and known.bsuid_at is not None:
            confirmed_at = known.number_at(wa_number)
            if confirmed_at is None or confirmed_at < known.bsuid_at:
                return WhatsAppAddress(None, known.bsuid)
        number = known.number_by(wa_number)
        if number is None:
            return WhatsAppAddress(None, known.bsuid)
    # the BSUID is known to belong to the holder of this number where WhatsApp named them together
    together = wa_number is None or same_line(number, wa_number)
    return WhatsAppAddress(number, known.bsuid if together else None)


def moved(known: KnownAddresses, *, to: str | None, recipient: str | None, named: bool) -> bool:
    """Whether the address of a decision is no longer the customer's.

    For a number that was ``named`` it matters who has its line, not this.
    """
    if to is not None:
        return not named and (known.number is None or not same_line(to, known.number))
    return recipient is not None and recipient != known.bsuid
