"""The languages of the portal."""

from pathlib import Path

from libs.common.pages.languages import Languages

LANGUAGES = Languages("portal", Path(__file__).parent / "locale")
language_of = LANGUAGES.of
