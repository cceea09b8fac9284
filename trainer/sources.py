"""From a recipe's `data` section to crops and frames, split so that no session is on two sides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from edge.errors import DataError, UsageError
from edge.messaging.topics import check_animals
from edge.vision.types import Floats
from trainer.data.annotations import read_coco, read_frames
from trainer.data.annotations.sessions import without_session as unnamed_frames
from trainer.data.annotations.split import (
    UNNAMED_WARNING,
    sessions_in_both,
    split_every,
    split_frames,
)
from trainer.data.crops import CropSet, check_trainable, load_image, natural, read_crops
from trainer.data.folders import read_strangers
from trainer.data.frames import FrameSet, joined_frames
from trainer.data.herd import HerdOptions, SessionPlan, simulate
from trainer.data.splits import (
    FRAME_SPLIT_WARNING,
    shared_sessions,
    split_by_session,
    split_crops,
    without_session,
)
from trainer.progress import Report, silent
from trainer.recipe import CropsSource, FramesSource, HerdSource, Recipe

TEST_SEED = 900
# Of typical crowding: some 9 % of its boxes are half hidden, as of all that the simulator draws.
CLIP_SEED = 953
_LIGHTS = ("day", "dusk", "night")
# In the name of a simulated session, as `_with_sessions` gives it.
_CAMERA = re.compile(r"(?:^|/)cam(\d+)-")


@dataclass(frozen=True, slots=True, eq=False)
class CropData:
    """Crops by what they are for.

    fit: to train on. herd: the animals of `fit` that the class means shall hold. held_out: other
    sessions of those. test: sessions kept aside, or None. unknown, newcomer_*: animals that are
    not in `fit`, or None. negatives: of no animal, to calibrate refusals with, or None. warnings:
    why the figures should be read with care.
    """

    fit: CropSet
    herd: CropSet
    held_out: CropSet
    test: CropSet | None = None
    unknown: CropSet | None = None
    newcomer_gallery: CropSet | None = None
    newcomer_query: CropSet | None = None
    negatives: CropSet | None = None
    warnings: tuple[str, ...] = ()

    def all_paths(self) -> list[Path]:
        """Return every image file, in a fixed order."""
        sets = (
            self.fit,
            self.held_out,
            self.test,
            self.unknown,
            self.newcomer_gallery,
            self.newcomer_query,
            self.negatives,
        )
        return [path for crops in sets if crops is not None for path in crops.paths]


@dataclass(frozen=True, slots=True, eq=False)
class FrameData:
    """Frames by what they are for, by whole sessions. warnings: why to read figures with care."""

    fit: FrameSet
    held_out: FrameSet
    test: FrameSet | None
    warnings: tuple[str, ...] = ()

    def all_paths(self) -> list[Path]:
        """Return every image file, in a fixed order."""
        return [path for part in self._parts() for path in part.paths]

    def all_boxes(self) -> list[Floats]:
        """Return the boxes (n, 4) of every image, in the same order."""
        return [boxes for part in self._parts() for boxes in part.boxes]

    def _parts(self) -> list[FrameSet]:
        return [part for part in (self.fit, self.held_out, self.test) if part is not None]


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """All that one run reads. digest: SHA-256 over images and boxes.

    crops: None for a recipe that has only a detector.
    """

    crops: CropData | None
    frames: FrameData | None
    digest: str


def load_data(recipe: Recipe, data: Path | None, work: Path, report: Report) -> TrainingData:
    """List the images of a recipe; a simulated herd is drawn into `work` first.

    data: the folder that the recipe's paths are relative to. Raises DataError for what cannot be
    trained on, UsageError without a folder where one is needed.
    """
    crops: CropData | None = None
    frames: FrameData | None = None
    if recipe.data.herd is not None:
        crops, frames = _herd(recipe.data.herd, recipe, work, report)
        if recipe.embedder is None:
            crops = None
    else:
        if data is None:
            raise UsageError(f"recipe {recipe.name!r} needs --data DIR, the folder of its images")
        if not data.is_dir():
            raise UsageError(f"{data}: no such folder (--data)")
        if recipe.data.crops is not None:
            crops = _crops(recipe.data.crops, data, recipe.seed)
        if recipe.data.frames is not None and recipe.detector is not None:
            frames = _frames(recipe.data.frames, data, recipe.seed)
    paths: list[Path] = []
    if crops is not None:
        check_trainable(crops.fit)
        if not len(crops.held_out):
            raise DataError(
                "no session can be held out for validation: every animal has crops of one session "
                "only; name files <session>_<frame>.jpg and give each animal at least two sessions"
            )
        paths += crops.all_paths()
    if frames is not None:
        paths += frames.all_paths()
    # A broken file is told now, and not after the training.
    for path in paths:
        load_image(path)
    return TrainingData(crops, frames, digest(paths, frames.all_boxes() if frames else []))


def herd_options(recipe: Recipe) -> HerdOptions:
    """Return the pen whose animals the bundle will know; all its sessions share it."""
    source = recipe.data.herd
    if source is None:
        raise UsageError(f"recipe {recipe.name!r} simulates no herd")
    return HerdOptions(animals=source.animals, seed=recipe.seed, fps=source.fps, video=False)


def _crops(source: CropsSource, data: Path, seed: int) -> CropData:
    train = read_crops(data / source.train)
    check_trainable(train)
    fit, held_out = split_crops(
        train, source.held_out, seed, source.split, force=source.force_frame_split
    )
    gallery = read_crops(data / source.newcomer_gallery) if source.newcomer_gallery else None
    query = read_crops(data / source.newcomer_query) if source.newcomer_query else None
    unknown = read_crops(data / source.unknown) if source.unknown else query
    test = read_crops(data / source.test) if source.test else None
    for name, crops in (("test", test), ("newcomer query", query)):
        known = set((gallery if crops is query and gallery else train).animals)
        strangers = sorted(set(crops.animals) - known) if crops else []
        if strangers:
            raise DataError(f"{name} animal {strangers[0]!r} has no crops to know it from")
    for name, crops in (("newcomer", gallery), ("unknown", unknown)):
        both = sorted(set(crops.animals) & set(train.animals)) if crops else []
        if both:
            raise DataError(f"{name} animal {both[0]!r} is among those to train on")
    negatives = read_strangers(data / source.negatives) if source.negatives else None
    by_frame = source.split == "frame" or (source.split == "session" and without_session(train))
    warnings = [FRAME_SPLIT_WARNING] if by_frame else []
    try:
        check_animals((*train.animals, *(gallery.animals if gallery else ())))
    except UsageError as error:
        warnings.append(f"devices will refuse the class means: {error}")
    if test is None:
        warnings.append(
            "there are no test crops: the figures come from the held-out sessions, on which the "
            "best step, the thresholds and the numbers of prototypes were chosen"
        )
    for name, seen, asked in (("test", train, test), ("newcomer query", gallery, query)):
        both = shared_sessions(seen, asked) if seen and asked else []
        if both:
            warnings.append(
                f"{len(both)} sessions of the {name} crops are also on the other side ({both[0]}): "
                "near-duplicate frames make every figure too good"
            )
    return CropData(fit, fit, held_out, test, unknown, gallery, query, negatives, tuple(warnings))


def _frames(source: FramesSource, data: Path, seed: int) -> FrameData:
    images = data / source.images if source.images else None
    train = read_frames(data / source.train, images=images)
    test = None
    warnings = []
    if source.test is not None:
        # Classes go by name: a file may lack one, or list them in another order.
        test = read_frames(data / source.test, images=images).with_classes(train.class_names)
    elif source.test_every is not None:
        train, test = split_every(train, source.test_every, force=source.force_frame_split)
    if test is not None:
        same = {path.resolve() for path in train.paths} & {path.resolve() for path in test.paths}
        if same:
            raise DataError(f"{min(same)}: is to be trained on and is a test frame as well")
        if both := sessions_in_both(train, test):
            warnings.append(
                f"{len(both)} sessions of the test frames are trained on ({both[0]}): "
                "near-duplicate frames make the detector's figures too good"
            )
    else:
        warnings.append(
            "there are no test frames: the detector's figures come from the held-out frames, on "
            "which its best step and its score threshold were chosen"
        )
    if unnamed_frames(train):
        warnings.append(UNNAMED_WARNING)
    fit, held_out = _split_frames(train, source.held_out, seed, force=source.force_frame_split)
    return FrameData(fit, held_out, test, tuple(warnings))


def _split_frames(
    frames: FrameSet, fraction: float, seed: int, *, force: bool = False
) -> tuple[FrameSet, FrameSet]:
    """Hold out about `fraction` of the frames by whole sessions; one session is cut at its end.

    force: also where names give no session (see `split_frames`).
    """
    if len(set(frames.sessions)) > 1:
        return split_frames(frames, fraction, seed, force=force)
    if len(frames) < 2:
        raise DataError(f"{len(frames)} annotated frame cannot be split; annotate some more")
    # A file may list them in any order.
    order = sorted(range(len(frames)), key=lambda row: natural(frames.paths[row].as_posix()))
    count = min(len(frames) - 1, max(1, round(fraction * len(frames))))
    held = np.zeros(len(frames), bool)
    held[order[-count:]] = True
    return frames.select(~held), frames.select(held)


def _herd(
    source: HerdSource, recipe: Recipe, work: Path, report: Report
) -> tuple[CropData, FrameData]:
    """Draw the pens: the herd's own, others to learn from, and strangers."""
    own = herd_options(recipe)
    pens: list[tuple[str, HerdOptions]] = [
        ("herd", _with_sessions(own, source, range(source.sessions))),
        ("test", _with_sessions(own, source, [TEST_SEED], source.test_cameras)),
    ]
    for number in range(1, source.other_pens + 1):
        options = HerdOptions(
            animals=source.animals,
            seed=recipe.seed + 100 * number,
            fps=source.fps,
            video=False,
            first_number=source.animals * number + 1,
        )
        pens.append((f"other{number}", _with_sessions(options, source, range(source.sessions))))
    strangers = HerdOptions(
        animals=source.unknown_animals,
        seed=recipe.seed + 50,
        fps=source.fps,
        video=False,
        first_number=source.animals * (source.other_pens + 1) + 1,
    )
    pens.append(("strangers", _with_sessions(strangers, source, [0, TEST_SEED])))
    for number, (name, options) in enumerate(pens):
        simulate(work / name, options, _part(report, number, len(pens), name))

    herd = read_crops(work / "herd" / "crops")
    others = [read_crops(work / f"other{n}" / "crops") for n in range(1, source.other_pens + 1)]
    herd_fit, held_out = split_by_session(herd, source.held_out, recipe.seed)
    strange = read_crops(work / "strangers" / "crops")
    late = np.array([session.endswith(f"-{TEST_SEED}") for session in strange.sessions])
    crops = CropData(
        _joined([herd_fit, *others]),
        herd_fit,
        held_out,
        read_crops(work / "test" / "crops"),
        strange.select(late),
        strange.select(~late).without_empty(),
        strange.select(late).without_empty(),
    )
    trained = [read_coco(work / name / "annotations.json") for name, _ in pens if name != "test"]
    frames = joined_frames(trained)
    if source.held_out_cameras:
        held = np.array([_camera(name) in source.held_out_cameras for name in frames.sessions])
        fit, frames_held = frames.select(~held), frames.select(held)
    else:
        fit, frames_held = _split_frames(frames, source.held_out, recipe.seed)
    return crops, FrameData(fit, frames_held, read_coco(work / "test" / "annotations.json"))


