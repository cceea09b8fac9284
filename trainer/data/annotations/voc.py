"""Pascal VOC: one XML file an image.

A folder with the XML files in it, or in `annotations` beside `images`, or in `Annotations` beside
`JPEGImages`. An image is found by `<filename>`, or else by the XML file's own name; `<folder>` and
`<path>` name places on the labeller's machine and are passed over.

The devkit counts pixels from 1 and includes the last one, while many tools write other numbers
under the same names: labelImg and its heirs round, CVAT and Roboflow write floats from 0. Nothing
in a file tells which. The numbers are taken as they are, as most converters to COCO do: half a
pixel matters to nobody's labels, and boxes go from format to format without creeping.

Beside the format's own elements `<session>` may stand in an annotation and `<animal>` in an object
(other readers ignore them), or an attribute of that name in CVAT's `<attributes>`.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from edge.errors import DataError
from trainer.data.annotations.markup import document, parse, text_of
from trainer.data.annotations.placed import PlacedFrame, number
from trainer.data.annotations.raw import (
    ANIMAL_KEYS,
    Problem,
    RawBox,
    RawFrame,
    RawFrames,
    animal_of,
    declared_size,
    is_file,
    problem_of,
)
from trainer.data.crops import SUFFIXES

_LAYOUTS = (("annotations", "images"), ("Annotations", "JPEGImages"), ("Annotations", "images"))
_SIDES = ("xmin", "ymin", "xmax", "ymax")


def folders(source: Path) -> tuple[Path, Path] | None:
    """Return the folders of XML files and of images that `source` means, or None."""
    for labels, images in _LAYOUTS:
        if (source / labels).is_dir():
            return source / labels, source / images if (source / images).is_dir() else source
    if not any(source.glob("*.xml")):
        return None
    for labels, images in _LAYOUTS:
        if source.resolve().name == labels and (source.parent / images).is_dir():
            return source, source.parent / images
    return source, source


def read(source: Path, images: Path | None = None) -> RawFrames:
    """Return what a folder of VOC files says; one that is broken is a problem, and the rest read.

    images: the folder of the images, None for the layout's own.
    """
    places = folders(source) if source.is_dir() else None
    if places is None:
        raise DataError(f"{source}: no folder with Pascal VOC files (*.xml) in it")
    labels, own_images = places
    folder = own_images if images is None else images
    files = sorted(path for path in labels.glob("*.xml") if not path.name.startswith("."))
    if not files:
        raise DataError(f"{labels}: no Pascal VOC files (*.xml) in it")
    stems = {path.stem: path for path in _images(folder)}
    frames: list[RawFrame] = []
    problems: list[Problem] = []
    for path in files:
        try:
            root = parse(path, "a Pascal VOC file", "annotation")
        except DataError as error:
            problems.append(problem_of("broken file", path, error))
            continue
        frames.append(_frame(path, root, folder, stems, problems))
    names = sorted({box.class_name for frame in frames for box in frame.boxes})
    return RawFrames(source, folder, tuple(names), tuple(frames), tuple(problems), by_boxes=True)


def write(frames: list[PlacedFrame], class_names: tuple[str, ...], folder: Path) -> None:
    """Write an XML file for each frame into `annotations`, images being in `images`."""
    (folder / "annotations").mkdir()
    for frame in frames:
        root = Element("annotation")
        SubElement(root, "folder").text = "images"
        SubElement(root, "filename").text = Path(frame.name).name
        SubElement(root, "session").text = frame.session
        size = SubElement(root, "size")
        for name, pixels in (("width", frame.width), ("height", frame.height), ("depth", 3)):
            SubElement(size, name).text = str(pixels)
        SubElement(root, "segmented").text = "0"
        for box in frame.boxes:
            entry = SubElement(root, "object")
            SubElement(entry, "name").text = box.class_name
            SubElement(entry, "pose").text = "Unspecified"
            SubElement(entry, "truncated").text = "0"
            SubElement(entry, "difficult").text = "0"
            if box.animal is not None:
                SubElement(entry, "animal").text = box.animal
            corners = SubElement(entry, "bndbox")
            for side, value in zip(_SIDES, box.corners, strict=True):
                SubElement(corners, side).text = number(value)
        (folder / "annotations" / f"{Path(frame.name).stem}.xml").write_bytes(document(root))


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of images")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _frame(
    path: Path, root: Element, folder: Path, stems: dict[str, Path], problems: list[Problem]
) -> RawFrame:
    name = text_of(root, "filename").replace("\\", "/") or path.stem
    image = folder / name
    if not is_file(image) and path.stem in stems:
        image = stems[path.stem]
        name = image.name
    boxes = []
    for row, entry in enumerate(root.iterfind("object"), 1):
        where = f"{path}: object {row}"
        try:
            boxes.append(_box(entry, where))
        except ValueError as error:
            problems.append(Problem("broken file", where, str(error)))
    return RawFrame(
        name,
        image,
        _size(root, path, problems),
        text_of(root, "session") or None,
        tuple(boxes),
        str(path),
    )


def _box(entry: Element, where: str) -> RawBox:
    """Return an object's box; ValueError says what is missing."""
    # The direct child: a <part> of a person has a box of its own.
    frame = entry.find("bndbox")
    if frame is None:
        raise ValueError("has no <bndbox>; expected one with xmin, ymin, xmax and ymax")
    corners = []
    for side in _SIDES:
        text = text_of(frame, side)
        try:
            corners.append(float(text))
        except ValueError:
            raise ValueError(f"its <{side}> is {text[:40]!r}, not a number") from None
    name = text_of(entry, "name")
    if not name:
        raise ValueError("has no <name>; expected its class there")
    named = {key: text_of(entry, key) for key in ANIMAL_KEYS}
    for attribute in entry.iterfind("attributes/attribute"):
        key = text_of(attribute, "name")
        named[key] = named.get(key) or text_of(attribute, "value")
    x1, y1, x2, y2 = corners
    return RawBox((x1, y1, x2, y2), name, animal_of(named), where)


def _size(root: Element, path: Path, problems: list[Problem]) -> tuple[int, int] | None:
    texts = text_of(root, "size/width"), text_of(root, "size/height")
    if not any(texts):
        return None
    try:
        width, height = (int(float(text)) for text in texts)
    except (ValueError, OverflowError):
        shown = " x ".join(repr(text[:40]) for text in texts)
        message = f"its size is {shown}, not whole numbers"
        problems.append(Problem("broken file", str(path), message))
        return None
    return declared_size(width, height)
