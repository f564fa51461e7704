"""Writes the figures of panels as queries of Loki (LogQL). No I/O, no clock.

A query takes the stream selector and the organisation from variables of the board. Loki computes what ``figures``
computes, with these differences:

- ``Until`` counts the keys of which a line came within a day, for LogQL does not compare a field with the time.
- ``Followed`` is left out, for LogQL joins no lines.
"""

from collections.abc import Iterator
from typing import NamedTuple

from deploy.panels.panel import (
    DAY_SECONDS,
    HOUR_SECONDS,
    MOST_RECENT_SECONDS,
    Followed,
    Highest,
    Panel,
    Take,
    Total,
    Until,
)

STREAM = "{${stream:raw}}"
ORGANISATION = "$org"


class Query(NamedTuple):
    """A query and what its rows are called: a template of Grafana, with labels in double braces."""

    text: str
    legend: str


def queries(panel: Panel) -> Iterator[Query]:
    """The queries of a panel; none where LogQL cannot compute it."""
    match panel.how:
        case Total(takes=takes, by=by, amount=amount):
            for take in takes:
                fields = tuple(name for name in by if name != "label")
                what = _range("count_over_time", _lines(panel, take), "$__range")
                if amount is not None:
                    what = _range("sum_over_time", _unwrapped(panel, take, amount), "$__range")
                yield Query(_by("sum", fields, what), _legend(by, take))
        case Highest(takes=takes, by=by, amount=amount):
            for take in takes:
                most = _range("max_over_time", _unwrapped(panel, take, amount), f"{MOST_RECENT_SECONDS}s")
                yield Query(_by("max", by, most), _legend(by, take))
        case Until(takes=(take,), key=key, words=(open_now, soon)):
            of_a_day, of_all_but_an_hour = (
                f"count({_by('sum', (key,), _range('count_over_time', _lines(panel, take), f'{seconds}s'))})"
                for seconds in (DAY_SECONDS, DAY_SECONDS - HOUR_SECONDS)
            )
            yield Query(of_a_day, open_now)
            yield Query(f"{of_a_day} - ({of_all_but_an_hour} or vector(0))", soon)
        case Until() | Followed():
            return


def _unwrapped(panel: Panel, take: Take, amount: str) -> str:
    return f'{_lines(panel, take)} | unwrap {amount} | __error__=""'


def _lines(panel: Panel, take: Take) -> str:
    """The lines of a take. The words of its events are looked for first: that is cheap.

    A line that is no JSON has no field, so it passes no filter for an event.
    """
    parts = [STREAM]
    if take.events:
        words = "|".join(event.replace(".", r"\.") for event in take.events)
        parts.append(f"|~ `{words}`" if len(take.events) > 1 else f"|= `{take.events[0]}`")
    parts.append("| json")
    parts += [f"| {name}{_matches(words)}" for name, words in take.where.items()]
    parts += [f"| {name}{_matches(words, no=True)}" for name, words in take.unless.items()]
    parts += [f'| {name}!=""' for name in take.having]
    if panel.of_organisations:
        parts.append(f'| org_id=~"{ORGANISATION}"')
    return " ".join(parts)


def _matches(words: tuple[str, ...], *, no: bool = False) -> str:
    if len(words) == 1:
        return f'{"!=" if no else "="}"{words[0]}"'
    return f'{"!~" if no else "=~"}"{"|".join(word.replace(".", chr(92) * 2 + ".") for word in words)}"'


def _range(function: str, lines: str, time: str) -> str:
    return f"{function}({lines} [{time}])"


def _by(function: str, fields: tuple[str, ...], what: str) -> str:
    return f"{function} by ({', '.join(fields)}) ({what})" if fields else f"{function}({what})"


def _legend(by: tuple[str, ...], take: Take) -> str:
    return " ".join((take.label or "") if name == "label" else "{{" + name + "}}" for name in by)
