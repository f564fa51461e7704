"""What a panel is: a question, and how fields of log lines answer it.

A figure counts lines, and Transom's lines are written at least once where the work is done at least once. So lines of
a repeat say so (``outcome`` is ``known``), and a panel leaves them out. Lines that a release before that wrote have no
``outcome`` and count. No I/O, no clock.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["decisions", "messages", "windows", "bridges", "sends", "webhooks", "records", "lines", "ms", "money"]

MOST_RECENT_SECONDS = 120
"""How long the lines that services write once a minute count."""
DAY_SECONDS = 24 * 3600
HOUR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Take:
    """Which lines count.

    ``where``: the words that a field must have. ``unless``: the words that it must not have; a line without the field
    counts. ``having``: fields that a line must have. ``label``: what the lines are called in the panel, where that is
    no field of theirs.
    """

    where: Mapping[str, tuple[str, ...]]
    unless: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    having: tuple[str, ...] = ()
    label: str | None = None

    @property
    def events(self) -> tuple[str, ...]:
        """The events that may count; none: any event."""
        return self.where.get("event", ())

    @property
    def fields(self) -> set[str]:
        return {*self.where, *self.unless, *self.having}


@dataclass(frozen=True, slots=True)
class Total:
    """How many lines there are, or what their field ``amount`` adds up to, by the words of other fields.

    ``by`` may hold ``label``, the label of the take.
    """

    takes: Sequence[Take]
    by: tuple[str, ...]
    amount: str | None = None


@dataclass(frozen=True, slots=True)
class Highest:
    """The highest ``amount`` of the lines of the last ``MOST_RECENT_SECONDS``, by the words of other fields.

    Each replica writes such a line once a minute about its own share, so the highest one is that of the system.
    """

    takes: Sequence[Take]
    by: tuple[str, ...]
    amount: str


@dataclass(frozen=True, slots=True)
class Until:
    """How many ``key`` have a latest ``moment`` that is still to come, and how many of these within the hour."""

    takes: Sequence[Take]
    key: str
    moment: str
    words: tuple[str, str]


@dataclass(frozen=True, slots=True)
class Followed:
    """Of the lines ``begins``: which line ``ends`` of the same ``key`` came first within ``within_seconds``, by ``by``.

    ``words``: what is called that which nothing followed in time, and that which may still be followed.
    """

    begins: Take
    ends: Take
    key: str
    by: str
    within_seconds: int
    words: tuple[str, str]

    @property
    def takes(self) -> Sequence[Take]:
        return self.begins, self.ends


How = Total | Highest | Until | Followed


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    ``answers``: the question. ``metric``: PromQL of the same figure, where a metric has it; ``$__range`` in it is the
    time that the board shows. ``of_organisations``: the lines name their organisation.
    """

    name: str
    title: str
    unit: Unit
    answers: str
    how: How
    metric: str | None = None
    of_organisations: bool = True

    @property
    def labels(self) -> tuple[str, ...]:
        """What the rows of the panel are told apart by."""
        match self.how:
            case Total(by=by) | Highest(by=by):
                return by
            case Until():
                return ("label",)
            case Followed():
                return ("label",)

    @property
    def fields(self) -> set[str]:
        """Every field of a line that the panel reads."""
        found = {"timestamp"} | {name for take in self.how.takes for name in take.fields}
        match self.how:
            case Total(by=by, amount=amount):
                found |= {*by, *([] if amount is None else [amount])}
            case Highest(by=by, amount=amount):
                found |= {*by, amount}
            case Until(key=key, moment=moment):
                found |= {key, moment}
            case Followed(key=key, by=by):
                found |= {key, by}
        if self.of_organisations:
            found.add("org_id")
        return found - {"label"}
