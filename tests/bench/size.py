"""How much of everything a run of the bench does.

A full topic lasts three seconds and more, because shorter rounds scatter widely, and what the first touch of a page
costs weighs on them. (What a run spends is sampled twice a second.)
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Size:
    """How much of everything: ``records`` by name of the work, ``pace_seconds`` by pace and kind in ``pace_rounds``.

    ``few``, ``apart``, ``many``: stored conversations.
    """

    rounds: int
    pace_rounds: int
    few: int
    apart: int
    """So many are stored where each record has a conversation of its own and no growth is measured."""
    many: int | None
    intake_seconds: float
    portal_seconds: float
    pace_seconds: float
    records: dict[str, int]
    rest_seconds: float
    listed: int
    """Conversations of the organisation whose lists are asked for."""

    @property
    def large(self) -> int:
        """The largest number of stored conversations: at least one for each record."""
        return self.apart if self.many is None else self.many


FULL = Size(
    3,
    3,
    1_000,
    60_000,
    1_000_000,
    3.0,
    5.0,
    10.0,
    {
        "through": 60_000,
        "inbound SMS": 10_000,
        "statuses": 60_000,
        "routing": 60_000,
        "sending": 20_000,
        "sending, slow provider": 10_000,
        "texting": 2_000,
    },
    20.0,
    1_000_000,
)
QUICK = Size(
    1,
    1,
    1_000,
    10_000,
    None,
    2.0,
    2.0,
    4.0,
    {
        "through": 10_000,
        "inbound SMS": 5_000,
        "statuses": 30_000,
        "routing": 10_000,
        "sending": 2_500,
        "sending, slow provider": 5_000,
        "texting": 1_000,
    },
    5.0,
    20_000,
)
