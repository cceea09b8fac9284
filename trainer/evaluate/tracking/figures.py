"""All figures of following and naming: of one clip, or of several together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edge.errors import DataError
from trainer.evaluate.tracking.mot import MotCounts, mot_counts, mot_figures
from trainer.evaluate.tracking.names import NameCounts, name_counts, name_figures
from trainer.evaluate.tracking.paths import NamePath, name_paths, path_counts, path_figures
from trainer.evaluate.tracking.rows import PredictedBox, TrueBox, by_frame, covers

IOU = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class ClipCounts:
    """What one clip adds to every figure. tracks: how many. paths: by animal."""

    mot: MotCounts
    names: NameCounts
    paths: dict[str, NamePath]
    tracks: int


def count_clip(
    predictions: Sequence[PredictedBox],
    truth: Sequence[TrueBox],
    *,
    fps: float,
    frames: int | None = None,
    iou: float = IOU,
) -> ClipCounts:
    """Count one clip.

    predictions: the boxes that were seen, not predicted ones; a track at most once a frame, an
    animal in `truth` as well. fps: frames a second of the clip. frames: its length; None: as far
    as the rows go. iou: least overlap of a box with the animal it is taken to show. Raises
    DataError for a row that is there twice.
    """
    if not fps > 0:
        raise DataError(f"fps must be more than 0, not {fps}")
    rows = by_frame(predictions, truth, iou)
    if frames is None:
        frames = 1 + max((row.frame for row in (*predictions, *truth)), default=-1)
    pairs = covers(rows, iou)
    return ClipCounts(
        mot_counts(rows, pairs, iou),
        name_counts(rows, pairs, frames / fps / 60),
        name_paths(predictions, truth, frames),
        len(rows.tracks),
    )


def tracking_figures(clips: Sequence[ClipCounts]) -> dict[str, Any]:
    """Return the figures of clips together (formats: Metrics files, `evaluate tracking`).

    idf1, mota, id_switches, hota, deta, assa: by track ids. frame_f1: macro F1 over the true
    animals of the name each box carries. track_f1: the same over tracks, by the last name of each
    against the animal it covers in most frames; a track that covers none is a stranger.
    wrong_names_per_min: how often a track begins to carry the name of another animal than it
    covers (of none: not counted), by the clips' time. path_*: how far names are from their
    animals. Also precision, recall, tracks, animals, boxes. Figures are None where there is
    nothing to measure.
    """
    return {
        **mot_figures([clip.mot for clip in clips]),
        **name_figures([clip.names for clip in clips]),
        **path_figures([path_counts(path) for clip in clips for path in clip.paths.values()]),
        "tracks": sum(clip.tracks for clip in clips),
        "animals": len(frozenset().union(*(clip.names.animals for clip in clips))),
        "boxes": sum(clip.mot.asked for clip in clips),
    }


def evaluate_tracking(
    predictions: Sequence[PredictedBox],
    truth: Sequence[TrueBox],
    *,
    fps: float,
    frames: int | None = None,
    iou: float = IOU,
) -> dict[str, Any]:
    """Return the figures of one clip; see `count_clip` and `tracking_figures`."""
    return tracking_figures([count_clip(predictions, truth, fps=fps, frames=frames, iou=iou)])
