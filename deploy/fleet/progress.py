"""How far each device is: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.text import Text

from deploy.board import printable


class Shown(Protocol):
    """What is told of devices while they are worked on."""

    def says(self, name: str, text: str) -> None:
        """What a device is at."""

    def total(self, name: str, size: int) -> None:
        """How many bytes it is to get."""

    def sent(self, name: str, size: int) -> None:
        """So many more have arrived."""

    def ends(self, name: str, text: str) -> None:
        """How it ended."""


class Lines:
    """A line for every word; bytes are told once, at their beginning."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def says(self, name: str, text: str) -> None:
        """Print what a device is at."""
        self._print(name, text)

    def total(self, name: str, size: int) -> None:
        """Print how much is to be copied."""
        self._print(name, f"copying {size / 1e6:.1f} MB")

    def sent(self, name: str, size: int) -> None:
        """Print nothing: there would be thousands of lines."""

    def ends(self, name: str, text: str) -> None:
        """Print how it ended."""
        self._print(name, text)

    def _print(self, name: str, text: str) -> None:
        self._console.print(
            printable(f"{name}: {text}"), markup=False, highlight=False, soft_wrap=True
        )


class Bars:
    """A bar a device."""

    def __init__(self, progress: Progress, names: Sequence[str]) -> None:
        self._progress = progress
        self._width = max((len(name) for name in names), default=0)
        self._tasks: dict[str, TaskID] = {}

    def says(self, name: str, text: str) -> None:
        """Write beside the bar what a device is at."""
        self._progress.update(self._task(name), says=_shown(text))

    def total(self, name: str, size: int) -> None:
        """Begin the bar."""
        self._progress.update(self._task(name), total=size, completed=0, says=Text("copying"))

    def sent(self, name: str, size: int) -> None:
        """Move the bar on."""
        self._progress.update(self._task(name), advance=size)

    def ends(self, name: str, text: str) -> None:
        """Leave the bar as it is, and how it ended."""
        task = self._task(name)
        self._progress.update(task, says=_shown(text), total=1, completed=1)

    def _task(self, name: str) -> TaskID:
        if name not in self._tasks:
            self._tasks[name] = self._progress.add_task(
                name.ljust(self._width), total=None, says=Text("")
            )
        return self._tasks[name]


def _shown(text: str) -> Text:
    return Text(printable(text), overflow="ellipsis", no_wrap=True)


@contextmanager
def shown(console: Console, names: Sequence[str]) -> Iterator[Shown]:
    """Yield what shows the devices' progress on a console."""
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[says]}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress, names)
