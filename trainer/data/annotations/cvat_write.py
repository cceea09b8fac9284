"""Writes CVAT XML 1.1 for images, as CVAT takes it back ("Upload annotations")."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, SubElement

from trainer.data.annotations.markup import document
from trainer.data.annotations.placed import PlacedFrame, number

ANNOTATIONS_NAME = "annotations.xml"
_SIDES = ("xtl", "ytl", "xbr", "ybr")


def write(frames: list[PlacedFrame], class_names: tuple[str, ...], folder: Path) -> None:
    """Write `annotations.xml`; names of images are relative to `images` beside it.

    The labels have an attribute `animal`, which CVAT shows and edits as text.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    SubElement(task, "name").text = "frames"
    SubElement(task, "size").text = str(len(frames))
    SubElement(task, "mode").text = "annotation"
    labels = SubElement(task, "labels")
    for name in class_names:
        label = SubElement(labels, "label")
        SubElement(label, "name").text = name
        attribute = SubElement(SubElement(label, "attributes"), "attribute")
        for key, value in (("name", "animal"), ("mutable", "False"), ("input_type", "text")):
            SubElement(attribute, key).text = value
        SubElement(attribute, "default_value")
        SubElement(attribute, "values")
    for row, frame in enumerate(frames):
        image = SubElement(
            root,
            "image",
            id=str(row),
            name=str(Path(frame.name).relative_to("images")),
            width=str(frame.width),
            height=str(frame.height),
            session=frame.session,
        )
        for box in frame.boxes:
            entry = SubElement(image, "box", label=box.class_name, source="manual", occluded="0")
            for side, pixels in zip(_SIDES, box.corners, strict=True):
                entry.set(side, number(pixels))
            entry.set("z_order", "0")
            if box.animal is not None:
                SubElement(entry, "attribute", name="animal").text = box.animal
    (folder / ANNOTATIONS_NAME).write_bytes(document(root))
