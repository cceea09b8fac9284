"""All that is wrong or odd with annotated frames: what a strict reader stops at, and more."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge.errors import DataError, UsageError
from edge.messaging.topics import check_animals
from edge.vision.geometry import iou_matrix
from trainer.data.annotations.formats import Format, read_raw
from trainer.data.annotations.integrity import Look, look_at, near_duplicates
from trainer.data.annotations.raw import (
    Problem,
    RawFrame,
    RawFrames,
    is_file,
    is_within,
    problem_of,
)
from trainer.data.annotations.sessions import sessions_of_frames
from trainer.data.annotations.validate import validate
from trainer.data.crops import SUFFIXES
from trainer.data.frames import FrameSet
from trainer.progress import Report, silent

# Two boxes of a class that share so much are one animal, drawn twice.
_SAME_BOX_IOU = 0.95
# A static scene has thousands of such pairs: those beyond tell nothing new.
_MOST_NEAR = 1000


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. classes: boxes by class. animals: how many have an id."""

    frames: int
    boxes: int
    sessions: int
    animals: int
    classes: dict[str, int]
    problems: tuple[Problem, ...]

    def count(self, severity: str) -> int:
        """Return how many errors, or warnings, there are."""
        return sum(problem.severity == severity for problem in self.problems)


def check(
    source: Path,
    format: Format | None = None,
    images: Path | None = None,
    report: Report = silent,
) -> Checked:
    """Look at annotations and at every image. Arguments as of `read_frames`.

    Errors: what would be refused, and images that are broken, cut off or of another size than
    declared. Warnings: duplicate boxes; images that are copies of each other, or nearly so across
    sessions; images of one colour; frames without boxes and images without annotations; classes
    without boxes; ids of animals that are missing, doubled in a frame, or only nearly alike.
    A file that cannot be read at all is the one problem then.
    """
    try:
        raw = read_raw(source, format, images)
    except DataError as error:
        return Checked(0, 0, 0, 0, {}, (problem_of("broken file", source, error),))
    validated = validate(raw)
    frames = validated.frames
    problems = list(validated.problems)
    looks: dict[Path, Look] = {}
    listed = {
        frame.path: frame
        for frame in raw.frames
        if is_within(raw.images, frame.path) and is_file(frame.path)
    }
    # The reader said that it cannot be decoded; why it cannot is said below.
    problems = [problem for problem in problems if problem.kind != "broken image"]
    for row, path in enumerate(listed):
        found = look_at(path)
        if isinstance(found, Look):
            looks[path] = found
            if found.empty:
                message = "is of one colour: nothing to see"
                problems.append(Problem("empty image", str(path), message, "warning"))
        else:
            problems.append(found)
        report(row + 1, len(listed))
    problems += _copies(looks, raw)
    problems += _unlisted(listed, raw)
    problems += _boxes(frames)
    problems += _names(frames.class_names, raw)
    problems += _animals(frames)
    return Checked(
        len(frames),
        sum(map(len, frames.boxes)),
        len(set(frames.sessions)),
        len({animal for names in frames.animals for animal in names} - {None}),
        {name: _uses(frames)[name] for name in frames.class_names},
        tuple(problems),
    )


def _copies(looks: dict[Path, Look], raw: RawFrames) -> Iterator[Problem]:
    paths = list(looks)
    by_digest: dict[str, list[Path]] = defaultdict(list)
    for path, look in looks.items():
        by_digest[look.digest].append(path)
    for first, *others in by_digest.values():
        for other in others:
            message = f"has the same bytes as {first}"
            yield Problem("duplicate image", str(other), message, "warning")
    named = sessions_of_frames(raw.frames, raw.images)
    session = {frame.path: own for frame, own in zip(raw.frames, named, strict=True)}
    groups = [session[path] for path in paths]
    # Pictures of one colour are all alike.
    seen = [row for row, path in enumerate(paths) if not looks[path].empty]
    pairs = near_duplicates([looks[paths[row]] for row in seen], [groups[row] for row in seen])
    for _, (i, j, apart) in zip(range(_MOST_NEAR), pairs, strict=False):
        message = (
            f"is nearly the same picture as {paths[seen[i]]} (grey levels differ by {apart:.1f})"
        )
        yield Problem("near-duplicate image", str(paths[seen[j]]), message, "warning")


def _unlisted(listed: dict[Path, RawFrame], raw: RawFrames) -> Iterator[Problem]:
    """Name images that lie among those listed and are in no annotation."""
    for folder in sorted({path.parent for path in listed}):
        for path in sorted(folder.iterdir()):
            odd = path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
            # Of a video every frame may have an image, and some be annotated.
            if odd and path not in listed and all(frame.number is None for frame in raw.frames):
                message = f"is in no annotation of {raw.source}"
                yield Problem("image without annotations", str(path), message, "warning")


def _boxes(frames: FrameSet) -> Iterator[Problem]:
    for path, boxes, classes in zip(frames.paths, frames.boxes, frames.classes, strict=True):
        if not len(boxes):
            message = "has no boxes: it counts as showing no animal"
            yield Problem("frame without boxes", str(path), message, "warning")
        same = (iou_matrix(boxes, boxes) > _SAME_BOX_IOU) & (classes[:, None] == classes[None, :])
        for a, b in np.argwhere(np.triu(same, 1)):
            x1, y1, x2, y2 = boxes[b]
            message = (
                f"box {b + 1} ({x1:g}, {y1:g}, {x2:g}, {y2:g}) is box {a + 1} again "
                f"({frames.class_names[classes[a]]})"
            )
            yield Problem("duplicate box", str(path), message, "warning")


def _uses(frames: FrameSet) -> Counter[str]:
    return Counter(frames.class_names[row] for rows in frames.classes for row in rows)


def _names(names: tuple[str, ...], raw: RawFrames) -> Iterator[Problem]:
    # Of wrong boxes as well: a class is not unused because its images are missing.
    used = {box.class_name for frame in raw.frames for box in frame.boxes}
    for name in names:
        if name not in used:
            message = "has no box; take it out of the list of classes"
            yield Problem("class never used", f"class {name!r}", message, "warning")
    for first, other in _alike(names):
        message = f"differs from {first!r} only in case or spaces; is it the same?"
        yield Problem("classes", f"class {other!r}", message, "warning")


def _animals(frames: FrameSet) -> Iterator[Problem]:
    known = Counter(animal for names in frames.animals for animal in names)
    nameless = known.pop(None, 0)
    if not known:
        return
    if nameless:
        message = f"{nameless} of {known.total() + nameless} boxes have no animal's id"
        yield Problem("animal id", "all frames", message, "warning")
    for path, names in zip(frames.paths, frames.animals, strict=True):
        for animal, times in Counter(names).items():
            if animal is not None and times > 1:
                message = f"shows animal {animal!r} {times} times"
                yield Problem("animal id", str(path), message, "warning")
    animals = [str(animal) for animal in known]
    for first, other in _alike(animals):
        message = f"differs from {first!r} only in case or spaces; is it the same?"
        yield Problem("animal id", f"animal {other!r}", message, "warning")
    for animal in sorted(animals):
        try:
            check_animals([animal])
        except UsageError as error:
            message = f"devices will refuse it: {error}"
            yield Problem("animal id", f"animal {animal!r}", message, "warning")


def _alike(names: list[str] | tuple[str, ...]) -> Iterator[tuple[str, str]]:
    seen: dict[str, str] = {}
    for name in sorted(names):
        plain = "".join(name.casefold().split())
        if plain in seen:
            yield seen[plain], name
        seen.setdefault(plain, name)
