"""The formats by name: which one a path is in, reading it, and writing it anew."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from edge.errors import DataError, UsageError
from edge.files import new_directory
from trainer.data.annotations import coco, cvat, cvat_write, psrg, voc, yolo
from trainer.data.annotations.markup import root_tag
from trainer.data.annotations.placed import PlacedBox, PlacedFrame
from trainer.data.annotations.raw import RawFrames, whole
from trainer.data.annotations.sessions import frame_of, nameless
from trainer.data.annotations.sizes import image_size
from trainer.data.annotations.validate import strict
from trainer.data.crops import session_of
from trainer.data.frames import FrameSet
from trainer.progress import Report, silent

Format = Literal["coco", "voc", "yolo", "cvat", "psrg"]
FORMATS: tuple[Format, ...] = get_args(Format)
WRITABLE = ("coco", "voc", "yolo", "cvat")
_WRITERS = {"coco": coco.write, "voc": voc.write, "yolo": yolo.write, "cvat": cvat_write.write}
# These have no list of classes.
_BY_BOXES = ("voc",)
# What else is in a file's name would need care in some format or on some system.
_UNSAFE = re.compile(r"[^\w.+-]+")
_IMAGES = "images"


def split_part(source: Path) -> tuple[Path, str | None]:
    """Return a path and the part of it that is meant: `data.yaml#val` means the images of `val`.

    What is there under its whole name, `pens#2`, is meant itself.
    """
    if source.exists():
        return source, None
    stem, mark, part = source.name.rpartition("#")
    return (source.with_name(stem), part) if mark and stem and part else (source, None)


def detect(source: Path) -> Format:
    """Return the format of a file or folder; UsageError where that cannot be told."""
    path, _ = split_part(source)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder of annotations")
    if path.is_dir():
        return _of_folder(path)
    match path.suffix.lower():
        case ".json":
            return "coco"
        case ".yaml" | ".yml":
            return "yolo"
        case ".mat":
            return "psrg"
        case ".xml":
            # A broken one is told by the reader that it was most likely meant for.
            if root_tag(path) == "annotation":
                raise UsageError(f"{path}: is one Pascal VOC file; name the folder of them instead")
            return "cvat"
    raise UsageError(
        f"{path}: not known as annotations by its name (.json, .xml, .yaml, .mat); "
        f"name its format ({', '.join(FORMATS)})"
    )


def read_raw(
    source: Path,
    format: Format | None = None,
    images: Path | None = None,
    every: int | None = None,
) -> RawFrames:
    """Return what annotations say, unchecked. Arguments as of `read_frames`.

    every: frames are still to be taken from videos, every so many (see `video.extract`).
    """
    path, part = split_part(source)
    kind = detect(source) if format is None else format
    if part is not None and kind != "yolo":
        raise UsageError(f"{source}: only a YOLO data.yaml has parts (#train, #val, #test)")
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: no such folder of images")
    if every is not None and kind not in ("cvat", "psrg"):
        raise UsageError(f"{path}: is {kind}, which annotates images; it needs no --video")
    match kind:
        case "coco":
            return coco.read(_file(path, coco.ANNOTATIONS_NAME, "*.json"), images)
        case "voc":
            return voc.read(path, images)
        case "yolo":
            return yolo.read(_file(path, yolo.DATA_NAME, "data*.y*ml"), images, part)
        case "cvat":
            return cvat.read(_file(path, cvat_write.ANNOTATIONS_NAME, "*.xml"), images, every)
        case "psrg":
            return psrg.read(path, images, every)


def read_frames(source: Path, format: Format | None = None, images: Path | None = None) -> FrameSet:
    """Read and check annotated frames.

    source: a COCO file, a folder of Pascal VOC files, a YOLO `data.yaml` (`data.yaml#val` for one
    of its parts), a CVAT XML file, a `LocationSelected.mat`, or a folder with one of these in it.
    format: None to tell by the path. images: folder that image names are relative to and may not
    lead out of; None for the format's own place. Raises DataError, one line that names the file
    and the place, for the first thing that is wrong.
    """
    return strict(read_raw(source, format, images))


def write_frames(
    frames: FrameSet, out: Path, format: Format, *, link: bool = False, report: Report = silent
) -> tuple[str, ...]:
    """Write frames as a new folder in one of the WRITABLE formats; return what it cannot hold.

    Images go into `images`, copied as they are or hard-linked, under names of their own that begin
    with the session (`<session>_<frame>`), so that no format loses it. Read back, the boxes are
    the same to the last bit of float32. Raises DataError for an image that cannot be read, or is
    smaller than its boxes say, or for frames without any class in a format that must list one;
    UsageError where `out` exists. Then nothing is left behind.
    """
    if format not in _WRITERS:
        raise UsageError(f"{format} cannot be written; choose one of {', '.join(WRITABLE)}")
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out}: exists already; choose another --out")
    if not frames.class_names and format not in _BY_BOXES:
        raise DataError(
            f"the frames have no boxes and name no class, and {format} must list one: annotate an "
            f"animal, or write {' or '.join(_BY_BOXES)}"
        )
    with new_directory(out) as folder:
        (folder / _IMAGES).mkdir()
        placed: list[PlacedFrame] = []
        names = image_names(frames)
        for row, (path, name) in enumerate(zip(frames.paths, names, strict=True)):
            _put(path, folder / _IMAGES / name, link)
            placed.append(place(frames, row, f"{_IMAGES}/{name}"))
            report(row + 1, len(frames))
        _WRITERS[format](placed, frames.class_names, folder)
    return _lost(frames, names, format)


def _lost(frames: FrameSet, names: Sequence[str], format: Format) -> tuple[str, ...]:
    """Return a line for each thing that a format cannot hold. names: of the images, as written."""
    notes = []
    used = {int(label) for labels in frames.classes for label in labels}
    unused = [repr(name) for row, name in enumerate(frames.class_names) if row not in used]
    if format in _BY_BOXES and unused:
        notes.append(
            f"{format.upper()} has classes by their boxes only: {', '.join(unused)} without any "
            f"{'is' if len(unused) == 1 else 'are'} left out"
        )
    if format == "yolo" and any(name is not None for names in frames.animals for name in names):
        notes.append("YOLO has no room for animals' ids: they are left out")
    if format == "yolo" and any(
        session_of(Path(name)) != session
        for name, session in zip(names, frames.sessions, strict=True)
    ):
        notes.append("YOLO has sessions in file names only: some are written a little differently")
    return tuple(notes)


def place(frames: FrameSet, row: int, name: str) -> PlacedFrame:
    """Return one frame as writers take it, with its image's true size."""
    width, height = image_size(frames.paths[row])
    boxes = frames.boxes[row]
    if len(boxes) and (boxes[:, 2].max() > width or boxes[:, 3].max() > height):
        raise DataError(
            f"{frames.paths[row]}: has {width}x{height} pixels and boxes outside of them; "
            "was it annotated at another size?"
        )
    return PlacedFrame(
        name,
        width,
        height,
        frames.sessions[row],
        tuple(
            PlacedBox((x1, y1, x2, y2), frames.class_names[label], animal)
            for (x1, y1, x2, y2), label, animal in zip(
                boxes.tolist(), frames.classes[row], frames.animals[row], strict=True
            )
        ),
    )


