"""What `evaluate tracking` does: clips through trackers, figures of each and of all together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.capture import SourceOptions, open_source
from edge.comparison import TRACKERS, TrackerName
from edge.errors import DataError, UsageError
from edge.identity.means import ClassMeans
from edge.identity.types import Track
from edge.pipeline import FrameTracker
from edge.vision.types import Frame, Image
from trainer.evaluate.tracking.figures import ClipCounts, count_clip, tracking_figures
from trainer.evaluate.tracking.follow import follow
from trainer.evaluate.tracking.paths import NamePath
from trainer.evaluate.tracking.rows import TrueBox
from trainer.evaluate.tracking.truth import ClipTruth, read_truth
from trainer.progress import Report, silent


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """A video and its truth. name: of figures and pictures, different for each."""

    name: str
    video: Path
    truth: ClipTruth


@dataclass(frozen=True, slots=True, eq=False)
class ClipPaths:
    """What the pictures of one clip need. still: a frame (H, W, 3). paths: tracker, animal."""

    still: Image
    paths: dict[str, dict[str, NamePath]]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """metrics: all figures, as metrics.json has them. clips: by the clip's name."""

    metrics: dict[str, Any]
    clips: dict[str, ClipPaths]


def check_trackers(names: Sequence[str]) -> list[TrackerName]:
    """Return the trackers that are asked for, once each, `all` for every one; else UsageError."""
    wanted: list[TrackerName] = []
    for name in names:
        known = [tracker for tracker in TRACKERS if name in (tracker, "all")]
        if not known:
            raise UsageError(
                f"--tracker {name}: must be one of {', '.join(TRACKERS)}, or all of them: all"
            )
        wanted += [tracker for tracker in known if tracker not in wanted]
    return wanted


def read_clips(
    videos: Sequence[Path], truths: Sequence[Path], names: Path | None = None
) -> list[Clip]:
    """Return the clips, the n-th truth being the n-th video's; names: of all gt.txt.

    Raises UsageError and DataError, one line, for a truth that cannot be read or has no animals,
    and UsageError and SourceError for a video that is none.
    """
    if len(videos) != len(truths):
        raise UsageError(
            f"{len(videos)} videos and {len(truths)} truths: give each --video its --truth, in "
            "the same order"
        )
    clips: list[Clip] = []
    for video, path in zip(videos, truths, strict=True):
        truth = read_truth(path, names)
        if not any(not row.ignored for row in truth.boxes):
            raise DataError(f"{path}: no animal is to be seen in it, so nothing can be measured")
        open_source(str(video), "pen", SourceOptions()).close()
        clips.append(Clip(_distinct(video.stem, [clip.name for clip in clips]), video, truth))
    return clips


def evaluate(
    clips: Sequence[Clip],
    means: ClassMeans,
    open_trackers: Callable[[], Mapping[str, FrameTracker]],
    report: Report = silent,
) -> Evaluation:
    """Follow every clip with fresh trackers, and hold what they say against the truth.

    means: whom the trackers can name. open_trackers: makes one clip's trackers by name, the same
    every time. The figures of the first tracker stand at the top of the metrics, those of all
    under `trackers`. Raises DataError for a truth that is not its video's.
    """
    counts: dict[str, dict[str, ClipCounts]] = {}
    drawn: dict[str, ClipPaths] = {}
    total = sum(_length(clip.truth.boxes) for clip in clips)
    done = 0
    frames = 0
    for clip in clips:

        def observe(
            frame: Frame,
            tracks: Mapping[str, tuple[Track, ...]],
            start: int = done,
            note: str = clip.name,
        ) -> None:
            report(min(start + frame.index + 1, total), total, note)

        followed = follow(clip.video, open_trackers(), observe)
        _check_fit(clip, followed.frames, followed.size)
        fps = clip.truth.fps or followed.fps
        for tracker, predictions in followed.predictions.items():
            counts.setdefault(tracker, {})[clip.name] = count_clip(
                predictions, clip.truth.boxes, fps=fps, frames=followed.frames
            )
        paths = {tracker: own[clip.name].paths for tracker, own in counts.items()}
        drawn[clip.name] = ClipPaths(followed.still, paths)
        done += _length(clip.truth.boxes)
        frames += followed.frames
    trackers = {name: _figures(own) for name, own in counts.items()}
    first = next(iter(trackers))
    pooled = {name: value for name, value in trackers[first].items() if name != "per_clip"}
    minutes = sum(count.names.minutes for count in counts[first].values())
    metrics = {
        **pooled,
        "tracker": first,
        "trackers": trackers,
        "clips": [clip.name for clip in clips],
        "frames": frames,
        "minutes": minutes,
        "warnings": _warnings(clips, means),
    }
    return Evaluation(metrics, drawn)


def _figures(counts: Mapping[str, ClipCounts]) -> dict[str, Any]:
    per_clip = {name: tracking_figures([count]) for name, count in counts.items()}
    return {**tracking_figures(list(counts.values())), "per_clip": per_clip}


def _warnings(clips: Sequence[Clip], means: ClassMeans) -> list[str]:
    there = {row.animal for clip in clips for row in clip.truth.boxes if not row.ignored}
    strangers = sorted(there - set(means.animals))
    if not strangers:
        return []
    return [
        f"{len(strangers)} of {len(there)} animals of the truth are not in the class means "
        f"({strangers[0]}): they cannot be named, and count as animals without a right name"
    ]


def _check_fit(clip: Clip, frames: int, size: tuple[int, int]) -> None:
    told = clip.truth.size
    if told is not None and told != size:
        raise DataError(
            f"{clip.video}: is {size[0]}x{size[1]} pixels, its truth is of "
            f"{told[0]}x{told[1]}; is it another video's?"
        )
    if _length(clip.truth.boxes) > frames:
        raise DataError(
            f"{clip.video}: has {frames} frames, its truth goes to frame "
            f"{_length(clip.truth.boxes)}; is it another video's, or cut short?"
        )


def _length(boxes: Sequence[TrueBox]) -> int:
    return 1 + max(row.frame for row in boxes)


def _distinct(stem: str, taken: Sequence[str]) -> str:
    """Return a clip's name that is good in a file's name and not taken."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "clip"
    if name not in taken:
        return name
    return next(f"{name}-{n}" for n in range(2, len(taken) + 3) if f"{name}-{n}" not in taken)
