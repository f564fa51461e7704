"""The templates of pages: how they are loaded, escaped and translated, and what every service's pages write alike.

Rule 1: everything that is not a template is escaped. No style and no script stands in a page.
Rule 2: a template of this package (``templates``) is there for every service, under its name.
"""

from gettext import NullTranslations
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from libs.common.pages.entries import entry_of, pieces
from libs.common.pages.icons import ICONS
from libs.common.pages.static_files import StaticFiles
from libs.common.pages.values import initial, tel, utc, wa_me, written

TEMPLATES = Path(__file__).parent / "templates"


def new_environment(templates: Path, words: NullTranslations, static: StaticFiles) -> Environment:
    """An environment for one language. ``static(name)`` in a template is the address of a file."""
    environment = Environment(
        loader=FileSystemLoader([templates, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_translations(words, newstyle=True)  # type: ignore[attr-defined]
    environment.globals |= {"static": static.url, "icons": ICONS}
    environment.filters |= {
        "entry": entry_of,
        "initial": initial,
        "pieces": pieces,
        "tel": tel,
        "utc": utc,
        "wa_me": wa_me,
        "written": written,
    }
    return environment
