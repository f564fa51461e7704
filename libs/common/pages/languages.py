"""The languages of pages: which one a browser asks for, its catalogue, its dates.

Rule 1: the language is the browser's first one that has a catalogue, else English. Dates follow the browser's region.
Rule 2: a language is two files, ``locale/<language>/LC_MESSAGES/<domain>.po`` of this package (``pages``) and of the
        service. They are compiled at the first use. A service has the languages that its own domain has.
Rule 3: times stand in the zone of the garage's number or country. Where that is not one zone they stand in UTC and say
        so. A browser that runs scripts writes them in its own zone.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import cache, cached_property, lru_cache
from gettext import GNUTranslations, NullTranslations
from io import BytesIO
from pathlib import Path
from zoneinfo import ZoneInfo

import phonenumbers
from babel import Locale, UnknownLocaleError
from babel.core import get_global
from babel.dates import format_date, format_skeleton, format_time
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_compact_currency, format_compact_decimal, format_currency, format_decimal
from phonenumbers import timezone as number_zones

LOCALES = Path(__file__).parent / "locale"
SOURCE = "en"
"""The language of the messages in the templates. It needs no catalogue."""

_RANGE = re.compile(r"\s*([A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3})\s*(?:;\s*[qQ]\s*=\s*([01](?:\.\d{0,3})?)\s*)?")
_MOST_RANGES = 20
_MOST_HEADER = 500
_YEAR_AT_THE_END = re.compile(r"[\s,،]+y+$")
_UNKNOWN_ZONE = "Etc/Unknown"
_DECIMALS = re.compile(r"0\.0+")
_COMPACT_FROM = 10_000


@dataclass(frozen=True, slots=True)
class Language:
    """A catalogue, and the locale in which dates are written."""

    locale: Locale
    words: NullTranslations = field(repr=False)

    @property
    def tag(self) -> str:
        """As HTML and Intl name it, for example ``en-GB``."""
        return str(self.locale).replace("_", "-")

    @property
    def direction(self) -> str:
        """``ltr`` or ``rtl``."""
        return self.locale.text_direction

    @property
    def today(self) -> str:
        """The name of today."""
        _ = self.words.gettext
        return _("Today")

    @property
    def yesterday(self) -> str:
        """The name of the day before it."""
        _ = self.words.gettext
        return _("Yesterday")

    def time(self, at: datetime) -> str:
        """The time of day, in the zone that ``at`` has. UTC says that it is UTC."""
        shown = _time(str(self.locale), at.hour, at.minute)
        return f"{shown} UTC" if at.tzinfo is UTC else shown

    def day(self, day: date, today: date) -> str:
        """Today, yesterday, or the weekday and the date. The year stands where it is another one."""
        if day == today:
            return self.today
        if day == today - timedelta(days=1):
            return self.yesterday
        return _date(str(self.locale), day, with_year=day.year != today.year)

    def weekday(self, day: date) -> str:
        """The short name of the day of the week."""
        return format_date(day, "EEE", locale=self.locale)

    def short_date(self, day: date, today: date) -> str:
        """Day and month, with the year where it is another one."""
        return format_skeleton("yMMMd" if day.year != today.year else "MMMd", day, locale=self.locale)

    def money(self, amount: Decimal, currency: str | None) -> str:
        """An amount with four decimals, as prices of single messages need them; a mere number without a currency."""
        if currency is None:
            return str(format_decimal(amount, "0.0000", locale=self.locale))
        pattern = _DECIMALS.sub("0.0000", self.locale.currency_formats["standard"].pattern.partition(";")[0])
        return str(format_currency(amount, currency, pattern, locale=self.locale, currency_digits=False))

    def scale(self, amount: Decimal, currency: str | None) -> str:
        """An amount of few digits as a chart's scale has it: without needless decimals, large ones in thousands."""
        if abs(amount) >= _COMPACT_FROM:
            if currency is None:
                return str(format_compact_decimal(amount, locale=self.locale, fraction_digits=1))
            return str(format_compact_currency(amount, currency, locale=self.locale, fraction_digits=1))
        if currency is None:
            return str(format_decimal(amount, "0.####", locale=self.locale))
        pattern = _DECIMALS.sub("0.####", self.locale.currency_formats["standard"].pattern.partition(";")[0])
        return str(format_currency(amount, currency, pattern, locale=self.locale, currency_digits=False))

    def number(self, number: int) -> str:
        """A number with its separators."""
        return str(format_decimal(number, locale=self.locale))

    def name_of(self, code: str) -> str:
        """The name of the language that has this code at Meta, such as ``en_GB``."""
        try:
            return Locale.parse(code).get_display_name(self.locale) or code
        except (UnknownLocaleError, ValueError):
            return code


