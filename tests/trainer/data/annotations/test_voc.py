"""Pascal VOC, as the devkit's own examples, labelImg and CVAT write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainer.data.annotations import read_frames

KANGAROO = Path(__file__).parents[5] / "shared" / "data" / "kangaroo"

# By the devkit: a person with a part, whose own box is none of the image's.
DEVKIT = """
<annotation>
  <folder>VOC2007</folder>
  <filename>000001.png</filename>
  <source><database>The VOC2007 Database</database></source>
  <size><width>40</width><height>20</height><depth>3</depth></size>
  <segmented>0</segmented>
  <object>
    <name>person</name><pose>Left</pose><truncated>1</truncated><difficult>0</difficult>
    <part><name>head</name>
      <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>
    <bndbox><xmin>8</xmin><ymin>12</ymin><xmax>35</xmax><ymax>20</ymax></bndbox>
  </object>
  <object>
    <name>dog</name><difficult>1</difficult>
    <bndbox><xmax>19</xmax><ymax>7</ymax><xmin>4.5</xmin><ymin>2.25</ymin></bndbox>
  </object>
</annotation>
"""
# By labelImg: where it lay on the labeller's machine.
LABELIMG = """<annotation verified="yes">
  <folder>pigs</folder><filename>cam1_7.png</filename><path>C:\\pigs\\cam1_7.png</path>
  <size><width>40</width><height>20</height><depth>3</depth></size>
  <object><name>pig</name>
    <bndbox><xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>20</ymax></bndbox></object>
