"""What the `means` commands do alike once they run: embed crops, store means, tell the user."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from edge.release.bundle import Bundle
from trainer.data.crops import CropSet
from trainer.means.embed import EmbeddedCrops, embed_crops, embed_gallery
from trainer.means.storage import Stored
from trainer.progress import progress_bar


def now() -> str:
    """Return the time as headers and manifests give it, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def embed(bundle: Bundle, crops: CropSet, title: str) -> EmbeddedCrops:
    """Embed crops that are asked, as the device does, with a bar on stderr."""
    with progress_bar(title, Console(stderr=True)) as report:
        return embed_crops(bundle.embedder, crops, bundle.embedder.letterbox_colour, report)


def embed_references(bundle: Bundle, crops: CropSet, title: str) -> EmbeddedCrops:
    """Embed crops that class means are made of, with a bar on stderr."""
    with progress_bar(title, Console(stderr=True)) as report:
        return embed_gallery(bundle.embedder, crops, bundle.embedder.letterbox_colour, report)


def tell(stored: Stored) -> str:
    """Return a line that says where means went."""
    animals = f"{stored.animals} animal{'' if stored.animals == 1 else 's'}"
    if stored.bundle_id is None:
        return f"class means {stored.path}: {animals}, seq {stored.seq}"
    return f"bundle {stored.path}: {animals}, means seq {stored.seq}, id {stored.bundle_id[:12]}"


def warn(text: str) -> None:
    """Print a warning on stderr: one line."""
    print(f"earmark-trainer: warning: {text}", file=sys.stderr)


def show_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table on stdout; floats with two decimals, None as a dash."""
    table = Table(*head)
    for row in rows:
        table.add_row(*map(_cell, row))
    Console().print(table)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.2f}" if isinstance(value, float) else str(value)
