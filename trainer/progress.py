"""What work tells whoever started it: that it is getting on, and what to be wary of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Report(Protocol):
    """Called with how many steps are done, of how many, and what is worth showing beside them."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` steps are done."""


def silent(done: int, total: int, note: str = "") -> None:
    """Report nothing: for tests and for callers that do not care."""


@contextmanager
def progress_bar(title: str, console: Console) -> Iterator[Report]:
    """Yield a Report that draws one bar on `console`; elsewhere than a terminal, only its end."""
    columns = (
        TextColumn("{task.description:<22}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None, note="")

        def report(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield report


def show_warnings(console: Console, warnings: Iterable[str]) -> None:
    """Print each warning as a line of its own, however long."""
    for warning in warnings:
        console.print(Text.assemble(("warning: ", "bold red"), warning), soft_wrap=True)