</annotation>
"""


def voc(objects: str = "", name: str = "a.png", size: str = "") -> str:
    return f"<annotation><filename>{name}</filename>{size}{objects}</annotation>"


def thing(xmin: Any, ymin: Any, xmax: Any, ymax: Any, more: str = "") -> str:
    return (
        f"<object><name>pig</name>{more}<bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
        f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox></object>"
    )


@pytest.mark.parametrize(
    ("labels", "images"),
    [(".", "."), ("annotations", "images"), ("Annotations", "JPEGImages")],
)
def test_files_of_two_tools_in_each_layout(
    tmp_path: Path, picture: Any, labels: str, images: str
) -> None:
    for name in ("000001.png", "cam1_7.png"):
        picture(tmp_path / images / name)
    (tmp_path / labels).mkdir(exist_ok=True)
    (tmp_path / labels / "000001.xml").write_text(DEVKIT)
    (tmp_path / labels / "cam1_7.xml").write_text(LABELIMG)
    frames = read_frames(tmp_path)
    assert frames.class_names == ("dog", "person", "pig")
    assert frames.sessions == ("000001", "cam1")
    # Numbers are taken as they are: pixels from 1 are not shifted, nothing tells them apart.
    np.testing.assert_array_equal(frames.boxes[0], [[8, 12, 35, 20], [4.5, 2.25, 19, 7]])
    np.testing.assert_array_equal(frames.classes[0], [1, 0])
    np.testing.assert_array_equal(frames.boxes[1], [[1, 1, 40, 20]])
    # The folder of the XML files means the same, and so does naming both.
    assert read_frames(tmp_path / labels, images=tmp_path / images).paths == frames.paths
    if labels != ".":
        assert read_frames(tmp_path / labels).paths == frames.paths


def test_an_image_is_found_by_the_name_of_its_xml_file(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "sub" / "b.png")
    (tmp_path / "a.xml").write_text(voc(thing(1, 1, 5, 5), "moved.jpg"))
    (tmp_path / "b.xml").write_text(voc(thing(1, 1, 5, 5), "sub\\b.png"))
    assert read_frames(tmp_path).paths == (tmp_path / "a.png", tmp_path / "sub" / "b.png")


def test_sessions_and_animals(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "a.png")
    cvat = (
        "<attributes><attribute><name>occluded</name><value>0</value></attribute>"
        "<attribute><name>animal_id</name><value>12</value></attribute></attributes>"
    )
    objects = (
        thing(1, 1, 5, 5, "<animal>cow 4</animal>") + thing(2, 2, 9, 9, cvat) + thing(3, 3, 9, 9)
    )
    text = voc("<session>barn-2</session>" + objects)
    (tmp_path / "a.xml").write_text(text)
    frames = read_frames(tmp_path)
    assert frames.sessions == ("barn-2",)
    assert frames.animals == (("cow 4", "12", None),)


def test_a_size_of_zero_is_none(tmp_path: Path, picture: Any, refused: Any) -> None:
    picture(tmp_path / "a.png")
    zero = "<size><width>0</width><height>0</height></size>"
    (tmp_path / "a.xml").write_text(voc(thing(1, 1, 40, 20), size=zero))
    assert len(read_frames(tmp_path).boxes[0]) == 1
    (tmp_path / "a.xml").write_text(voc(thing(1, 1, 42, 20), size=zero))
    assert "reaches outside a.png (40x20 pixels)" in refused(tmp_path)


BOMB = (
    '<!DOCTYPE annotation [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
    '<!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;&b;&b;">]>'
    "<annotation><filename>&c;</filename></annotation>"
)
FILE = (
    '<!DOCTYPE annotation [<!ENTITY a SYSTEM "file:///etc/hostname">]><annotation>&a;</annotation>'
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a Pascal VOC file: no element found"),
        (DEVKIT[:300].strip(), "not a Pascal VOC file: unclosed token"),
        ("<annotation><object></annotation>", "not a Pascal VOC file: mismatched tag"),
        (b"\xff\xd8\xff\xe0JFIF", "not a Pascal VOC file: not well-formed"),
        (b"<?xml version='1.0' encoding='klingon'?><annotation/>", "not a Pascal VOC file"),
        (b"<annotation>\xff</annotation>", "not a Pascal VOC file: not well-formed"),
        ("<annotations/>", "its root element is <annotations>, not <annotation>"),
        (BOMB, "line 1: it declares a document type"),
        (FILE, "line 1: it declares a document type"),
        ("<annotation>" + "<a>" * 50_000, "nested deeper than 32"),
        (voc("<object><name>pig</name></object>"), "object 1: has no <bndbox>"),
        (voc(thing(1, 1, 5, 5).replace("pig", "")), "object 1: has no <name>"),
        (voc(thing(1, 1, 5, "")), "object 1: its <ymax> is '', not a number"),
        (voc(thing(1, "0x5", 5, 9)), "its <ymin> is '0x5', not a number"),
        (
            voc(thing(1, 1, 5, 5) + thing(1, "nan", 5, 9)),
            "object 2: box [1, nan, 5, 9] has numbers",
        ),
        (voc(thing(1, 1, "inf", 9)), "not finite"),
        (voc(thing(1, 1, "1e400", 9)), "not finite"),
        (voc(thing(5, 1, 5, 9)), "object 1: box [5, 1, 5, 9] has no area"),
        (voc(thing(9, 1, 5, 9)), "has no area"),
        (voc(thing(1, 1, 50, 9)), "reaches outside a.png (40x20 pixels)"),
        (
            voc(thing(1, 1, 5, 9), size="<size><width>wide</width></size>"),
            "its size is 'wide' x ''",
        ),
        (
            voc(thing(1, 1, 5, 9), size="<size><width>1e999</width><height>2</height></size>"),
            "its size is '1e999'",
        ),
        (voc(thing(1, 1, 5, 5), "../../secret.png"), "image '../../secret.png' leads out of"),
        (voc(thing(1, 1, 5, 5), "/etc/hostname"), "leads out of"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    tmp_path: Path, picture: Any, refused: Any, content: str | bytes, message: str
) -> None:
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "annotations").mkdir()
    # Not the image's own name: names that lead out are not mended by it.
    path = tmp_path / "annotations" / "x.xml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    told = refused(tmp_path, format="voc")
    assert message in told
    assert told.startswith(str(path))


def test_missing_things(tmp_path: Path, picture: Any, refused: Any) -> None:
    (tmp_path / "annotations").mkdir()
    assert "no Pascal VOC files" in refused(tmp_path, format="voc")
    (tmp_path / "annotations" / "a.xml").write_text(voc(thing(1, 1, 5, 5)))
    assert "image 'a.png' is not in" in refused(tmp_path)
    assert "no such folder" in refused(tmp_path, images=tmp_path / "none")
    assert "no folder with Pascal VOC files" in refused(tmp_path / "none", format="voc")
    picture(tmp_path / "a.png").write_bytes(b"no picture")
    assert "a.png: not an image that can be read" in refused(tmp_path)


@pytest.mark.skipif(not KANGAROO.is_dir(), reason=f"needs the photographs in {KANGAROO}")
def test_the_kangaroos() -> None:
    frames = read_frames(KANGAROO)
    assert len(frames) == 164
    assert sum(map(len, frames.boxes)) == 266
    assert frames.class_names == ("kangaroo",)
    np.testing.assert_array_equal(frames.boxes[0], [[233, 89, 386, 262], [134, 105, 341, 253]])