def image_names(frames: FrameSet) -> tuple[str, ...]:
    """Return a name for each image such that stems are unique and `session_of` gives the session.

    A name that does already stays as it is. What file systems and formats stumble over becomes `-`.
    """
    taken: set[str] = set()
    names = []
    for path, session in zip(frames.paths, frames.sessions, strict=True):
        stem = _UNSAFE.sub("-", path.stem)
        if nameless(path, session):
            # It is to stay a frame without a session, of whichever folder.
            stem = _UNSAFE.sub("-", session).replace("_", "-")
        elif session_of(path) != session:
            frame = _UNSAFE.sub("-", frame_of(path, session))
            stem = f"{_UNSAFE.sub('-', session)}_{frame.replace('_', '-')}"
        unique, number = stem, 2
        while unique.lower() in taken:
            unique, number = f"{stem}-{number}", number + 1
        taken.add(unique.lower())
        names.append(unique + path.suffix.lower())
    return tuple(names)


def _put(source: Path, target: Path, link: bool) -> None:
    if link:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:
            # Another disk, or one without hard links.
            pass
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise DataError(f"{source}: cannot be copied: {error.strerror}") from error


def _of_folder(path: Path) -> Format:
    """Return the format of what lies in a folder; UsageError unless there is exactly one."""
    found: list[Format] = []
    documents = [file for file in path.glob("*.xml") if root_tag(file) == "annotations"]
    if _named(path, yolo.DATA_NAME, "data*.y*ml"):
        found.append("yolo")
    if documents:
        found.append("cvat")
    elif voc.folders(path) is not None:
        found.append("voc")
    if (path / f"{psrg.LOCATIONS}.mat").is_file():
        found.append("psrg")
    if _named(path, coco.ANNOTATIONS_NAME, "*.json"):
        found.append("coco")
    if len(found) != 1:
        what = f"annotations as {' and '.join(found)}" if found else "no annotations that are known"
        raise UsageError(f"{path}: holds {what}; name the file, or its format")
    return found[0]


def _named(folder: Path, name: str, pattern: str) -> list[Path]:
    """Return the file of that name, or those that match the pattern."""
    own = folder / name
    return [own] if own.is_file() else sorted(folder.glob(pattern))


def _file(path: Path, name: str, pattern: str) -> Path:
    """Return the file that is meant by itself or by its folder."""
    if not path.is_dir():
        return path
    found = _named(path, name, pattern)
    if len(found) != 1:
        what = f"{len(found)} files {pattern}" if found else f"no {name}"
        raise UsageError(f"{path}: holds {what}; name the file instead of its folder")
    return found[0]


def common_root(paths: Sequence[Path], wish: Path) -> Path:
    """Return the folder that all paths lie in: `wish` if they do, or else their deepest one."""
    if all(whole(path).is_relative_to(whole(wish)) for path in paths):
        return whole(wish)
    return Path(os.path.commonpath([whole(path).parent for path in paths]))
