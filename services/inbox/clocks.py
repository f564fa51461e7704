"""Times as a page shows them: in one zone, from one now, in one language. Pure.

A page gets them written by the server, in the zone of the organisation's number. A browser with scripts writes them
again in its own zone, from the attributes: ``data-time`` (a time of day), ``data-moment`` (with its day, where that is
not today) and ``data-ago`` (how long ago, where that is less than an hour).
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

from markupsafe import Markup

from libs.common.pages.entries import N_
from libs.common.pages.languages import Language
from libs.common.pages.values import utc
from services.inbox.views import Duration

_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)
_A_WEEK = 7


@dataclass(frozen=True, slots=True)
class Clock:
    """``now`` is the server's."""

    now: datetime
    zone: tzinfo
    language: Language

    def left(self, at: datetime, *, short: bool = False) -> Duration:
        """How long it is until then."""
        return Duration.of(at - self.now, short=short)

    def time(self, at: datetime) -> str:
        """The time of day."""
        return self.language.time(at.astimezone(self.zone))

    def day(self, day: date) -> str:
        """The name of a day, for the line between days."""
        return self.language.day(day, self.today)

    def moment(self, at: datetime) -> str:
        """The time of day, and the day where that is not today."""
        local = at.astimezone(self.zone)
        if local.date() == self.today:
            return self.time(at)
        if abs((self.today - local.date()).days) < _A_WEEK:
            return f"{self.language.weekday(local.date())} {self.time(at)}"
        return self.language.short_date(local.date(), self.today)

    def with_day(self, at: datetime) -> str:
        """The same in a sentence: with the whole day."""
        day = at.astimezone(self.zone).date()
        return self.time(at) if day == self.today else f"{self.day(day)}, {self.time(at)}"

    def ago(self, at: datetime) -> str:
        """How long ago in minutes, where that is less than an hour; else when it was."""
        _ = self.language.words.gettext
        passed = self.now - at
        if timedelta(0) <= passed < _MINUTE:
            return _(N_("just now"))
        if _MINUTE <= passed < _HOUR:
            return _(N_("%(minutes)s min ago")) % {"minutes": int(passed.total_seconds() // 60)}
        return self.moment(at)

    def stamp(self, at: datetime, *, long: bool = False) -> Markup:
        """A ``<time>`` with the time of day; ``long``: with the day, too."""
        if long:
            return Markup('<time datetime="{}" data-moment>{}</time>').format(utc(at), self.moment(at))
        return Markup('<time datetime="{}" data-time>{}</time>').format(utc(at), self.time(at))

    @property
    def today(self) -> date:
        return self.now.astimezone(self.zone).date()
