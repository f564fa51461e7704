"""Which card of ``contacts[]`` belongs to a message, a call or a status. Pure.

Rule 1: a card belongs to an item by its id, BSUID before number, whichever number of the line it names; never by its position.
Rule 2: where there is one card and one item, the card is the item's, whatever number it names.
Rule 3: a card that names another BSUID than the item is another person's; a number on two cards with different BSUIDs tells nothing.

The cards are read once, so that many items with many cards cost no more than their number.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from libs.common.phone import canonical, from_wa_id

Card = dict[str, Any]

_BSUIDS = ("from_user_id", "recipient_user_id")
_NUMBERS = ("from", "recipient_id")


class Cards:
    """The cards beside ``items`` messages, calls and statuses."""

    def __init__(self, contacts: object, items: int) -> None:
        listed = contacts if isinstance(contacts, list) else []
        people = [card for card in listed if isinstance(card, dict)]
        self._only = people[0] if len(people) == len(listed) == items == 1 else None
        self._by_bsuid = _index((_text(card.get("user_id")), card) for card in people)
        self._by_line = _index((_line(card.get("wa_id")), card) for card in people)

    def of(self, item: object) -> Card | None:
        """The card of this item, or None."""
        if not isinstance(item, dict):
            return None
        # seen in the wild: the BSUID under the name of the number
        bsuids = [found for name in (*_BSUIDS, *_NUMBERS) if (found := _text(item.get(name)))]
        lines = [found for name in _NUMBERS if (found := _line(item.get(name)))]
        for one in bsuids:
            if one in self._by_bsuid:
                return self._by_bsuid[one]
        card = next((self._by_line[one] for one in lines if one in self._by_line), self._only)
        return None if card is None or _of_another(card, item) else card


def _of_another(card: Card, item: Mapping[str, Any]) -> bool:
    """Both name a BSUID, and it is not the same one: that would have been found."""
    return bool(_text(card.get("user_id")) and any(_text(item.get(name)) for name in _BSUIDS))


def _index(cards: Iterable[tuple[str | None, Card]]) -> dict[str, Card]:
    found: dict[str, Card] = {}
    unclear: set[str] = set()
    for key, card in cards:
        if key is not None and _text(found.setdefault(key, card).get("user_id")) != _text(card.get("user_id")):
            unclear.add(key)
    return {key: card for key, card in found.items() if key not in unclear}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _line(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    e164 = from_wa_id(value.removeprefix("+")) if isinstance(value, str) else None
    return None if e164 is None else canonical(e164)
