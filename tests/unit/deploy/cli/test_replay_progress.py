"""How far a replay has come: a bar on a terminal, lines elsewhere."""

import io

from deploy.cli.replay.progress import Lines, shown

AT = 1_795_600_000_000


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar_with_what_was_published_and_up_to_when() -> None:
    out = Terminal()
    with shown(1000, out) as tell:
        tell(500, 420, AT)
    said = out.getvalue()
    assert "420 fed through, 2026-11-25T" in said
    assert "500/1000" in said


def test_a_file_gets_a_line_now_and_then() -> None:
    out = io.StringIO()
    with shown(1000, out) as tell:
        tell(1, 1, AT)
    assert out.getvalue() == ""
    lines = Lines(1000, out, every=0)
    lines(500, 420, AT)
    assert out.getvalue().startswith("500 of 1000 read, 420 fed through, up to 2026-11-25T")
