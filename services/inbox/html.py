"""Pages of the inbox as HTML, in the language of the browser. The templates stand in ``html``.

Rule 1: everything that is not a template is escaped. No style and no script stands in a page.
Rule 2: a part of a page (a row, a message) is written by one template, in the page and alone.
Rule 3: times are written in the zone of the organisation's number. A browser with scripts writes them in its own.
"""

from collections.abc import Callable
from functools import cache
from gettext import NullTranslations
from pathlib import Path
from typing import Any

from jinja2 import Environment

from libs.common.pages.environment import new_environment
from libs.common.pages.languages import Language, Languages
from libs.common.pages.static_files import StaticFiles
from services.inbox.contents import entry_for_staff, origin_of
from services.inbox.shell import VIEWS, counted, initials_of

TEMPLATES = Path(__file__).parent / "html"
STATIC = Path(__file__).parent / "static"
LANGUAGES = Languages("inbox", Path(__file__).parent / "locale")


class Html:
    """Writes templates in a language. One for a process."""

    def __init__(self, static: StaticFiles) -> None:
        self._static = static
        self._environment: Callable[[NullTranslations], Environment] = cache(self._new_environment)

    def page(self, template: str, language: Language, **values: Any) -> str:
        """The document, or a part of one, with these values and ``language``."""
        return self._environment(language.words).get_template(template).render(language=language, **values)

    def _new_environment(self, words: NullTranslations) -> Environment:
        environment = new_environment(TEMPLATES, words, self._static)
        environment.globals["views"] = VIEWS
        environment.filters |= {
            "counted": counted,
            "initials": initials_of,
            "origin": origin_of,
            "shown": entry_for_staff,
        }
        return environment
