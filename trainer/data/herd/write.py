"""A simulated herd on disk: videos, frames, boxes, tracks and identity crops, all of one truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edge.errors import EarmarkError
from edge.files import new_directory, write_atomically
from edge.video import write_video
from edge.vision.geometry import clip_boxes
from edge.vision.types import Floats, Image
from trainer.data.herd.options import HerdOptions, SessionPlan
from trainer.data.herd.render import Herd, SimulatedFrame
from trainer.progress import Report, silent

# Crops are of animals that a detector would find whole enough to name.
_CROP_VISIBILITY = 0.6
_CROP_JITTER = 0.035
_FRAME_QUALITY = 92
_CROP_QUALITY = 93


def simulate(out: Path, options: HerdOptions, report: Report = silent) -> None:
    """Draw a herd's sessions into the new folder `out`, which appears whole or not at all.

    videos/<session>.mp4, frames/<session>/<index>.jpg, annotations.json (COCO, boxes with
    animal_id, track_id, visibility), mot/<session>/{gt/gt.txt, gt/names.csv, seqinfo.ini}
    (MOTChallenge, and a line `id,name` an animal), crops/<animal>/<session>_<frame>.jpg,
    herd.json. Raises UsageError and DataError as `Herd`.
    """
    herd = Herd(options)
    plans = options.plans()
    total = sum(plan.frames for plan in plans)
    with new_directory(out) as folder:
        coco = _Coco()
        done = 0
        for plan in plans:
            session = _Session(folder, options, plan, coco)
            images = _reported(session.written(herd.render(plan)), report, done, total, plan.name)
            if options.video:
                write_video(folder / "videos" / f"{plan.name}.mp4", images, options.fps)
            else:
                for _ in images:
                    pass
            session.finish()
            done += plan.frames
        _write_json(folder / "annotations.json", coco.document())
        _write_json(folder / "herd.json", _describe(herd))


def write_clip(
    out_video: Path,
    out_truth: Path,
    herd: Herd,
    plan: SessionPlan,
    report: Report = silent,
    *,
    crf: int = 27,
) -> None:
    """Write one session as a video and its truth: whole-pixel boxes of every frame.

    crf: of the video, lower is better (see `write_video`).

    The truth's `boxes` rows are frame, index into `animals`, x1, y1, x2, y2 (exclusive) and how
    many per cent of the animal can be seen. Raises as `Herd.render` and `write_video`.
    """
    index = {animal: number for number, animal in enumerate(herd.animals)}
    rows: list[list[int]] = []

    def images() -> Iterator[Image]:
        for frame in herd.render(plan):
            for animal, box, share in zip(
                frame.animals, frame.boxes, frame.visibility, strict=True
            ):
                x1, y1, x2, y2 = (int(value) for value in box)
                rows.append([frame.index, index[animal], x1, y1, x2, y2, round(100 * float(share))])
            yield frame.image

    temporary = out_video.with_name(f".{out_video.stem}.part.mp4")
    options = herd.options
    drawn = _reported(images(), report, 0, plan.frames, plan.name)
    write_video(temporary, drawn, options.fps, crf=crf)
    truth = {
        "schema": 1,
        "video": out_video.name,
        "camera": "pen",
        "fps": options.fps,
        "width": options.width,
        "height": options.height,
        "animals": list(herd.animals),
        "boxes": rows,
    }
    try:
        write_atomically(out_truth, json.dumps(truth, separators=(",", ":")).encode() + b"\n")
        temporary.replace(out_video)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class _Coco:
    """Collects images and boxes; ids count from 1."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._boxes: list[dict[str, Any]] = []

    def add(self, file_name: str, plan: SessionPlan, frame: SimulatedFrame) -> None:
        height, width = frame.image.shape[:2]
        image_id = len(self._images) + 1
        self._images.append(
            {
                "id": image_id,
                "file_name": file_name,
                "width": width,
                "height": height,
                "camera": f"cam{plan.camera}",
                "session": plan.name,
                "frame_index": frame.index,
            }
        )
        for animal, track, box, share in zip(
            frame.animals, frame.track_ids, frame.boxes, frame.visibility, strict=True
        ):
            x1, y1, x2, y2 = (float(value) for value in box)
            self._boxes.append(
                {
                    "id": len(self._boxes) + 1,
                    "image_id": image_id,
                    "category_id": 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                    "animal_id": animal,
                    "track_id": int(track),
                    "visibility": round(float(share), 3),
                }
            )

    def document(self) -> dict[str, Any]:
        return {
            "images": self._images,
            "annotations": self._boxes,
            "categories": [{"id": 1, "name": "animal"}],
        }


