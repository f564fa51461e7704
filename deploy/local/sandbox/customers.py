"""The customers and the windows that they have opened, as Meta knows them. No I/O; callers pass the time.

Rule 1: a person is known by a business-scoped id; a phone number leads to one, always the same.
Rule 2: a window belongs to (business number, person) and is opened by the person alone.
Rule 3: it is open while ``now < last + day``, where ``last`` is the newest timestamp of what the person sent.
"""

import hashlib
from collections import OrderedDict
from typing import TypeVar

from deploy.local.sandbox.numbers import country

K = TypeVar("K")
V = TypeVar("V")
CEILING = 200_000
"""How many customers and windows are kept; those unused for longest are dropped."""


class Customers:
    """Phone numbers and business-scoped ids of the same person."""

    def __init__(self) -> None:
        self._bsuids: OrderedDict[str, str] = OrderedDict()
        self._names: OrderedDict[str, str] = OrderedDict()
        self._registered: OrderedDict[str, str] = OrderedDict()
        self._hidden: OrderedDict[str, bool] = OrderedDict()

    def named(self, bsuid: str, name: str) -> None:
        _remember(self._names, bsuid, name)

    def name_of(self, bsuid: str) -> str:
        return self._names.get(bsuid, "Customer")

    def introduce(self, wa_id: str, bsuid: str) -> None:
        """Assign this number to this person."""
        _remember(self._bsuids, wa_id, bsuid)

    def register(self, dialled: str, wa_id: str, *, hidden: bool) -> None:
        """Messages to this number reach the account ``wa_id``; ``hidden``: answers name it by its user id alone."""
        _remember(self._registered, dialled, wa_id)
        _remember(self._hidden, wa_id, hidden)

    def wa_id_of(self, dialled: str) -> str:
        """The account behind a dialled number."""
        return self._registered.get(dialled, dialled)

    def hides(self, wa_id: str) -> bool:
        """Whether answers leave the number out."""
        return self._hidden.get(wa_id, False)

    def bsuid_of(self, wa_id: str) -> str:
        """The person behind a number: as introduced, else derived from the number."""
        known = self._bsuids.get(wa_id)
        if known is not None:
            return known
        digest = hashlib.sha256(wa_id.encode()).digest()
        return f"{country(wa_id)}.{int.from_bytes(digest[:8]):020d}"


class Windows:
    """When each person last wrote to each business number, in unix seconds."""

    def __init__(self) -> None:
        self._last: OrderedDict[tuple[str, str], int] = OrderedDict()

    def opened(self, number_id: str, bsuid: str, at: int) -> None:
        """The person wrote or called at this time; an older time changes nothing."""
        key = (number_id, bsuid)
        _remember(self._last, key, max(at, self._last.get(key, at)))

    def is_open(self, number_id: str, bsuid: str, now: float, day: float) -> bool:
        last = self._last.get((number_id, bsuid))
        return last is not None and now < last + day

    def closes_at(self, number_id: str, bsuid: str, day: float) -> float | None:
        """The first instant at which the window is closed, or None if it never opened."""
        last = self._last.get((number_id, bsuid))
        return None if last is None else last + day

    def forget(self) -> None:
        self._last.clear()


def _remember(known: OrderedDict[K, V], key: K, value: V) -> None:
    known[key] = value
    known.move_to_end(key)
    if len(known) > CEILING:
        known.popitem(last=False)
