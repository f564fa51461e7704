"""The report as people and programs read it. Every text passes ``Secrets``."""

import json
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console
from rich.text import Text

from deploy.cli.doctor.catalogue import Severity
from deploy.cli.doctor.findings import Finding, Report, together
from deploy.cli.doctor.secrecy import Secrets
from libs.common.printable import printable

_STYLES: dict[Severity, str] = {"ok": "green", "info": "cyan", "warning": "yellow", "error": "bold red"}
_WIDTH = 100
_MARGIN, _LEAST = 11, 20


def write_json(report: Report, secrets: Secrets, to: TextIO) -> None:
    """One JSON object, as ``report_schema.json`` describes it, in ASCII: it fits every encoding.

    Codes and severities are words of the catalogue. They are no place for a secret, and a password may be like one.
    """
    written = report.as_json()
    for finding in written["findings"]:
        finding |= {name: secrets.scrub(finding[name]) for name in ("subject", "problem", "remedy")}
    to.write(json.dumps(written, indent=2) + "\n")


def write_words(report: Report, secrets: Secrets, to: TextIO) -> None:
    """Lines by area, what is said of several subjects once; in colour on a terminal alone. A last line counts all."""
    console = Console(
        file=to, highlight=False, markup=False, emoji=False, width=None if to.isatty() else _WIDTH, soft_wrap=False
    )
    area = None
    for finding in together(report.findings):
        if finding.area != area:
            area = finding.area
            console.print(Text(f"\n{area}", style="bold"))
        for line in _lines(finding, secrets, console.width):
            console.print(line, overflow="fold")
    counts = ", ".join(f"{count} {word}" for word, count in report.counts().items())
    console.print(Text(f"\n{counts}"))


def _lines(finding: Finding, secrets: Secrets, width: int) -> Iterator[Text]:
    head = Text(f"  {finding.severity:<8} ", style=_STYLES[finding.severity])
    subject = f"{secrets.scrub(finding.subject)} ({finding.code})"
    for sentence in (subject, *map(secrets.scrub, (finding.problem, finding.remedy))):
        words = Text(printable(sentence), style="not bold default")
        for line in words.wrap(Console(width=width), max(width - _MARGIN, _LEAST)) if sentence else ():
            yield head + line
            head = Text(" " * _MARGIN)