@cache
def zone_of(number: str | None) -> tzinfo:
    """The zone of a number in E.164: of its area or country, where that has one time; else UTC."""
    try:
        parsed = phonenumbers.parse(number or "")
    except phonenumbers.NumberParseException:
        return UTC
    names = [name for name in number_zones.time_zones_for_number(parsed) if name != _UNKNOWN_ZONE]
    if not names:
        country = phonenumbers.region_code_for_country_code(parsed.country_code or 0)
        names = get_global("territory_zones").get(country, [])
    zones = [ZoneInfo(name) for name in names]
    moments = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 7)]
    offsets = {tuple(zone.utcoffset(moment) for moment in moments) for zone in zones}
    return zones[0] if len(offsets) == 1 else UTC


class Languages:
    """The languages of one service: its own sentences and those of this package."""

    def __init__(self, domain: str, folder: Path) -> None:
        self._domain = domain
        self._folder = folder
        self._of_tag = lru_cache(maxsize=512)(self._of_one)

    @cached_property
    def catalogues(self) -> Mapping[str, NullTranslations]:
        """The catalogue of each language, by its code. English stands in the templates."""
        found: dict[str, NullTranslations] = {SOURCE: NullTranslations()}
        for path in sorted(self._folder.glob(f"*/LC_MESSAGES/{self._domain}.po")):
            code = path.parent.parent.name
            words = _compiled(path)
            words.add_fallback(_compiled(LOCALES / code / "LC_MESSAGES" / "pages.po"))
            found[code] = words
        return found

    def of(self, accept_language: str | None) -> Language:
        """The language for an ``Accept-Language``."""
        for tag in _asked(accept_language or ""):
            if (language := self._of_tag(tag)) is not None:
                return language
        return Language(Locale.parse(SOURCE), self.catalogues[SOURCE])

    def _of_one(self, tag: str) -> Language | None:
        """The language of one tag, with its region where that is known, or None without a catalogue."""
        for parts in (tag.split("-"), tag.split("-")[:1]):
            try:
                locale = Locale.parse("-".join(parts), sep="-")
            except (UnknownLocaleError, ValueError):
                continue
            for name in (str(locale), locale.language):
                if (words := self.catalogues.get(name)) is not None:
                    return Language(locale, words)
        return None


def _compiled(path: Path) -> NullTranslations:
    compiled = BytesIO()
    with path.open("rb") as file:
        write_mo(compiled, read_po(file, locale=path.parent.parent.name))
    compiled.seek(0)
    return GNUTranslations(compiled)


def _asked(header: str) -> Iterator[str]:
    """The tags of an ``Accept-Language``, most wanted first; ``*`` and what is refused (q=0) are left out."""
    ranges = [_RANGE.fullmatch(part) for part in header[:_MOST_HEADER].split(",")[:_MOST_RANGES]]
    wanted = [(float(found[2] or 1), found[1]) for found in ranges if found is not None]
    yield from [tag for quality, tag in sorted(wanted, key=lambda one: -one[0]) if quality > 0]


@lru_cache(maxsize=1440 * 16)
def _time(locale: str, hour: int, minute: int) -> str:
    return format_time(datetime(2000, 1, 1, hour, minute), "short", locale=locale)  # noqa: DTZ001 (a time of day alone)


@lru_cache(maxsize=4096)
def _date(locale: str, day: date, *, with_year: bool) -> str:
    pattern = Locale.parse(locale).date_formats["full"].pattern
    return format_date(day, pattern if with_year else _YEAR_AT_THE_END.sub("", pattern), locale=locale)
