"""What the processes of a run log is copied to our own output, line by line and to the last."""

from pathlib import Path

import pytest

from deploy.local.process_logs import _copy, following, fresh_log, last_line


def _add(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def test_what_is_added_is_copied_to_the_end_and_what_stood_before_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "router.log"
    _add(log, "before\n")
    with following(tmp_path):
        _add(log, "one\ntwo\n")
    assert capsys.readouterr().out == "one\ntwo\n"


def test_half_a_line_waits_for_its_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "router.log"
    _add(log, "whole\nhal")
    place = _copy(log, 0)
    assert capsys.readouterr().out == "whole\n"
    _add(log, "f\n")
    _copy(log, place)
    assert capsys.readouterr().out == "half\n"


def test_a_log_that_somebody_emptied_is_read_from_its_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "router.log"
    _add(log, "a long line of an earlier hour\n")
    with following(tmp_path):
        log.write_text("anew\n")
    assert capsys.readouterr().out == "anew\n"


def test_a_run_begins_its_logs_anew_and_keeps_those_of_the_run_before(tmp_path: Path) -> None:
    _add(fresh_log(tmp_path, "router"), "first\n")
    second = fresh_log(tmp_path, "router")
    assert not second.exists()
    assert (tmp_path / "router.log.1").read_text() == "first\n"


def test_last_words_are_told_also_when_there_are_none(tmp_path: Path) -> None:
    log = tmp_path / "router.log"
    log.touch()
    assert last_line(log) == f"it wrote nothing to {log}"
    _add(log, "one\ntwo\n\n")
    assert last_line(log) == "two"
