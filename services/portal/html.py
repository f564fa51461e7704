"""Pages as HTML, and messages as events of the stream. The templates stand in ``templates``.

Rule 1: everything that is not a template is escaped. No style and no script stands in a page.
Rule 2: a page has at most ``PAGE_BYTES``. Older messages that do not fit stand behind a link.
Rule 3: a message is written by one template, in the page and in the stream.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, tzinfo
from functools import cache, lru_cache
from gettext import NullTranslations
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from jinja2 import Environment
from jinja2.environment import TemplateModule
from markupsafe import Markup

from libs.common.pages.entries import N_
from libs.common.pages.environment import new_environment
from libs.common.pages.languages import Language, zone_of
from libs.common.pages.static_files import StaticFiles
from services.portal.views import (
    Garage,
    GonePage,
    OpenPage,
    Page,
    Refusal,
    ReplacePage,
    ShownMessage,
    ThreadPage,
    Trouble,
    TroublePage,
)

TEMPLATES = Path(__file__).parent / "templates"
STATIC = Path(__file__).parent / "static"
PAGE_BYTES = 50 * 1024
"""Of a page with its style sheet and script, before any compression."""
_MESSAGES_BYTES = 19 * 1024
"""What the messages of a page may take. Frame, style sheet and script are less than the rest."""

REFUSALS: dict[Refusal, str] = {
    "not_sent": N_("Not sent. Your text is still here, please try again."),
    "empty": N_("Not sent: there is no text in it."),
    "too_long": N_("Not sent: the text is longer than 4,096 characters. Please send it in two parts."),
    "characters": N_("Not sent: the text has characters that cannot be sent, such as control characters."),
    "too_many": N_("Not sent: these were many messages in a short time. Please wait a minute and try again."),
    "form_expired": N_("Not sent: this page was open for long. Please press Send once more."),
}
"""The sentence beside the field."""


@dataclass(frozen=True, slots=True)
class _Said:
    """A heading, and the sentence under it."""

    title: str
    advice: str


_TROUBLES: dict[Trouble, _Said] = {
    "away": _Said(
        N_("This page cannot be shown right now"),
        N_("Nothing is lost: your messages are kept. Please try again in a minute."),
    ),
    "forbidden": _Said(
        N_("That did not work"),
        N_(
            "This form did not come from our page, it is too old, or your browser keeps no cookies. Please allow"
            " cookies and open the page again."
        ),
    ),
    "too_many": _Said(
        N_("One moment, please"),
        N_("There were too many attempts from your connection. Please try again in a minute."),
    ),
    "not_here": _Said(N_("There is no such page"), N_("Please open the link of your text message.")),
    "broken": _Said(N_("Something went wrong"), N_("The fault is ours. Please try again in a minute.")),
}


class Html:
    """Writes pages in a language. One for a process."""

    def __init__(self, static: StaticFiles) -> None:
        self._static = static
        self._environment: Callable[[NullTranslations], Environment] = cache(self._new_environment)
        self._parts: Callable[[Language], TemplateModule] = lru_cache(maxsize=64)(self._parts_in)

    def page(self, page: Page, language: Language) -> str:
        """The document."""
        if isinstance(page, ThreadPage):
            return self._thread(page, language)
        return self._render(_TEMPLATE_OF[type(page)], language, page=page)

    def event(
        self, message: ShownMessage, garage: Garage, language: Language, event_id: str, after: UUID | None = None
    ) -> str:
        """A message that is new, or whose state is: ``event: message`` with ``{id, after, html}``.

        ``after`` is the message that it stands behind; empty for the first of the conversation.
        """
        html = self._message(message, garage, language)
        return _event(event_id, "message", {"id": message.message_id, "after": str(after or ""), "html": html})

    @staticmethod
    def gone(message_id: UUID, event_id: str) -> str:
        """A message that is not shown any more: ``event: gone`` with ``{id}``."""
        return _event(event_id, "gone", {"id": str(message_id)})

    def _thread(self, page: ThreadPage, language: Language) -> str:
        zone = zone_of(page.garage.number)
        today = page.now.astimezone(zone).date()
        parts: list[str] = []
        size, first = 0, len(page.messages)
        for message in reversed(page.messages):
            part = self._message(message, page.garage, language)
            size += len(part.encode())
            if parts and size > _MESSAGES_BYTES:
                break
            parts.append(part)
            first -= 1
        shown = page.messages[first:]
        return self._render(
            "thread.html",
            language,
            page=page,
            parts=list(_with_days(shown, list(reversed(parts)), language, zone, today)),
            earlier=shown[0].place if shown and (first or page.has_earlier) else None,
            refusals={name: language.words.gettext(text) for name, text in REFUSALS.items()},
        )

    def _message(self, message: ShownMessage, garage: Garage, language: Language) -> str:
        local = replace(message, at=message.at.astimezone(zone_of(garage.number)))
        return str(self._parts(language).message(local, garage))  # type: ignore[attr-defined] # a macro

    def _parts_in(self, language: Language) -> TemplateModule:
        """The macros of ``parts.html``. Made once for a language: that costs more than a message does."""
        return self._environment(language.words).get_template("parts.html").make_module({"language": language})

    def _render(self, template: str, language: Language, **values: Any) -> str:
        return self._environment(language.words).get_template(template).render(language=language, **values)

    def _new_environment(self, words: NullTranslations) -> Environment:
        environment = new_environment(TEMPLATES, words, self._static)
        environment.filters["trouble"] = _TROUBLES.__getitem__
        return environment


def _event(event_id: str, name: str, data: dict[str, str]) -> str:
    return f"id: {event_id}\nevent: {name}\ndata: {orjson.dumps(data).decode()}\n\n"


_TEMPLATE_OF: dict[type[Page], str] = {
    OpenPage: "open.html",
    ReplacePage: "replace.html",
    GonePage: "gone.html",
    TroublePage: "trouble.html",
}


def _with_days(
    messages: Sequence[ShownMessage], parts: Sequence[str], language: Language, zone: tzinfo, today: date
) -> list[Markup]:
    found: list[Markup] = []
    before = None
    for message, part in zip(messages, parts, strict=True):
        day = message.at.astimezone(zone).date()
        if day != before:
            found.append(Markup('<li class="day"><h2>{}</h2></li>\n').format(language.day(day, today)))
            before = day
        found.append(Markup(part))  # noqa: S704 (written by a template that escapes)
    return found
