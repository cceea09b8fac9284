from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

from edge.console import run_command
from edge.errors import BundleError, DataError, EarmarkError, UsageError


def run(
    monkeypatch: pytest.MonkeyPatch, outcome: int | BaseException, *arguments: str
) -> tuple[int, list[list[str]]]:
    seen: list[list[str]] = []

    def main(given: Sequence[str]) -> int:
        seen.append(list(given))
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(sys, "argv", ["earmark-edge", *arguments])
    return run_command(main, "earmark-edge"), seen


def test_arguments_go_in_and_the_exit_code_comes_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, 0, "run", "--fast") == (0, [["run", "--fast"]])
    assert run(monkeypatch, 3)[0] == 3
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (EarmarkError("it broke"), 1, "it broke"),
        (BundleError("b/m.npz: altered"), 1, "b/m.npz: altered"),
        (UsageError("--out: missing"), 2, "--out: missing"),
        (DataError("two\nlines  of text"), 2, "two lines of text"),
        (FileNotFoundError(2, "No such file or directory", "x.mp4"), 1, "x.mp4: No such file"),
        (OSError("odd"), 1, "odd"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_an_error_is_one_line_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    line: str,
) -> None:
    assert run(monkeypatch, error)[0] == code
    out, problem = capsys.readouterr()
    assert out == ""
    assert problem.startswith(f"earmark-edge: error: {line}")
    assert problem.count("\n") == 1
    assert problem.endswith("\n")


def test_verbose_shows_the_traceback_as_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, BundleError("gone"), "run", "--verbose")[0] == 1
    problem = capsys.readouterr().err
    assert "Traceback" in problem
    assert problem.endswith("earmark-edge: error: gone\n")


def test_a_bug_is_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        run(monkeypatch, ZeroDivisionError())
