"""Google's `edgetpu_compiler`, run where it is on PATH: a time limit, its log kept, one file out.

How it is called and what it prints: https://coral.ai/docs/edgetpu/compiler/.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edge.errors import EarmarkError, UsageError
from edge.files import write_atomically
from trainer.export.edgetpu_interface import check_same_interface

COMPILER = "edgetpu_compiler"
COMPILED_SUFFIX = "_edgetpu"
ABSENT = (
    f"{COMPILER} is not on PATH: nothing is compiled for the Edge TPU, and what would run there is "
    "foretold from Google's table only"
)
# The compiler gives up by itself after three minutes.
LIMIT_S = 600.0
_LONGEST_LOG = 1 << 20
_ON_TPU = re.compile(r"Number of operations that will run on Edge TPU:\s*(\d+)")
_ON_CPU = re.compile(r"Number of operations that will run on CPU:\s*(\d+)")
_TOTAL = re.compile(r"Total number of operations:\s*(\d+)")
_COMPLAINT = re.compile(r"error|fail|invalid|abort|not quantized|cannot|unable", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled file. log: everything the compiler said.

    on_tpu, on_cpu: how many of the plain file's operators run where, None when the log does not
    say.
    """

    path: Path
    log: str
    on_tpu: int | None
    on_cpu: int | None


class CompilerError(EarmarkError):
    """The compiler failed on a model. log: everything it said."""

    def __init__(self, message: str, log: str) -> None:
        super().__init__(message)
        self.log = log


def find_compiler() -> Path | None:
    """Return where the compiler is, None when it is not on PATH."""
    found = shutil.which(COMPILER)
    return None if found is None else Path(found).absolute()


def compiled_name(name: str) -> str:
    """Return what the compiler makes of a file's name."""
    return f"{Path(name).stem}{COMPILED_SUFFIX}.tflite"


def log_name(compiled: str) -> str:
    """Return the name of the log that is kept beside a compiled file."""
    return f"{Path(compiled).stem}.log"


def compile_for_edgetpu(
    model: Path, out: Path, *, compiler: Path, limit_s: float = LIMIT_S
) -> Compiled:
    """Compile a plain int8 model and write the result to `out`, by rename.

    compiler: from `find_compiler`. limit_s: after that many seconds it is killed, with everything
    it has started. Raises CompilerError when it fails, hangs, or makes a file that cannot take the
    plain one's place (`check_same_interface`); nothing is written then.
    """
    plain = model.read_bytes()
    with tempfile.TemporaryDirectory(prefix="earmark-") as name:
        folder = Path(name)
        # A copy of a plain name: the compiler makes its own names of it.
        (folder / "model.tflite").write_bytes(plain)
        code, said = _run([str(compiler), "-s", "-o", name, "model.tflite"], folder, limit_s)
        log = said + _read_log(folder / f"model{COMPILED_SUFFIX}.log", said)
        if code is None:
            raise CompilerError(
                f"{model}: {COMPILER} was not done after {limit_s:g} s and was stopped", log
            )
        if code != 0:
            raise CompilerError(
                f"{model}: {COMPILER} failed with exit code {code}: {_complaint(said)}", log
            )
        try:
            data = (folder / compiled_name("model.tflite")).read_bytes()
        except OSError as error:
            raise CompilerError(
                f"{model}: {COMPILER} made no file: {_complaint(said)}", log
            ) from error
    try:
        check_same_interface(plain, data, str(out))
    except UsageError as error:
        raise CompilerError(f"{error}; the compiled file is not used", log) from error
    write_atomically(out, data)
    return Compiled(out, log, *count_operations(log))


def count_operations(log: str) -> tuple[int | None, int | None]:
    """Return how many operations run on the Edge TPU and on the CPU, as a log says, or None.

    When all are mapped the compiler prints only their total.
    """
    on_tpu, on_cpu, total = (_number(pattern, log) for pattern in (_ON_TPU, _ON_CPU, _TOTAL))
    if on_tpu is None and on_cpu is None and total is not None:
        return total, 0
    return on_tpu, on_cpu


def _number(pattern: re.Pattern[str], log: str) -> int | None:
    found = pattern.search(log)
    return None if found is None else int(found.group(1))


def _run(command: list[str], folder: Path, limit_s: float) -> tuple[int | None, str]:
    """Return exit code (None: stopped at the limit) and what was printed."""
    # A file, not a pipe: a grandchild that holds it open keeps nobody waiting.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise CompilerError(f"{command[0]}: cannot be run: {error.strerror}", "") from error
        code: int | None
        try:
            code = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            # Also what it has left behind; a group of its own, so that nobody else is met.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        output.seek(0)
        return code, output.read(_LONGEST_LOG).decode(errors="replace")


def _read_log(path: Path, said: str) -> str:
    """Return the log file that the compiler writes, unless it printed the same."""
    try:
        with path.open("rb") as stream:
            log = stream.read(_LONGEST_LOG).decode(errors="replace")
    except OSError:
        return ""
    return "" if log.strip() in said else f"\n--- {path.name} ---\n{log}"


def _complaint(said: str) -> str:
    """Return the line of a log that says best what went wrong."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for line in reversed(lines):
        if _COMPLAINT.search(line) and not line.startswith("Compilation failed!"):
            return line[:200]
    return lines[-1][:200] if lines else "it said nothing"
