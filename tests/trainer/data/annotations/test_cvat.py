"""CVAT XML 1.1, by https://docs.cvat.ai/docs/manual/advanced/xml_format/."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import DataError
from trainer.data.annotations import read_frames
from trainer.data.annotations.formats import read_raw

META = """<version>1.1</version><meta><task><id>4</id><name>pens</name><size>2</size>
<mode>annotation</mode><overlap>0</overlap><flipped>False</flipped>
<labels><label><name>pig</name><attributes><attribute><name>animal_id</name>
<mutable>False</mutable><input_type>text</input_type></attribute></attributes></label>
<label><name>person</name><attributes></attributes></label></labels>
<segments><segment><id>4</id><start>0</start><stop>1</stop></segment></segments></task>
<dumped>2026-05-31</dumped></meta>"""
IMAGES = f"""<?xml version="1.0" encoding="utf-8"?>
<annotations>{META}
<image id="0" name="day/cam1_1.png" width="40" height="20">
  <tag label="person" source="manual"></tag>
  <box label="pig" occluded="0" source="manual" xtl="4.25" ytl="2.00" xbr="14.50" ybr="10.00"
   z_order="0"><attribute name="animal_id">17</attribute></box>
  <box label="person" occluded="1" xtl="0" ytl="0" xbr="40" ybr="20" z_order="0"></box>