class _Session:
    """Writes all but the video of one session while its frames pass by."""

    def __init__(self, folder: Path, options: HerdOptions, plan: SessionPlan, coco: _Coco) -> None:
        self._folder, self._options, self._plan, self._coco = folder, options, plan, coco
        self._rng = np.random.default_rng([options.seed, 10, plan.seed, plan.camera])
        self._tracks: list[str] = []
        self._names: dict[int, str] = {}
        (folder / "frames" / plan.name).mkdir(parents=True)
        (folder / "crops").mkdir(exist_ok=True)

    def written(self, frames: Iterator[SimulatedFrame]) -> Iterator[Image]:
        name = self._plan.name
        for frame in frames:
            if frame.index % self._options.frame_step() == 0:
                file_name = f"frames/{name}/{frame.index:06d}.jpg"
                _write_jpeg(self._folder / file_name, frame.image, _FRAME_QUALITY)
                self._coco.add(file_name, self._plan, frame)
            if frame.index % self._options.crop_step() == 0:
                self._write_crops(frame)
            self._tracks.extend(_mot_lines(frame))
            self._names.update(zip(map(int, frame.track_ids), frame.animals, strict=True))
            yield frame.image

    def finish(self) -> None:
        """Write the tracks, as MOTChallenge wants them."""
        options, plan = self._options, self._plan
        folder = self._folder / "mot" / plan.name
        (folder / "gt").mkdir(parents=True)
        (folder / "gt" / "gt.txt").write_text("".join(self._tracks))
        names = "".join(f"{track},{animal}\n" for track, animal in sorted(self._names.items()))
        (folder / "gt" / "names.csv").write_text(f"id,name\n{names}")
        (folder / "seqinfo.ini").write_text(
            f"[Sequence]\nname={plan.name}\nimDir=img1\nframeRate={options.fps:g}\n"
            f"seqLength={plan.frames}\nimWidth={options.width}\nimHeight={options.height}\n"
            "imExt=.jpg\n"
        )

    def _write_crops(self, frame: SimulatedFrame) -> None:
        height, width = frame.image.shape[:2]
        boxes = clip_boxes(_jittered(frame.boxes, self._rng), width, height)
        for animal, box, share in zip(frame.animals, boxes, frame.visibility, strict=True):
            x1, y1 = (int(value) for value in np.floor(box[:2]))
            x2, y2 = (int(value) for value in np.ceil(box[2:]))
            if share < _CROP_VISIBILITY or x2 - x1 < 8 or y2 - y1 < 8:
                continue
            path = self._folder / "crops" / animal / f"{self._plan.name}_{frame.index:06d}.jpg"
            path.parent.mkdir(exist_ok=True)
            _write_jpeg(path, frame.image[y1:y2, x1:x2], _CROP_QUALITY)


def _jittered(boxes: Floats, rng: np.random.Generator) -> Floats:
    """Return boxes (n, 4) as a detector would draw them: each side a few per cent off."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return (boxes + sides * rng.normal(0, _CROP_JITTER, boxes.shape).clip(-0.1, 0.1)).astype(
        np.float32
    )


def _mot_lines(frame: SimulatedFrame) -> Iterator[str]:
    """MOTChallenge rows: frame from 1, id, left, top, width, height, 1, class 1, visibility."""
    for track, box, share in zip(frame.track_ids, frame.boxes, frame.visibility, strict=True):
        x1, y1, x2, y2 = (float(value) for value in box)
        yield (f"{frame.index + 1},{track},{x1:g},{y1:g},{x2 - x1:g},{y2 - y1:g},1,1,{share:.3f}\n")


def _reported(
    images: Iterator[Image], report: Report, done: int, total: int, note: str
) -> Iterator[Image]:
    for count, image in enumerate(images, 1):
        yield image
        report(done + count, total, note)


def _write_jpeg(path: Path, image: Image, quality: int) -> None:
    good, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not good:
        raise EarmarkError(f"{path}: OpenCV cannot encode this picture as JPEG")
    path.write_bytes(data.tobytes())


def _write_json(path: Path, document: dict[str, Any]) -> None:
    path.write_text(json.dumps(document, separators=(",", ":")) + "\n")


def _describe(herd: Herd) -> dict[str, Any]:
    options = asdict(herd.options)
    options["sprites"] = str(herd.options.sprites) if herd.options.sprites else None
    options["sessions"] = [asdict(plan) for plan in herd.options.plans()]
    animals: list[dict[str, Any]] = []
    for number, animal in enumerate(herd.animals):
        entry: dict[str, Any] = {"id": animal, "length_px": round(herd.builds[number].length_px, 1)}
        if herd.sheets:
            entry["sprite"] = herd.sheets[number].name
        else:
            entry["breed"] = herd.coats[number].breed
        animals.append(entry)
    return {"schema": 1, "options": options, "animals": animals}