def _camera(session: str) -> int:
    found = _CAMERA.search(session)
    assert found is not None, session
    return int(found[1])


def _with_sessions(
    options: HerdOptions,
    source: HerdSource,
    seeds: Iterable[int],
    cameras: Sequence[int] | None = None,
) -> HerdOptions:
    plans = [
        SessionPlan(
            name=f"cam{camera}-{light}-{seed}",
            camera=camera,
            light=light,  # type: ignore[arg-type]
            # Cameras film at different times: a split by session then shares no moment.
            seed=1000 * _stretch(index, camera) + seed,
            frames=source.frames,
        )
        for seed in seeds
        for index, light in enumerate(_LIGHTS)
        for camera in cameras or source.cameras
    ]
    return replace(options, sessions=tuple(plans), crop_every=1, frame_every=1)


def _stretch(light: int, camera: int) -> int:
    """Return a number of its own for each light and camera."""
    return 2 * light + camera if camera <= 2 else 10 * camera + light


def _part(report: Report, number: int, count: int, name: str) -> Report:
    """Return a Report that fills its share of one bar."""
    if report is silent:
        return silent

    def inner(done: int, total: int, note: str = "") -> None:
        share = done / max(1, total)
        report(round(1000 * (number + share) / count), 1000, f"pen {name}")

    return inner


def _joined(parts: list[CropSet]) -> CropSet:
    """Return the crops of several pens, whose animals have ids of their own."""
    animals = tuple(sorted({animal for part in parts for animal in part.names()}))
    index = {animal: label for label, animal in enumerate(animals)}
    labels = np.array([index[name] for part in parts for name in part.names()], np.int32)
    return CropSet(
        tuple(path for part in parts for path in part.paths),
        animals,
        labels,
        # Two pens' sessions of the same name are not one stretch of time.
        tuple(f"{n}/{session}" for n, part in enumerate(parts) for session in part.sessions),
    )


def digest(paths: list[Path], boxes: list[Floats]) -> str:
    """Return a hash of the images (their last two folders, names and bytes) and of the boxes."""
    hashed = hashlib.sha256()
    for path in paths:
        hashed.update("/".join(path.parts[-3:]).encode() + b"\0")
        hashed.update(hashlib.sha256(path.read_bytes()).digest())
    for rows in boxes:
        hashed.update(rows.astype("<f4").tobytes() + b"\0")
    return hashed.hexdigest()
