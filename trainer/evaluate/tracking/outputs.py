"""What `evaluate tracking` leaves behind: figures, report, path pictures."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge.files import write_atomically
from trainer.evaluate import folder as folders
from trainer.evaluate.tracking.pictures import path_sheet
from trainer.evaluate.tracking.protocol import Evaluation
from trainer.evaluate.tracking.report import tracking_page

METRICS_NAME = "metrics.json"
REPORT_NAME = "report.html"


def paths_name(clip: str) -> str:
    """Return the file name of a clip's path pictures."""
    return f"paths-{clip}.jpg"


def check_out(out: Path) -> None:
    """Raise UsageError for a folder that holds something else than an older evaluation."""
    own = {METRICS_NAME, REPORT_NAME, *(path.name for path in out.glob(paths_name("*")))}
    folders.check_out(out, own, (METRICS_NAME, REPORT_NAME))


def write_evaluation(folder: Path, evaluation: Evaluation, *, title: str) -> None:
    """Write everything into an empty folder."""
    sheets = {
        name: sheet
        for name, clip in evaluation.clips.items()
        if (sheet := path_sheet(clip.still, clip.paths)) is not None
    }
    for name, data in sheets.items():
        write_atomically(folder / paths_name(name), data)
    page = tracking_page(title, evaluation.metrics, sheets)
    write_atomically(folder / REPORT_NAME, page.encode())
    encoded = msgspec.json.format(msgspec.json.encode(evaluation.metrics), indent=1)
    write_atomically(folder / METRICS_NAME, encoded + b"\n")
