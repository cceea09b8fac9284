"""`earmark-trainer data check`: what is wrong with annotations and their images."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from trainer.commands.data.options import add_source, counted, positive
from trainer.commands.options import Commands

if TYPE_CHECKING:
    from trainer.data.annotations.check import Checked
    from trainer.data.annotations.raw import Problem


def add_parser(commands: Commands) -> None:
    """Add the command to those of `data`."""
    check = commands.add_parser(
        "check", help="name broken files, wrong boxes, duplicates and oddities; 1 with errors"
    )
    add_source(check)
    check.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    check.add_argument(
        "--show", type=positive, default=5, metavar="N", help="problems of a kind to print (5)"
    )
    check.set_defaults(command=_check)


def _check(options: argparse.Namespace) -> int:
    from rich.console import Console

    from edge.files import write_atomically
    from trainer.data.annotations.check import check
    from trainer.progress import progress_bar

    with progress_bar("looking at images", Console(stderr=True)) as report:
        checked = check(options.source, options.format, options.images, report)
    if options.json is not None:
        document = json.dumps(_document(checked), indent=1, ensure_ascii=False, default=str)
        # A name that is no text is still to be told.
        write_atomically(options.json, document.encode("utf-8", "backslashreplace") + b"\n")
    _print(checked, options.show)
    return 1 if checked.count("error") else 0


def _document(checked: Checked) -> dict[str, object]:
    return {
        "schema": 1,
        "frames": checked.frames,
        "boxes": checked.boxes,
        "sessions": checked.sessions,
        "animals": checked.animals,
        "classes": checked.classes,
        "errors": checked.count("error"),
        "warnings": checked.count("warning"),
        "problems": [
            {
                "severity": problem.severity,
                "kind": problem.kind,
                "where": problem.where,
                "message": problem.message,
            }
            for problem in checked.problems
        ],
    }


def _print(checked: Checked, show: int) -> None:
    groups: dict[tuple[str, str], list[Problem]] = {}
    for problem in checked.problems:
        groups.setdefault((problem.severity, problem.kind), []).append(problem)
    # Errors first: they are what keeps a training from starting.
    for (severity, kind), problems in sorted(groups.items()):
        print(f"{severity}: {kind} ({len(problems)})")
        for problem in problems[:show]:
            print("  " + " ".join(str(problem).encode(errors="backslashreplace").decode().split()))
        if len(problems) > show:
            print(f"  … and {len(problems) - show} more (--show N, --json FILE)")
    classes = ", ".join(f"{name} {count}" for name, count in checked.classes.items())
    print(
        f"{counted(checked.frames, 'frame')} of {counted(checked.sessions, 'session')}, "
        f"{counted(checked.boxes, 'box')} ({classes or 'no classes'}), "
        f"{counted(checked.animals, 'animal')} with ids: "
        f"{counted(checked.count('error'), 'error')}, "
        f"{counted(checked.count('warning'), 'warning')}"
    )
