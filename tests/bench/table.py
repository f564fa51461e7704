"""What the bench found, for people."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from tests.bench.figures import Figure, Growth, Spread, Target
from tests.bench.machine import Shares
from tests.bench.targets import TARGETS

_SMALL = 10


def show(console: Console, figures: Sequence[Figure], growth: Sequence[Growth]) -> None:
    """The tables; nothing for an empty one."""
    if figures:
        table = Table(
            "figure",
            "Transom",
            "floor",
            "ratio",
            "target",
            "",
            title="median (least to most over the runs)",
            title_justify="left",
        )
        for figure in figures:
            table.add_row(
                figure.name,
                spread(figure.service, figure.unit),
                "" if figure.floor is None else spread(figure.floor, figure.unit),
                "" if figure.ratio is None else _ratio(figure),
                "\n".join(_target(figure, target) for target in figure.targets),
                "\n".join(verdict(target.reached(figure)) for target in figure.targets),
            )
        console.print(table)
    if growth:
        table = Table(
            "growth", "few", "many", "worse by", "at most", "", title="conversations stored", title_justify="left"
        )
        for one in growth:
            table.add_row(
                one.name,
                spread(one.few, one.unit),
                spread(one.many, one.unit),
                f"{one.worse:+.0%}",
                f"{one.limit:.0%}",
                verdict(one.reached) or "the runs overlap",
            )
        console.print(table)


def markdown(figures: Sequence[Figure], growth: Sequence[Growth]) -> str:
    """For the page `speed.md`: the figures that were promised one by one (``TARGETS``), and which grew too much."""
    rows = ["| figure | Transom | floor | ratio | target |", "| --- | --- | --- | --- | --- |"]
    for figure in figures:
        if figure.name in TARGETS:
            floor = "" if figure.floor is None else f"{number(figure.floor.median)} {figure.unit}"
            ratio = "" if figure.ratio is None else _ratio(figure)
            goals = [_target(figure, target) + _judged(target.reached(figure)) for target in figure.targets]
            found = spread(figure.service, figure.unit)
            rows.append(f"| {figure.name} | {found} | {floor} | {ratio} | {'; '.join(goals)} |")
    if growth:
        beyond = [f"{one.name} ({one.worse:+.0%}{_judged(one.reached)})" for one in growth if one.worse > one.limit]
        listed = f"; the others: {', '.join(beyond)}" if beyond else ""
        rows += [
            "",
            f"Growth: {len(growth) - len(beyond)} of {len(growth)} figures within {growth[0].limit:.0%}{listed}.",
        ]
    return "\n".join(rows) + "\n"


def spread(found: Spread, unit: str) -> str:
    """``3,120 (2,980 to 3,300) /s``; one run alone has no extremes."""
    if len(found.values) == 1:
        return f"{number(found.median)} {unit}"
    return f"{number(found.median)} ({number(found.low)} to {number(found.high)}) {unit}"


def number(value: float) -> str:
    """Small ones with a digit behind the point."""
    return f"{value:,.1f}" if abs(value) < _SMALL else f"{value:,.0f}"


def verdict(reached: bool | None) -> str:  # noqa: FBT001 -- an answer, not an option
    return "" if reached is None else "[green]reached[/]" if reached else "[red]missed[/]"


def shares(found: Shares) -> str:
    """How much of the machine others had."""
    stolen = f", stolen by the host {found.stolen:.0%}" if found.stolen > 0 else ""
    return f"{found.ours:.0%} this run, {found.others:.0%} other work{stolen}"


def failures(console: Console, found: Iterable[str]) -> None:
    for one in found:
        console.print(f"[red]no figure:[/] {one}", highlight=False)


def _ratio(figure: Figure) -> str:
    found = figure.ratio or 0.0
    return f"{found:.0%}" if figure.better == "more" else f"{found:.1f} x"


def _judged(reached: bool | None) -> str:  # noqa: FBT001 -- an answer, not an option
    return "" if reached is None else ": reached" if reached else ": missed"


def _target(figure: Figure, target: Target) -> str:
    sign = "≥" if figure.better == "more" else "≤"
    if target.of == "aim":
        return f"aim: {sign} {number(target.bound)} {figure.unit}"
    return f"{sign} {target.bound:.0%} of floor" if figure.better == "more" else f"{sign} {target.bound:.1f} x floor"
