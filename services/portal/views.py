"""The pages of the portal, as the routes make them and ``html`` writes them. Pure.

Rule 1: a page holds what the customer may see and nothing else: no id of staff, no reason, no price, no other identity.
Rule 2: before the session begins a page names the organisation only, never the customer or a message.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

Author = Literal["you", "garage", "automatic"]
State = Literal["sent", "seen"]
Refusal = Literal["not_sent", "empty", "too_long", "characters", "too_many", "form_expired"]
"""Why a message was not taken: Kafka is away, or the text or its form is not valid."""
Trouble = Literal["away", "forbidden", "too_many", "not_here", "broken"]
"""Why there is no page: PostgreSQL is away, a form without its token, too many requests, an unknown address."""


@dataclass(frozen=True, slots=True)
class Garage:
    """The organisation as the customer knows it. ``number`` is that of its WhatsApp in E.164."""

    name: str
    number: str | None = None


@dataclass(frozen=True, slots=True)
class OpenPage:
    """``GET /{code}``. ``by_itself``: a visible browser posts the form without a tap."""

    garage: Garage
    token: str
    by_itself: bool = True


@dataclass(frozen=True, slots=True)
class ReplacePage:
    """A link is opened where a session of another conversation runs: the form asks before it replaces that session.

    ``phone_end`` are the last two digits of the phone whose session ends.
    """

    garage: Garage
    token: str
    phone_end: str


@dataclass(frozen=True, slots=True)
class GonePage:
    """The one page of every code that opens nothing, and of a session that has ended.

    ``garage`` is named only where the host is the organisation's own. ``token`` is None where no fresh link can be
    asked for, because there is no code. ``asked``: a fresh SMS was asked for. The page says the same whether one goes
    out or not. ``text`` was posted to a session that has ended: it can be copied from the page. ``is_inside``: a
    session lives in this browser, whatever became of the code.
    """

    garage: Garage | None = None
    token: str | None = None
    asked: bool = False
    text: str = ""
    is_inside: bool = False


@dataclass(frozen=True, slots=True)
class Unsent:
    """A message that was posted and could not be looked at: its text, and the hidden fields of its form."""

    text: str
    token: str
    client_id: str


@dataclass(frozen=True, slots=True)
class TroublePage:
    """A page that says what is wrong and what to do.

    ``again`` is the path that may be tried again. ``unsent`` keeps what was written, to be sent from this page.
    """

    trouble: Trouble
    garage: Garage | None = None
    again: str | None = None
    unsent: Unsent | None = None


@dataclass(frozen=True, slots=True)
class ShownMessage:
    """A message of the thread. ``content`` is the stored one, ``at`` is aware.

    ``place`` names the message to ``?before=``; it is the conversation's own and tells nothing of others. ``state`` is
    of the customer's own messages.
    """

    message_id: str
    author: Author
    channel: str
    content: Mapping[str, Any]
    at: datetime
    place: str
    state: State | None = None


@dataclass(frozen=True, slots=True)
class ThreadPage:
    """``GET /conversation``, and the answer to a message that was not taken.

    ``messages`` are in the thread's order, oldest first. ``has_earlier``: there are older ones than these.
    ``is_newest``: no newer ones follow, so the page stays live. After ``last_event`` the stream goes on.
    ``draft_key`` names the conversation to the browser's storage. ``text`` and ``refusal`` are of a message that was
    not taken. ``on_its_way``: the message that was posted last is taken, but not stored yet. ``now`` is the server's.
    """

    garage: Garage
    phone_end: str
    messages: Sequence[ShownMessage]
    token: str
    client_id: str
    draft_key: str
    now: datetime
    last_event: str = ""
    has_earlier: bool = False
    is_newest: bool = True
    on_its_way: bool = False
    text: str = ""
    refusal: Refusal | None = None


Page = OpenPage | ReplacePage | GonePage | TroublePage | ThreadPage
