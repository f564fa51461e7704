"""What becomes of what people ask of a template: the outcomes of ``services.inbox.templates``."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from services.inbox.template_limits import Content, Fault
from services.inbox.template_queries import TemplateRow


@dataclass(frozen=True, slots=True)
class Stored:
    """The template as it stands. ``unknown``: it was submitted, and Meta's answer was lost: a sync will show it."""

    template: TemplateRow
    state: Literal["draft", "submitted", "unknown"]


@dataclass(frozen=True, slots=True)
class Faulty:
    """Meta was not asked: these are its limits. Nothing was stored."""

    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class NotTaken:
    """Meta said no, with its own sentence. The draft and the sentence are kept."""

    template: TemplateRow
    code: str
    sentence: str


@dataclass(frozen=True, slots=True)
class NotAsked:
    """Meta could not be asked, or did nothing: the draft is kept. ``account``: people must mend the account first."""

    template: TemplateRow
    code: str
    account: bool


@dataclass(frozen=True, slots=True)
class Busy:
    """A submission is under way, or its outcome is not known yet."""


@dataclass(frozen=True, slots=True)
class Absent:
    """The organisation has no such template."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """Meta has it no more, or the draft is gone."""


Outcome = Stored | Faulty | NotTaken | NotAsked | Busy | Absent
Removal = Deleted | NotTaken | NotAsked | Busy | Absent


class Wanted(NamedTuple):
    """What a person wants of a new template. ``waba_id`` may be left out where the organisation has one WABA."""

    waba_id: str | None
    content: Content
