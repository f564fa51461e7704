"""What an AI agent is told of a conversation: its last messages over all channels, oldest first. Pure.

Rule 1: a customer's words stand under the role ``customer`` and nowhere else. The text of the role ``system`` is one of
        this module, or a template as Meta approved it. So nothing that somebody else chose speaks with its voice.
Rule 2: names are data: single fields of at most ``MOST_OF_A_NAME`` characters without control characters. An automatic
        template stands with its places unfilled and what fills them beside it. So do the words of an automatic text.
Rule 3: at most ``MOST_MESSAGES`` messages and ``MOST_CHARACTERS`` characters of text, whatever is asked. The oldest are
        left out first. Of the newest message alone the beginning stands, where it is longer.
Rule 4: a message counts as delivered once the provider or the portal says so. Until then it is not, with the reason
        where it has failed. Nothing that was only kept for later is told: it was not said.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple
from uuid import UUID

from babel.languages import get_official_languages

from libs.common.countries import country_of
from libs.common.events.outbound import Channel
from libs.common.pages.entries import entry_of
from libs.common.template_parameters import PLACE
from services.inbox.contents import articles_of, origin_of

MOST_MESSAGES, MOST_CHARACTERS = 200, 32_000
MESSAGES, CHARACTERS = 30, 8_000
"""Where nothing is asked."""
MOST_OF_A_NAME = 64
_ASKED = "The customer was asked by SMS to come back to WhatsApp or to the portal."
_ASKING = "Staff asked for an SMS that invites the customer back."
_PARAMETER = 1_024

Role = Literal["customer", "ai", "staff", "system"]


class ThreadRow(NamedTuple):
    """A stored message, as ``context_queries`` reads it.

    ``in_portal``: whether the portal shows it. ``sent`` is what went out instead of ``content``: a fallback template.
    ``body`` is the text of the template that went out, with its places unfilled, and ``language`` its language.
    """

    message_id: UUID
    direction: str
    actor: str | None
    channel: Channel
    kind: str
    content: Mapping[str, Any]
    notification_type: str | None
    status: str
    reason: str | None
    read_channel: str | None
    occurred_at: datetime
    in_portal: bool
    sent: Mapping[str, Any] | None = None
    body: str | None = None
    language: str | None = None


@dataclass(frozen=True, slots=True)
class ContextMessage:
    """One message.

    ``delivered``: it certainly arrived. ``portal``: whether the customer read it there (``read``), or may (``shown``).
    ``verified`` is False where anybody could have written as this sender, as in every SMS. ``unsent`` is the text that
    a template went out instead of. Of an automatic message ``parameters`` fill the places of its template, or ``said``
    has its words.
    """

    message_id: UUID
    role: Role
    channel: Channel
    at: datetime
    kind: str
    text: str | None
    delivered: bool
    status: str
    reason: str | None
    portal: Literal["read", "shown"] | None
    verified: bool | None
    truncated: bool = False
    unsent: str | None = None
    parameters: Mapping[str, str] | Sequence[str] | None = None
    said: str | None = None

    @property
    def length(self) -> int:
        """Its characters, as they are bounded."""
        filling = self.parameters.values() if isinstance(self.parameters, Mapping) else self.parameters or ()
        return sum(len(text or "") for text in (self.text, self.unsent, self.said, *filling))


def within(newest_first: Iterable[ThreadRow], messages: int, characters: int) -> list[ContextMessage]:
    """The messages that fit, oldest first."""
    left, found = max(0, min(characters, MOST_CHARACTERS)), list[ContextMessage]()
    for row in newest_first:
        if len(found) >= min(messages, MOST_MESSAGES):
            break
        message = context_message(row)
        if message is None:
            continue
        if message.length > left:
            if not found:
                found.append(_cut(message, left))
            break
        left -= message.length
        found.append(message)
    return found[::-1]


def context_message(row: ThreadRow) -> ContextMessage | None:
    """The message; None for a notice of the provider's system, which is nobody's message."""
    if row.direction == "in":
        if row.kind == "unsupported" and row.content.get("type") == "system":
            return None
        return _message(row, "customer", _words(row.content), verified=row.content.get("verified") is not False)
    if row.kind == "bridge" or row.notification_type == "bridge":
        return _message(row, "system", _ASKING if row.kind == "bridge" else _ASKED)
    role = row.actor if row.actor in ("ai", "staff") else "system"
    went = row.content if row.sent is None else row.sent
    unsent = None if row.sent is None else _words(row.content)
    if role == "system":
        return _of_the_system(row, went)
    text = filled(went, row.body) if went.get("kind") == "template" else _words(went)
    return _message(row, "ai" if role == "ai" else "staff", text, unsent=unsent)


def as_name(name: str | None) -> str | None:
    """A name as a field: one line without control characters and invisible ones, cut to ``MOST_OF_A_NAME``."""
    if name is None:
        return None
    shown = "".join(" " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(shown.split())[:MOST_OF_A_NAME].rstrip() or None


def language_of(template: str | None, phone: str | None, country: str | None) -> str | None:
    """The language to answer in, as far as it is known: BCP 47 without a script.

    That of the newest template that went to the customer, else the first official one of their phone's country, else
    of the organisation's. Agents go by what the customer writes, where they can tell.
    """
    if template:
        return template.replace("_", "-")
    for territory in (country_of(phone) if phone else None, country):
        if territory and (found := get_official_languages(territory, regional=False, de_facto=True)):
            return found[0].replace("_", "-")
    return None


def _of_the_system(row: ThreadRow, went: Mapping[str, Any]) -> ContextMessage:
    """A message that no person and no agent wrote."""
    if went.get("kind") != "template":
        return _message(row, "system", "An automatic message.", said=_words(went))
    parameters = went.get("parameters")
    shown: Mapping[str, str] | Sequence[str] | None = None
    if isinstance(parameters, Mapping):
        shown = {str(name)[:MOST_OF_A_NAME]: as_name(str(value)) or "" for name, value in parameters.items()}
    elif isinstance(parameters, list):
        shown = [as_name(str(value)) or "" for value in parameters]
    return _message(row, "system", row.body or "A template was sent.", parameters=shown)


def _message(
    row: ThreadRow,
    role: Role,
    text: str | None,
    *,
    verified: bool | None = None,
    unsent: str | None = None,
    parameters: Mapping[str, str] | Sequence[str] | None = None,
    said: str | None = None,
) -> ContextMessage:
    read_there = row.status == "read" and (row.read_channel or row.channel) == "portal"
    return ContextMessage(
        message_id=row.message_id,
        role=role,
        channel=row.channel,
        at=row.occurred_at,
        kind=row.kind,
        text=text,
        delivered=row.direction == "in" or row.status in ("delivered", "read"),
        status=row.status,
        reason=row.reason if row.status == "failed" else None,
        portal=None if row.direction == "in" else "read" if read_there else "shown" if row.in_portal else None,
        verified=verified,
        unsent=unsent,
        parameters=parameters,
        said=said,
    )


def _words(content: Mapping[str, Any]) -> str | None:
    """What a message says, in one text: its own words, after what it is about, and what it is, in brackets."""
    entry, origin = entry_of(content), origin_of(content)
    labels = [origin[0] % {"name": origin[1]}] if origin else []
    if entry.label:
        labels.append(entry.label.replace("%(emoji)s", entry.emoji or ""))
    own = [entry.name, content.get("caption") or content.get("text") or entry.text, *entry.options]
    said = "\n".join(line for line in [*own, *articles_of(content)] if isinstance(line, str) and line)
    return " ".join([*(f"[{label}]" for label in labels), said]).strip() or None


def filled(template: Mapping[str, Any], body: str | None) -> str:
    """A template as the customer read it; its name where its text is not known any more."""
    if body is None:
        return f"[Template {template.get('name')}]"
    parameters = template.get("parameters")
    values = dict(enumerate(parameters, 1)) if isinstance(parameters, list) else parameters or {}
    by_name = {str(name): str(value)[:_PARAMETER] for name, value in values.items()}
    return PLACE.sub(lambda place: by_name.get(place[1], place[0]), body)


def _cut(message: ContextMessage, characters: int) -> ContextMessage:
    """Its beginning."""
    text, said = (message.text or "")[:characters], (message.said or "")[: max(0, characters - len(message.text or ""))]
    return replace(message, text=text, said=said or None, unsent=None, parameters=None, truncated=True)
