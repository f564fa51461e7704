import string
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pytest
from babel import Locale
from babel.messages.catalog import Message
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po
from hypothesis import given
from hypothesis import strategies as st

from libs.common.pages.languages import LOCALES, Language, zone_of
from services.portal.languages import LANGUAGES, language_of

ROOT = Path(__file__).parents[5]
CATALOGUES = sorted(path for top in ("libs", "services") for path in (ROOT / top).glob("**/LC_MESSAGES/*.po"))
TEMPLATES = ("templates/**.html", "html/**.html")
METHODS = [*((pattern, "jinja2") for pattern in TEMPLATES), ("**.py", "python")]
OPTIONS = {pattern: {"newstyle_gettext": "true", "silent": "false"} for pattern in TEMPLATES}
KEYWORDS = {"_": None, "N_": None, "gettext": None, "ngettext": (1, 2)}


def sentences(package: Path) -> set[str]:
    """Every sentence that the templates and modules of a package have. Of one with a plural: its singular."""
    found = extract_from_dir(package, METHODS, OPTIONS, keywords=KEYWORDS)
    return {message if isinstance(message, str) else message[0] for _, _, message, _, _ in found}


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        (None, "en"),
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de-AT"),
        ("fr-FR, de;q=0.5", "de"),
        ("en-GB,en;q=0.9", "en-GB"),
        ("en;q=0.5, DE-de;q=0.9", "de-DE"),
        ("de;q=0, en", "en"),
        ("xx, *;q=0.1", "en"),
        ("de_DE", "en"),
        ("zh-Hant-TW-x-y", "en"),
        ("de-XX", "de"),
    ],
)
def test_the_language_is_the_first_one_that_has_a_catalogue(header: str | None, tag: str) -> None:
    assert language_of(header).tag == tag


@given(st.text(max_size=700) | st.text(alphabet=string.ascii_letters + "-;,q=.0123 *", max_size=700))
def test_every_header_has_a_language(header: str) -> None:
    assert language_of(header).tag.split("-")[0] in LANGUAGES.catalogues


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: f"{path.stem}-{path.parts[-3]}")
def test_a_catalogue_has_every_sentence_with_its_placeholders(path: Path) -> None:
    with path.open("rb") as file:
        catalogue = read_po(file, locale=path.parts[-3], abort_invalid=True)
    known = {message.id if isinstance(message.id, str) else message.id[0] for message in catalogue if message.id}
    assert known == sentences(path.parents[3])
    empty = [message.id for message in catalogue if message.id and (not all(_forms(message)) or message.fuzzy)]
    assert empty == []
    assert [error for message in catalogue for error in message.check(catalogue)] == []


def _forms(message: Message) -> tuple[str, ...]:
    return (message.string,) if isinstance(message.string, str) else tuple(message.string or ())


def test_german_says_it_in_german() -> None:
    assert language_of("de-CH").words.gettext("Send") == "Senden"


def test_a_sentence_that_services_share_is_in_the_language_too() -> None:
    assert {path.parts[-3] for path in CATALOGUES} == {path.name for path in LOCALES.iterdir() if path.is_dir()}
    assert language_of("de").words.gettext("Photo") == "Foto"


@pytest.mark.parametrize(
    ("tag", "day", "shown"),
    [
        ("en-GB", date(2026, 11, 25), "Today"),
        ("de", date(2026, 11, 24), "Gestern"),
        ("en-GB", date(2026, 11, 23), "Monday 23 November"),
        ("de", date(2026, 11, 23), "Montag, 23. November"),
        ("en-US", date(2025, 12, 31), "Wednesday, December 31, 2025"),
    ],
)
def test_a_day_is_named_from_today(tag: str, day: date, shown: str) -> None:
    assert language_of(tag).day(day, date(2026, 11, 25)).replace("Monday, 23", "Monday 23") == shown


@pytest.mark.parametrize(
    ("number", "zone"),
    [
        ("+447700900123", "Europe/London"),
        ("+4930123456", "Europe/Berlin"),
        ("+12125550100", "America/New_York"),
        ("+18005550100", "UTC"),
        ("acme", "UTC"),
        (None, "UTC"),
    ],
)
def test_a_garage_has_the_zone_of_its_number(number: str | None, zone: str) -> None:
    assert str(zone_of(number)) == zone


def test_a_time_without_a_zone_says_that_it_is_utc() -> None:
    at = datetime(2026, 7, 25, 14, 3, tzinfo=UTC)
    assert language_of("en-GB").time(at.astimezone(zone_of("+18005550100"))) == "14:03 UTC"
    assert language_of("en-GB").time(at.astimezone(zone_of("+447700900123"))) == "15:03"


def test_a_language_that_is_written_from_the_right_says_so() -> None:
    words = LANGUAGES.catalogues["en"]
    assert Language(Locale.parse("ar"), words).direction == "rtl"
    assert language_of("de").direction == "ltr"


@pytest.mark.parametrize(
    ("tag", "shown"), [("en-GB", "£1,234.0159"), ("de", "1.234,0159\xa0£"), ("en", "£1,234.0159"), ("de-CH", "£")]
)
def test_money_has_four_decimals_in_the_form_of_the_region(tag: str, shown: str) -> None:
    assert shown in language_of(tag).money(Decimal("1234.0159"), "GBP")


@pytest.mark.parametrize(("tag", "shown"), [("en-GB", "0.0159"), ("de", "0,0159")])
def test_money_of_an_unknown_currency_is_a_mere_number(tag: str, shown: str) -> None:
    assert language_of(tag).money(Decimal("0.0159"), None) == shown


def test_a_language_of_meta_is_named_and_an_unknown_code_stays() -> None:
    assert language_of("de").name_of("en_GB") == "Englisch (Vereinigtes Königreich)"
    assert language_of("en").name_of("zz_QQ") == "zz_QQ"
