from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from edge.doctor.verdict import Host, Verdict, examine, run_program
from edge.errors import SourceError


def test_what_a_probe_says_is_passed_on() -> None:
    said = [Verdict("ok", "a", "fine"), Verdict("warn", "a", "hm", "look")]
    assert examine("a", lambda: iter(said), 5) == said


def test_a_probe_that_fails_is_one_line() -> None:
    def broken() -> Iterator[Verdict]:
        yield Verdict("ok", "a", "so far")
        raise ValueError("two\nlines")

    def known() -> Iterator[Verdict]:
        raise SourceError("camera is gone")

    assert examine("a", broken, 5) == [
        Verdict("warn", "a", "could not be examined: ValueError: two lines")
    ]
    assert examine("a", known, 5) == [Verdict("fail", "a", "camera is gone")]


def test_a_probe_that_hangs_is_left_behind() -> None:
    released = threading.Event()

    def hangs() -> Iterator[Verdict]:
        released.wait()
        yield Verdict("ok", "a", "at last")

    assert examine("a", hangs, 0.1) == [Verdict("fail", "a", "gave no answer within 0.1 s")]
    released.set()


def test_programs_that_are_missing_fail_or_hang_say_nothing() -> None:
    python = sys.executable
    assert run_program([python, "-c", "print(' yes ')"]) == "yes"
    assert run_program(["no-such-program-here"]) is None
    assert run_program([python, "-c", "raise SystemExit(3)"]) is None
    assert run_program([python, "-c", "import time; time.sleep(60)"], limit_s=0.2) is None


def test_files_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys/temp").write_text("48300\n")
    (tmp_path / "sys/name").write_text("pi\0\n")
    host = Host(tmp_path)
    assert host.number("/sys/temp") == 48300
    assert host.read("/sys/name") == "pi"
    assert host.number("/sys/name") is None
    assert host.read("/sys/none") is None
