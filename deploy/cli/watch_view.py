"""Draws figures for a terminal or a file, with rich. What lines hold is shown as text, without control characters."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.layout import Layout
from rich.table import Table
from rich.text import Text

from deploy.panels.figures import Row, Shown
from deploy.panels.panel import Unit
from deploy.panels.reading import Reading
from libs.common.printable import printable

COLUMN_WIDTH: Final = 39
_MOST_ROWS: Final = 12
_GAP: Final = 2
_THOUSAND: Final = 1000
_KINDS: Final = {
    "ancient": "of another release",
    "foreign": "not ours",
    "torn": "torn",
}


def number(value: Decimal, unit: Unit) -> str:
    """A figure as people read it."""
    match unit:
        case "money":
            return f"{value:,.4f}"
        case "ms":
            return f"{value / _THOUSAND:,.1f} s"
        case _:
            return f"{value:,.0f}"


def moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S}"


def counted(reading: Reading) -> str:
    """How many lines were read, of which kind, and from when to when they are."""
    ours = reading.lines["ours"]
    told = [f"{ours:,} lines of Transom"]
    told += [f"{reading.lines[kind]:,} {words}" for kind, words in _KINDS.items() if reading.lines[kind]]  # type: ignore[index]  # the kinds
    if reading.figures.organisations_left_out:
        told.append(f"{reading.figures.organisations_left_out:,} of organisations without figures of their own")
    return ", ".join(told)


def snapshot(console: Console, reading: Reading, now: float, org_id: str | None) -> None:
    """Print every panel once, one below the other."""
    whose = "all organisations" if org_id is None else f"organisation {printable(org_id)}"
    console.print(Text(counted(reading)))
    first, last = reading.first, reading.last
    of = "" if first is None or last is None else f", {moment(first)} to {moment(last)} UTC"
    console.print(Text(f"{whose}{of}"))
    for shown in reading.figures.shown(now, org_id):
        console.print()
        console.print(Text(f"{shown.panel.title} ({_unit(shown.panel.unit)}): {shown.panel.answers}", style="bold"))
        console.print(_table(shown, len(shown.rows), wide=True) if shown.rows else Text("  none", style="dim"))
        if shown.left_out:
            console.print(Text(f"  and {shown.left_out:,} that were forgotten, because there are too many"))


def dashboard(
    reading: Reading, now: float, org_id: str | None, *, size: tuple[int, int], page: int, state: str
) -> tuple[RenderableType, int]:
    """The whole screen for ``size`` (columns, lines), and how many pages there are. ``page`` counts from 0."""
    width, height = size
    columns = max(1, width // COLUMN_WIDTH)
    room = max(1, height - 3)
    panels = list(reading.figures.shown(now, org_id))
    pages = _pages(panels, columns, room)
    here = pages[page % len(pages)]
    grid = Table.grid(padding=(0, _GAP), expand=True)
    for _ in range(columns):
        grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_row(*(Group(*column) for column in here))
    whose = "all organisations" if org_id is None else printable(org_id)
    head = Text.assemble(("transom watch  ", "bold"), (whose, "bold cyan"), f"  {moment(now)} UTC  {state}")
    keys = "o next organisation  a all  q quit  (/h: in the last hour)"
    if len(pages) > 1:
        keys = f"page {page % len(pages) + 1} of {len(pages)}: space  {keys}"
    screen = Layout()
    screen.split_column(
        Layout(_cut(head), size=1),
        Layout(_cut(Text(counted(reading), style="dim")), size=1),
        Layout(grid),
        Layout(_cut(Text(keys, style="reverse")), size=1),
    )
    return screen, len(pages)


def _pages(panels: Sequence[Shown], columns: int, room: int) -> list[list[list[RenderableType]]]:
    """The panels in columns: with as many rows as fit on one page, else with three on several pages."""
    for most in (*range(_MOST_ROWS, 2, -1), 3):
        pages = _laid_out([_block(shown, min(most, max(1, room - 3))) for shown in panels], columns, room)
        if len(pages) == 1:
            break
    return pages


def _laid_out(
    blocks: Iterable[tuple[RenderableType, int]], columns: int, room: int
) -> list[list[list[RenderableType]]]:
    pages: list[list[list[RenderableType]]] = [[[]]]
    used = 0
    for block, height in blocks:
        if used and used + height > room:
            if len(pages[-1]) < columns:
                pages[-1].append([])
            else:
                pages.append([[]])
            used = 0
        pages[-1][-1].append(block)
        used += height
    for page in pages:
        page += [[] for _ in range(columns - len(page))]
    return pages


def _block(shown: Shown, most: int) -> tuple[RenderableType, int]:
    """A panel with at most so many rows, and its height."""
    title = Text(shown.panel.title, style="bold", no_wrap=True, overflow="ellipsis")
    if not shown.rows:
        title.append("  none", style="dim")
        return Group(title), 1
    rows = most if len(shown.rows) <= most else most - 1
    parts: list[RenderableType] = [title, _table(shown, max(1, rows), wide=False)]
    height = 1 + min(len(shown.rows), max(1, rows))
    if len(shown.rows) > rows:
        parts.append(Text(f"  and {len(shown.rows) - max(1, rows)} more", style="dim"))
        height += 1
    return Group(*parts), height


def _table(shown: Shown, most: int, *, wide: bool) -> Table:
    table = Table(box=None, show_header=wide, padding=(0, 1), expand=not wide, pad_edge=True)
    if wide:
        for name in shown.panel.labels:
            table.add_column("" if name == "label" else name)
    else:
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("now" if _is_of_now(shown.rows) else "total", justify="right", no_wrap=True)
    table.add_column("" if _is_of_now(shown.rows) else "last hour", justify="right", no_wrap=True, style="dim")
    for row in shown.rows[:most]:
        words = [Text(printable(word)) for word in row.words]
        recent = "" if row.recent is None else number(row.recent, shown.panel.unit)
        if not wide:
            words = [Text(" ").join(words)]
        table.add_row(
            *words, number(row.value, shown.panel.unit), recent if wide else f"{recent}/h" if row.recent else ""
        )
    return table


def _is_of_now(rows: Sequence[Row]) -> bool:
    return all(row.recent is None for row in rows)


def _unit(unit: Unit) -> str:
    return {"ms": "seconds", "money": "amount"}.get(unit, unit)


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
