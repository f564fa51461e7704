"""What stands around every page of the inbox: the side bar, and what its scripts need to know. Pure.

Rule 1: a page shows a person what they may do. What a role may not is left out, or says why.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from libs.common.pages.entries import N_

View = Literal["all", "closing", "expired", "failed", "unread"]
Section = Literal["inbox", "templates", "spend", "bell"]

VIEWS: Mapping[View, tuple[str, str]] = {
    "all": (N_("All"), "all"),
    "closing": (N_("Closing soon"), "clock"),
    "expired": (N_("Expired"), "shut"),
    "failed": (N_("Failed"), "alert"),
    "unread": (N_("Unread"), "dot"),
}
"""Title and icon of each view, in their order."""
MOST_COUNTED = 99
"""What is more is written ``99+``."""


@dataclass(frozen=True, slots=True)
class Shell:
    """The frame of a page.

    ``counts``: conversations of each view; a view without one shows none. ``notices``: failures that the person has not
    seen, for the bell. ``token`` is that of the forms of this session.
    """

    org_name: str
    person_name: str
    section: Section
    token: str
    view: View | None = None
    counts: Mapping[View, int] = field(default_factory=dict)
    notices: int = 0

    @property
    def initials(self) -> str:
        return initials_of(self.person_name)


def initials_of(name: str | None) -> str:
    """Two letters for the round beside a name: of its first and its last word. A name without letters has a dot."""
    words = [word for word in (name or "").split() if word[0].isalnum()]
    letters = "".join(word[0] for word in dict.fromkeys([*words[:1], *words[-1:]]))
    return letters.upper()[:2] or "•"


def counted(count: int) -> str:
    """A counter as it is written."""
    return str(count) if count <= MOST_COUNTED else f"{MOST_COUNTED}+"
