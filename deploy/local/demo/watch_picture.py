"""A picture of ``transom watch`` over the demo's own logs, as it stands at that moment. It needs no browser."""

import io
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from deploy.cli.log_input import to_the_end
from deploy.cli.watch import known_events
from deploy.cli.watch_view import dashboard
from deploy.panels.definition import PANELS
from deploy.panels.reading import Reading
from libs.common.clock import unix_now

_SIZE = (132, 36)
_FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<style>
.{unique_id}-matrix {{
  font-family: "Fira Code", "DejaVu Sans Mono", Menlo, Consolas, monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width;
}}
.{unique_id}-title {{ font-family: sans-serif; font-size: 18px; font-weight: bold; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
"""rich's own picture without the font that it would load from elsewhere."""


def take(logs: Path, to: Path) -> None:
    """Draw what the logs in this folder say now into a file (SVG)."""
    reading = Reading(PANELS, known_events(), unix_now)
    for line in to_the_end([str(log) for log in sorted(logs.glob("*.log"))], reading.read):
        reading.add(line)
    width, height = _SIZE
    console = Console(
        record=True, file=io.StringIO(), width=width, height=height, force_terminal=True, color_system="truecolor"
    )
    screen, _pages = dashboard(reading, unix_now(), None, size=_SIZE, page=0, state="")
    console.print(screen)
    to.parent.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(title="transom watch", theme=MONOKAI, code_format=_FORMAT, unique_id="watch")
    to.write_text(svg, encoding="utf-8")
