"""Runbooks as tests read them: sections and fenced blocks, with the line at which each stands.

A fenced block is ``sql``, ``sh``, ``promql`` or ``json`` (lines of a log). Nothing else may be fenced, so everything is
tried. What an operator fills in is written ``$NAME`` and stands in ``PLACEHOLDERS``.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "runbooks"

SEES, PROVES, DO, OVER = "What one sees", "The query that proves it", "What to do", "When it is over"
SECTIONS = (SEES, PROVES, DO, OVER)
LANGUAGES = frozenset({"sql", "sh", "promql", "json"})

PLACEHOLDERS: Mapping[str, str] = {
    "ORG": "acme",
    "NUMBER": "106400000000001",
    "WABA": "206400000000001",
    "SMS_NUMBER": "+447700900001",
    "SMS_ACCOUNT": "AC00000000000000000000000000000000",
    "COUNTRY": "GB",
    "INTENT": "01900000-0000-7000-8000-000000000001",
    "MESSAGE": "01900000-0000-7000-8000-000000000001",
    "CONVERSATION": "01900000-0000-7000-8000-0000000000c1",
    "PHONE": "+447700900123",
    "CUSTOMER": "0b8f6a1e-4a52-4c36-9d3e-0f6b1f1f2a10",
    "TOPIC": "outbound.intents.v1",
    "PARTITION": "0",
    "OFFSET": "0",
    "REASON": "unknown_number",
    "FROM": "2026-11-01T00:00:00Z",
    "UNTIL": "2026-11-02T00:00:00Z",
    "FILE": "examples/garage.yaml",
    "URL": "http://127.0.0.1:8080",
    "SERVICE": "router",
}
"""What the test fills in; ``URL`` is that of a running service."""

_PLACEHOLDER = re.compile(r"\$(?:\{([A-Z][A-Z_]*)\}|([A-Z][A-Z_]*))")
_FENCE = re.compile(r"^\s*```(.*)$")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block. ``line`` is that of its first line of text, in the page."""

    page: str
    line: int
    section: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True, slots=True)
class Page:
    """A runbook. ``prose`` are the lines outside fences by their number, from 1."""

    name: str
    title: str
    sections: tuple[str, ...]
    blocks: tuple[Block, ...]
    prose: Mapping[int, str]

    @property
    def alerts(self) -> list[str]:
        """The alerts that lead here, as its line **Alert** names them."""
        heads = [line for line in self.prose.values() if line.startswith("**Alert**")]
        return [name for line in heads for name in re.findall(r"`(\w+)`", line)]


def read_page(name: str, text: str) -> Page:
    """``name`` is the file's. Every line is kept, also where the shape is wrong."""
    title, section, language, began = "", "", None, 0
    sections: list[str] = []
    blocks: list[Block] = []
    prose: dict[int, str] = {}
    inside: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = _FENCE.match(line)
        if fence and language is None:
            language, began, inside = fence[1].strip(), number + 1, []
        elif fence:
            blocks.append(Block(name, began, section, language or "", "\n".join(inside)))
            language = None
        elif language is not None:
            inside.append(line)
        else:
            prose[number] = line
            if line.startswith("# "):
                title = line[2:]
            elif line.startswith("## "):
                section = line[3:]
                sections.append(section)
    if language is not None:
        blocks.append(Block(name, began, section, "unclosed", "\n".join(inside)))
    return Page(name, title, tuple(sections), tuple(blocks), prose)


def pages() -> list[Page]:
    """Every runbook, without the README."""
    return [read_page(file.name, file.read_text()) for file in sorted(FOLDER.glob("*.md")) if file.name != "README.md"]


def unknown_placeholders(text: str) -> list[str]:
    """What is written as a placeholder and is none. Variables of the settings (``$TRANSOM_…``) are the shell's."""
    named = [match[1] or match[2] for match in _PLACEHOLDER.finditer(text)]
    return [name for name in named if name not in PLACEHOLDERS and not name.startswith("TRANSOM_")]


def filled(text: str, values: Mapping[str, str] = PLACEHOLDERS) -> str:
    """The text as an operator runs it."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1] or match[2], match[0]), text)
