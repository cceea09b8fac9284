"""The gate of a trial: a release is looked at in a child process that may crash, hang or swell."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

import edge
from edge.complaints import Complaints
from edge.errors import EarmarkError
from edge.lifeline import Lifeline
from edge.release.gate import Answer, Code, Request

_COMMAND = (sys.executable, "-m", "edge.release.gate")
_LOOK_S = 0.02
_ALIVE_S = 1.0
# A driver can hold its process in the kernel, where no signal reaches it.
_GONE_S = 3.0
_ANSWER_BYTES = 64 << 10


class TrialError(EarmarkError):
    """A release that must not run. code: which question it failed at."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code: Code = code


@dataclass(frozen=True, slots=True)
class Limits:
    """What the child may take: seconds in all, and bytes of memory."""

    seconds: float = 180.0
    memory_bytes: int = 1 << 30


def check_release(
    request: Request,
    limits: Limits | None = None,
    *,
    alive: Callable[[], object] = lambda: None,
    command: Sequence[str] = _COMMAND,
) -> Answer:
    """Try a release in a child process (`edge.release.gate`); TrialError for one that fails.

    alive: called about once a second meanwhile. command: what starts the child.
    """
    limits = limits or Limits()
    request = msgspec.structs.replace(request, memory_bytes=limits.memory_bytes)
    with tempfile.TemporaryFile() as out:
        code, complaint = _run(msgspec.json.encode(request), out, limits.seconds, alive, command)
        where = request.release
        if code is None:
            raise TrialError("hangs", f"{where}: no answer within {limits.seconds:g} s")
        out.seek(0)
        said = out.read(_ANSWER_BYTES)
    if code < 0:
        raise TrialError("crashed", f"{where}: crashes ({_signal(-code)})")
    try:
        answer = msgspec.json.decode(said, type=Answer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        why = complaint or f"exit code {code}"
        raise TrialError("crashed", f"{where}: cannot be tried: {why}") from error
    if answer.code is not None:
        raise TrialError(answer.code, answer.text)
    return answer


def _run(
    request: bytes,
    out: IO[bytes],
    limit_s: float,
    alive: Callable[[], object],
    command: Sequence[str],
) -> tuple[int | None, str]:
    """Return the child's exit code, None when it had to be killed, and its last complaint."""
    # The child must run the code that this process runs, wherever that lies.
    root = str(Path(edge.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
    lifeline = Lifeline()
    with lifeline.starting():
        process = subprocess.Popen(
            list(command),
            pass_fds=(lifeline.far_end,),
            env={**os.environ, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    lifeline.tie(process.pid)
    assert process.stderr is not None
    complaints = Complaints(process.stderr, "gate")
    try:
        _hand_over(process, request)
        code = _wait(process, limit_s, alive)
    finally:
        # What it started itself belongs to its session, and goes with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GONE_S)
        last = complaints.last
        complaints.close()
        lifeline.close()
    return code, last


def _hand_over(process: subprocess.Popen[bytes], request: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stream:
        stream.write(request)


def _wait(
    process: subprocess.Popen[bytes], limit_s: float, alive: Callable[[], object]
) -> int | None:
    end_s = time.monotonic() + limit_s
    told_s = time.monotonic()
    while (now_s := time.monotonic()) < end_s:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(min(_LOOK_S, end_s - now_s))
        if now_s - told_s >= _ALIVE_S:
            told_s = now_s
            alive()
    return None


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