</image>
<image id="1" name="day/cam2_1.png" width="40" height="20"></image>
</annotations>"""


def images(shapes: str, name: str = "a.png", size: str = 'width="40" height="20"') -> str:
    return (
        f'<annotations><image id="0" name="{name}" {size}>{shapes}</image>'
        f"<meta><task><labels><label><name>pig</name></label></labels></task></meta></annotations>"
    )


def box(x1: Any = 4, y1: Any = 2, x2: Any = 14, y2: Any = 10, more: str = "") -> str:
    return f'<box label="pig" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" {more}/>'


@pytest.fixture
def cvat(tmp_path: Path, picture: Any) -> Any:
    """Writes annotations.xml beside a picture `a.png`."""

    def write(content: str | bytes) -> Path:
        picture(tmp_path / "a.png")
        path = tmp_path / "annotations.xml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def test_images(tmp_path: Path, picture: Any) -> None:
    for name in ("cam1_1", "cam2_1"):
        picture(tmp_path / "images" / "day" / f"{name}.png")
    (tmp_path / "annotations.xml").write_text(IMAGES)
    frames = read_frames(tmp_path / "annotations.xml")
    assert frames.class_names == ("pig", "person")
    np.testing.assert_array_equal(frames.boxes[0], [[4.25, 2, 14.5, 10], [0, 0, 40, 20]])
    np.testing.assert_array_equal(frames.classes[0], [0, 1])
    assert frames.animals == (("17", None), ())
    assert frames.sessions == ("cam1", "cam2")
    assert read_frames(tmp_path).paths == frames.paths
    assert frames.paths[1] == tmp_path / "images/day/cam2_1.png"


@pytest.mark.parametrize(
    ("shape", "corners"),
    [
        # A quarter turn about (9, 6): 10 wide and 8 high become 8 wide and 10 high.
        (box(more='rotation="90.0"'), [5, 1, 13, 11]),
        # Half of (10 + 8) / sqrt 2 to each side of (9, 6), but y is cut at 0.
        (box(more='rotation="45"'), [9 - 6.36396, 0, 9 + 6.36396, 6 + 6.36396]),
        (box(more='rotation="360"'), [4, 2, 14, 10]),
        ('<polygon label="pig" points="4.0,3.0;20,2;-3.5,9"/>', [0, 2, 20, 9]),
        ('<ellipse label="pig" cx="20" cy="10" rx="8" ry="3"/>', [12, 7, 28, 13]),
        ('<ellipse label="pig" cx="20" cy="10" rx="8" ry="3" rotation="90"/>', [17, 2, 23, 18]),
        ('<mask label="pig" rle="1" left="3" top="4" width="10" height="5"/>', [3, 4, 13, 9]),
    ],
)
def test_shapes_become_the_box_around_them(cvat: Any, shape: str, corners: list[float]) -> None:
    np.testing.assert_allclose(read_frames(cvat(images(shape))).boxes[0], [corners], atol=1e-4)


@pytest.mark.parametrize("tag", ["polyline", "points", "cuboid", "skeleton"])
def test_what_is_no_box_is_passed_over_and_counted(cvat: Any, tag: str) -> None:
    raw = read_raw(cvat(images(box() + f'<{tag} label="pig" points="1,2;3,4"/>')))
    assert len(raw.frames[0].boxes) == 1
    (problem,) = raw.problems
    assert (problem.kind, problem.severity) == ("shape passed over", "warning")
    assert "image 'a.png': shape 2" in problem.where


def track(shapes: str, number: int = 0, label: str = "pig") -> str:
    return f'<track id="{number}" label="{label}" source="manual">{shapes}</track>'


def shape(frame: int, x: float, outside: int = 0, keyframe: int = 1, more: str = "") -> str:
    return (
        f'<box frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0" '
        f'xtl="{x}" ytl="2" xbr="{x + 10}" ybr="10" z_order="0">{more}</box>'
    )


def video(tracks: str, start: int = 0, stop: int | str = "", rule: str = "") -> str:
    return (
        "<annotations><version>1.1</version><meta><task><mode>interpolation</mode>"
        f"<start_frame>{start}</start_frame><stop_frame>{stop}</stop_frame>"
        f"<frame_filter>{rule}</frame_filter><labels><label><name>pig</name></label></labels>"
        "<original_size><width>40</width><height>20</height></original_size>"
        f"<source>barn-2.mp4</source></task></meta>{tracks}</annotations>"
    )


def by_frame(content: str, tmp_path: Path) -> dict[int, list[float]]:
    """The left edges of boxes by frame, all frames being wanted."""
    path = tmp_path / "tracks.xml"
    path.write_text(content)
    raw = read_raw(path, every=1)
    assert all(frame.session == "barn-2" for frame in raw.frames)
    return {frame.number or 0: [b.corners[0] for b in frame.boxes] for frame in raw.frames}


def test_tracks_as_cvat_lists_them(tmp_path: Path) -> None:
    shapes = shape(0, 4) + shape(1, 5, keyframe=0) + shape(2, 6, outside=1)
    other = shape(1, 20) + shape(2, 21, keyframe=0)
    tracks = track(shapes) + track(other, 1)
    assert by_frame(video(tracks, stop=3), tmp_path) == {0: [4], 1: [5, 20], 2: [21], 3: []}


def test_key_frames_are_interpolated_until_they_are_outside(tmp_path: Path) -> None:
    # Visible 0 to 4 on a straight line, towards a frame outside at 6, back at 8, alone at 10.
    shapes = [shape(0, 4), shape(4, 12), shape(6, 12, outside=1), shape(8, 20), shape(10, 24)]
    # Listed in any order.
    found = by_frame(video(track("".join(reversed(shapes))), stop=11), tmp_path)
    assert found == {
        0: [4],
        1: [6],
        2: [8],
        3: [10],
        4: [12],
        5: [12],
        6: [],
        7: [],
        8: [20],
        9: [22],
        10: [24],
        11: [],
    }


def test_only_frames_of_the_task_are_interpolated(tmp_path: Path) -> None:
    shapes = shape(3, 4) + shape(13, 14)
    found = by_frame(video(track(shapes), 3, 13, "step=5"), tmp_path)
    assert found == {3: [4], 8: [9], 13: [14]}
    # Without meta information, what is listed and what lies between.
    bare = f"<annotations>{track(shape(3, 4) + shape(5, 6))}</annotations>"
    path = tmp_path / "bare.xml"
    path.write_text(bare)
    raw = read_raw(path, every=1)
    assert [(f.number, f.session, f.size) for f in raw.frames] == [
        (3, "bare", None),
        (4, "bare", None),
        (5, "bare", None),
    ]


def test_a_track_that_ends_where_the_next_begins(tmp_path: Path) -> None:
    assert by_frame(video(track(shape(0, 4, outside=1) + shape(0, 7)), stop=0), tmp_path) == {
        0: [7]
    }


def test_attributes_of_tracks_name_animals(tmp_path: Path, picture: Any) -> None:
    name = '<attribute name="animal">cow-9</attribute>'
    text = video(track(shape(0, 4, more=name) + shape(2, 8, more=name)), stop=2)
    (tmp_path / "annotations.xml").write_text(text)
    for number in (0, 1):
        picture(tmp_path / "images" / f"frame_{number:06}.PNG".lower())
    # Frames that have an image are read, by CVAT's own names.
    frames = read_frames(tmp_path)
    assert [path.name for path in frames.paths] == ["frame_000000.png", "frame_000001.png"]
    assert frames.animals == (("cow-9",), ("cow-9",))
    assert frames.sessions == ("barn-2", "barn-2")
    np.testing.assert_array_equal(frames.boxes[1], [[6, 2, 16, 10]])


def test_a_video_without_images_is_told(cvat: Any, refused: Any) -> None:
    told = refused(cvat(video(track(shape(0, 4)), stop=2)))
    assert "annotates the video 'barn-2'" in told
    assert "data convert --video" in told


def test_every_so_many_are_counted_from_the_tasks_first_frame(tmp_path: Path) -> None:
    path = tmp_path / "tracks.xml"
    path.write_text(video(track(shape(3, 4) + shape(33, 34)), 3, 33, "step=5"))
    numbers = [frame.number for frame in read_raw(path, every=2).frames]
    assert numbers == [3, 13, 23, 33]


def test_a_video_without_frames_is_told(tmp_path: Path, refused: Any) -> None:
    path = tmp_path / "tracks.xml"
    path.write_text(video(track("")))
    with pytest.raises(DataError, match=r"tracks\.xml: annotates no frame of the video 'barn-2'"):
        read_raw(path, every=2)


def test_a_task_of_images_in_a_videos_format_is_told(cvat: Any, refused: Any) -> None:
    text = video(track(shape(0, 4)), stop=2).replace("<source>barn-2.mp4</source>", "")
    told = refused(cvat(text.replace("interpolation", "annotation")))
    assert "names no video" in told
    assert 'export it as "CVAT for images 1.1"' in told


TWO = video(track(shape(0, 4))).replace("</meta>", "<project><task/></project></meta>")
BOMB = '<!DOCTYPE annotations [<!ENTITY a "a">]><annotations>&a;</annotations>'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not a CVAT file: no element found"),
        (IMAGES[:700], "not a CVAT file"),
        (b"PK\x03\x04\x14\x00", "not a CVAT file"),
        ("<annotation/>", "its root element is <annotation>, not <annotations>"),
        (BOMB, "it declares a document type"),
        ("<annotations>" + "<a>" * 50_000, "nested deeper than 32"),
        ("<annotations/>", "lists no images and no tracks"),
        (images(box("x")), "image 'a.png': shape 1: <box>: its xtl is 'x', not a number"),
        (images('<box label="pig" xtl="1"/>'), "<box>: has no 'ytl'"),
        (images(box("nan")), "shape 1: box [nan, 2, 14, 10] has numbers that are not finite"),
        (images(box(-1e300, 2, 1e300)), "reaches outside a.png"),
        (images(box(14, 2, 4)), "has no area"),
        (images(box(more='rotation="nan"')), "not finite"),
        (images(box(more='rotation="inf"')), "<box>: math domain error"),
        (images(box(50, 2, 60, 10, 'rotation="5"')), "has no area inside a.png"),
        (images(box(4, 2, 60)), "reaches outside a.png (40x20 pixels)"),
        (images(box().replace("pig", "cow")), "shape 1: no class 'cow'; there are pig"),
        (images('<polygon label="pig" points="1,2;3"/>'), "its points hold '3'"),
        (images('<polygon label="pig"/>'), "its points hold ''"),
        (images(box(), size='width="a"'), "its width and height are no whole numbers"),
        (images(box(), "b.png"), "image 'b.png' is not in"),
        (images(box(), "../b.png"), "image '../b.png' leads out of"),
        (images(box(), "..\\b.png"), "leads out of"),
        (images(box(), ""), "has no name"),
        (TWO, "holds several videos"),
        (
            video(track(shape(0, 4)), stop="last"),
            "its <stop_frame> is 'last', not a frame's number",
        ),
        (video(track(shape(0, 4)), stop=10**12), "its <stop_frame> is '1000000000000'"),
        (video(track(shape(0, 4)), rule="step=0.5"), "its <frame_filter> is '0.5'"),
        (video(track(shape(0, 4) + shape(2_000_000, 5)) * 11), "more than 20000000 boxes lie"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(
    cvat: Any, refused: Any, content: str | bytes, message: str
) -> None:
    path = cvat(content)
    told = refused(path, format="cvat")
    assert message in told
    assert told.startswith(str(path))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (shape(0, 4).replace('frame="0"', 'frame="-1"', 1), "its frame is '-1'"),
        (shape(0, 4).replace('frame="0"', 'frame="1e9"', 1), "its frame is '1e9'"),
        (shape(0, 4) + shape(0, 5), "track 0: frame 0: the track is on this frame twice"),
    ],
)
def test_a_wrong_shape_of_a_track_is_named(
    tmp_path: Path, picture: Any, refused: Any, shapes: str, message: str
) -> None:
    picture(tmp_path / "barn-2_000000.jpg")
    path = tmp_path / "annotations.xml"
    path.write_text(video(track(shapes), stop=0))
    assert message in refused(path)
