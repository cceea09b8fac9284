"""What every command line shares: errors become one line, never a traceback."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence

from edge.errors import EarmarkError


def run_command(main: Callable[[Sequence[str]], int], prog: str) -> int:
    """Run `main` with the process's arguments and return its exit code.

    An EarmarkError, a file error or Ctrl-C ends in one line on stderr; `--verbose` anywhere on the
    command line shows the traceback as well.
    """
    arguments = sys.argv[1:]
    try:
        return main(arguments)
    except (EarmarkError, OSError) as error:
        return _report(prog, *in_one_line(error), arguments)
    except KeyboardInterrupt:
        return _report(prog, "interrupted", 130, arguments)


def in_one_line(error: EarmarkError | OSError) -> tuple[str, int]:
    """Return what is told of an error, and the exit code that it means."""
    if isinstance(error, EarmarkError):
        text, code = str(error), error.exit_code
    else:
        name = f"{error.filename}: " if error.filename else ""
        text, code = f"{name}{error.strerror or error}", 1
    return " ".join(text.split()), code


def _report(prog: str, message: str, code: int, arguments: Sequence[str]) -> int:
    if "--verbose" in arguments:
        traceback.print_exc()
    print(f"{prog}: error: {message}", file=sys.stderr)
    return code
