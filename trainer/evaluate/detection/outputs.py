"""What `evaluate detection` leaves behind: figures, report, pictures."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edge.files import write_atomically
from trainer.evaluate import folder as folders
from trainer.evaluate.detection import charts, sheets
from trainer.evaluate.detection.protocol import Evaluation
from trainer.evaluate.detection.report import detection_page

METRICS_NAME = "metrics.json"
REPORT_NAME = "report.html"
CURVE_NAME = "precision_recall.png"
THRESHOLD_NAME = "threshold.png"
COUNTS_NAME = "counts.png"
OVERLAP_NAME = "overlap.png"
WORST_NAME = "worst.jpg"
MISSED_NAME = "missed.jpg"
_OWN = {
    METRICS_NAME,
    REPORT_NAME,
    CURVE_NAME,
    THRESHOLD_NAME,
    COUNTS_NAME,
    OVERLAP_NAME,
    WORST_NAME,
    MISSED_NAME,
}


def check_out(out: Path) -> None:
    """Raise UsageError for a folder that holds something else than an older evaluation."""
    folders.check_out(out, _OWN, (METRICS_NAME, REPORT_NAME, CURVE_NAME))


def write_evaluation(folder: Path, evaluation: Evaluation, *, title: str) -> None:
    """Write everything into an empty folder; sheets of what went wrong only where it did."""
    metrics, int8, twin = evaluation.metrics, evaluation.int8, evaluation.twin
    missed = sheets.missed_animals(evaluation.frames, int8)
    pictures = {
        CURVE_NAME: charts.precision_recall_chart(int8, twin),
        THRESHOLD_NAME: charts.threshold_chart(int8, twin),
        COUNTS_NAME: charts.count_chart(int8),
        OVERLAP_NAME: charts.overlap_chart(int8, twin, metrics["intervals"]),
        WORST_NAME: sheets.worst_sheet(evaluation.frames, int8),
        MISSED_NAME: sheets.missed_sheet(evaluation.frames, missed),
    }
    drawn = {name: data for name, data in pictures.items() if data is not None}
    for name, data in drawn.items():
        write_atomically(folder / name, data)
    page = detection_page(title, metrics, drawn)
    write_atomically(folder / REPORT_NAME, page.encode())
    encoded = msgspec.json.format(msgspec.json.encode(metrics), indent=1)
    write_atomically(folder / METRICS_NAME, encoded + b"\n")
