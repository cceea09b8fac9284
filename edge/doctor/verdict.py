"""What an examination says, and how one that fails itself still says something."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge.errors import EarmarkError

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line: what was looked at, what was found, and what to do about it if anything."""

    level: Level
    topic: str
    text: str
    advice: str = ""


Probe = Callable[[], Iterable[Verdict]]


@dataclass(frozen=True, slots=True)
class Host:
    """The machine that is examined. root: of its file system. run: runs a program of it.

    `run` returns a program's output, and None where it is missing, fails or takes too long.
    """

    root: Path = Path("/")
    run: Callable[[Sequence[str]], str | None] = lambda command: run_program(command)

    def read(self, path: str) -> str | None:
        """Return the text of a small file, None where it cannot be read."""
        try:
            return (self.root / path.lstrip("/")).read_text(errors="replace").strip("\0\n ")
        except OSError:
            return None

    def number(self, path: str) -> float | None:
        """Return the number that a file holds, None where it holds none."""
        try:
            return float(self.read(path) or "")
        except ValueError:
            return None


def run_program(command: Sequence[str], limit_s: float = 5.0) -> str | None:
    """Return a program's output; None where it is missing, fails or takes longer than `limit_s`."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def examine(topic: str, probe: Probe, limit_s: float) -> list[Verdict]:
    """Return what a probe says; one that fails or takes longer than `limit_s` is a verdict too."""
    results: queue.SimpleQueue[list[Verdict]] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put(list(probe()))
        except EarmarkError as error:
            results.put([Verdict("fail", topic, str(error))])
        except Exception as error:  # an examination must say something of everything else too
            text = f"could not be examined: {type(error).__name__}: {error}"
            results.put([Verdict("warn", topic, " ".join(text.split()))])

    threading.Thread(target=work, daemon=True, name=f"doctor {topic}").start()
    try:
        return results.get(timeout=limit_s)
    except queue.Empty:
        return [Verdict("fail", topic, f"gave no answer within {limit_s:g} s")]
