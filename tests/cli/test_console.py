import io
import json
import sys
from collections.abc import Callable

import pytest

from phiedge.cli.console import TerminalProgress, emit_json, show_table, terminal_progress
from phiedge.progress import silent


class Terminal(io.StringIO):
    """A stderr that calls itself a terminal."""

    def isatty(self) -> bool:
        return True


def become_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Not a fixture: pytest sets its own stderr after the fixtures of a test."""
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    return stderr


def appear_now(progress: TerminalProgress) -> None:
    """What the timer does when the second is over."""
    progress._appear()


def test_json_is_one_line_that_keeps_its_letters(capsys: pytest.CaptureFixture[str]) -> None:
    emit_json({"answer": "größer", "n": 1})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "größer" in out
    assert json.loads(out) == {"answer": "größer", "n": 1}


def test_no_cell_of_a_table_is_cut_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    show_table("title", ("name", "size"), [("x" * 200, "1"), ("[bold]y", "1000")], right="size")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].strip() == "title"
    assert lines[2].split() == ["x" * 200, "1"]
    assert lines[3].startswith("[bold]y ")
    assert lines[2].index(" 1") + 1 == lines[3].index("1000") + 3, "the numbers are aligned to the right"


def test_a_table_without_names_has_no_line_for_them(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(None, ("", ""), [("model", "tiny"), ("size", "1 MB")])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [["model", "tiny"], ["size", "1", "MB"]]


def test_no_line_of_a_table_ends_in_blanks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    show_table("title", ("name", "note"), [("a", "long enough"), ("b", "")])
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    show_table("title", ("name", "note"), [("a", "long enough to be wrapped"), ("b", "")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9
    assert [line for line in lines if line.endswith(" ")] == []


def test_columns_whose_names_are_several_words_are_aligned_one_by_one(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(None, ("name", "reads MB"), [("a", "1")], right=["reads MB"])
    assert capsys.readouterr().out.splitlines()[1].split(" ") == ["a", *[""] * 11, "1"]


def test_no_cell_moves_the_cursor_of_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show_table(None, ("name", ""), [("a\x1b]0;title\x07b", "two\nlines")])
    assert capsys.readouterr().out.splitlines()[1].split() == ["a\ufffd]0;title\ufffdb", "two"]


def test_progress_is_silent_where_there_is_no_terminal() -> None:
    assert terminal_progress() is silent


def test_short_work_shows_nothing_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    progress = terminal_progress()
    assert isinstance(progress, TerminalProgress)
    with progress.task("hash", 10, "B") as advance:
        advance(10)
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(("unit", "shown"), [("B", "1/3 MB"), ("tensors", "1000000/3000000 tensors")])
def test_longer_work_shows_its_name_and_amount(monkeypatch: pytest.MonkeyPatch, unit: str, shown: str) -> None:
    terminal = become_terminal(monkeypatch)
    progress = TerminalProgress(delay_s=3600)
    with progress.task("weights", 3_000_000, unit) as advance:
        appear_now(progress)
        advance(1_000_000)
    assert "weights" in terminal.getvalue()
    assert shown in terminal.getvalue()


def test_tasks_may_nest_and_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    progress = TerminalProgress(delay_s=3600)
    advances: list[Callable[[int], None]] = []
    for _ in range(2):
        with progress.task("outer", 1, "parts") as outer:
            appear_now(progress)
            with progress.task("inner", 1, "parts") as inner:
                advances += [outer, inner]
                inner(1)
            outer(1)
    assert "inner" in terminal.getvalue()
    assert len(advances) == 4


def test_an_error_inside_a_task_ends_the_display(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = become_terminal(monkeypatch)
    progress = TerminalProgress(delay_s=3600)
    with pytest.raises(RuntimeError), progress.task("hash", 1, "B"):
        appear_now(progress)
        raise RuntimeError
    appear_now(progress)
    assert terminal.getvalue().endswith("\x1b[?25h"), "the cursor is shown again"
