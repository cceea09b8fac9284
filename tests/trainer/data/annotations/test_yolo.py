"""YOLO text labels and data.yaml, as Ultralytics documents them and Roboflow writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import UsageError
from trainer.data.annotations import read_frames

YAML = "train: images/train\nval: images/val\nnames:\n  0: pig\n  1: person\n"


@pytest.fixture
def herd(tmp_path: Path, picture: Any) -> Any:
    """Writes data.yaml, an image in train and one in val, and the first one's labels."""

    def write(labels: str | bytes, text: str = YAML) -> Path:
        picture(tmp_path / "images/train/cam1_1.png")
        picture(tmp_path / "images/val/cam2_1.png")
        (tmp_path / "labels/train").mkdir(parents=True, exist_ok=True)
        data = labels.encode() if isinstance(labels, str) else labels
        (tmp_path / "labels/train/cam1_1.txt").write_bytes(data)
        (tmp_path / "data.yaml").write_text(text)
        return tmp_path / "data.yaml"

    return write


def test_fractions_of_the_image_become_corners(herd: Any) -> None:
    # The centre (20, 10) of 40x20 pixels, 20 wide and 8 high; and the whole frame.
    path = herd("1 0.5 0.5 0.5 0.4\n\n0 5e-1 .5 1.0 1\r\n")
    frames = read_frames(path)
    np.testing.assert_allclose(frames.boxes[0], [[10, 6, 30, 14], [0, 0, 40, 20]], atol=1e-5)
    np.testing.assert_array_equal(frames.classes[0], [1, 0])
    assert frames.class_names == ("pig", "person")
    assert frames.sessions == ("cam1", "cam2")
    assert frames.animals == ((None, None), ())
    # Without labels: an image of no animal.
    assert frames.boxes[1].shape == (0, 4)
    assert read_frames(path.parent).paths == frames.paths


def test_parts(herd: Any) -> None:
    path = herd("0 0.5 0.5 0.5 0.5\n")
    assert read_frames(Path(f"{path}#train")).sessions == ("cam1",)
    assert read_frames(Path(f"{path}#val")).sessions == ("cam2",)
    with pytest.raises(UsageError, match=r"has no part 'test'; there are train, val"):
        read_frames(Path(f"{path}#test"))


def test_points_become_the_box_around_them(herd: Any) -> None:
    segment = "0 0.25 0.5 0.5 0.25 0.75 0.5 0.5 0.9\n"
    oriented = "1 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3\n"
    boxes = read_frames(herd(segment + oriented)).boxes[0]
    np.testing.assert_allclose(boxes, [[10, 5, 30, 18], [4, 2, 8, 6]], atol=1e-5)


def test_points_over_the_edge_by_rounding_are_cut(herd: Any) -> None:
    # Of 40x20 pixels: 0.8 to the left, 0.4 above.
    boxes = read_frames(herd("0 -0.02 0.5 0.5 -0.02 0.5 1\n")).boxes[0]
    np.testing.assert_array_equal(boxes, [[0, 0, 20, 20]])


def test_a_triangle_is_told_from_a_tracked_box(herd: Any) -> None:
    # As a box the first would lie outside; the second ends in no whole number.
    triangles = "0 0.1 0.1 0.5 0.1 0.5 1\n0 0.5 0.5 0.6 0.6 0.5 0.75\n"
    boxes = read_frames(herd(triangles)).boxes[0]
    np.testing.assert_allclose(boxes, [[4, 2, 20, 20], [20, 10, 24, 15]], atol=1e-5)


def test_of_a_pose_the_box_is_taken(herd: Any) -> None:
    path = herd("0 0.5 0.5 0.5 0.4 0.1 0.1 2 0.9 0.9 0\n", YAML + "kpt_shape: [2, 3]\n")
    np.testing.assert_allclose(read_frames(path).boxes[0], [[10, 6, 30, 14]], atol=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        # Roboflow's: the folders are beside the file, not above it.
        "train: ../images/train\nval: ../images/val\nnc: 2\nnames: ['pig', 'person']\n",
        # A root on somebody else's machine.
        "path: /home/somebody/pigs\n" + YAML,
        "path: .\n" + YAML,
        "train: [images/train, images/val]\nnames: [pig, person]\n",
        "train: images\nnames: [pig, person]\n",
        "train: all.txt\nnames: [pig, person]\n",
    ],
)
def test_forms_of_data_yaml(herd: Any, tmp_path: Path, text: str) -> None:
    (tmp_path / "all.txt").write_text("./images/train/cam1_1.png\nimages/val/cam2_1.png\n")
    frames = read_frames(herd("1 0.5 0.5 0.5 0.5\n", text))
    assert [path.name for path in frames.paths] == ["cam1_1.png", "cam2_1.png"]
    assert frames.class_names == ("pig", "person")


def test_the_root_may_be_named(herd: Any, tmp_path: Path) -> None:
    path = herd("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "b").mkdir()
    moved = path.rename(tmp_path / "b" / "data.yaml")
    assert len(read_frames(moved, images=tmp_path)) == 2


def test_an_image_in_two_parts_is_read_once(herd: Any) -> None:
    path = herd("0 0.5 0.5 0.5 0.5\n", YAML.replace("images/val", "images"))
    assert len(read_frames(path)) == 2


def test_labels_may_lie_beside_the_image(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "pigs/a.png")
    (tmp_path / "pigs/a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "data.yaml").write_text("train: pigs\nnames: [pig]\n")
    assert len(read_frames(tmp_path).boxes[0]) == 1


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ("0 0.5 0.5 0.5\n", "line 1: has 4 numbers"),
        ("0 0.5 0.5 0.5 0.5\n0 0.5 0.5 0.5 0.5 0.9\n", "line 2: has 6 numbers; the last is a conf"),
        ("0 0.5 0.5 0.2 0.2 0.93 1\n", "line 1: has 7 numbers; the last is a track, so this is a"),
        ("0 0.5 0.5 0.2 0.2 0.93 17\n", "line 1: has 7 numbers; the last is a track"),
        ("0 0.5 0.5 1 1 0.93 0\n", "line 1: has 7 numbers; the last is a track"),
        ("0 -0.5 0.5 0.5 0 0.5 1\n", "line 1: its points (-0.5, 0.5, 0.5, 0, 0.5, 1) lie outside"),
        ("0 0.1 0.1 0.5 0.1 0.3 1.06\n", "lie outside the image; they are fractions, 0 to 1"),
        ("0 0.1 0.1 0.5 0.1 1.03 0.9\n", "lie outside the image; they are fractions, 0 to 1"),
        (
            "0 0.1 -0.06 0.5 0.1 0.3 0.9 0.2 0.2\n",
            "points (0.1, -0.06, 0.5, 0.1, 0.3, 0.9, …) lie outside",
        ),
        ("0 4 2 20 3 12 9\n", "lie outside the image"),
        ("0 0.1 0.1 0.5 nan 0.3 0.9\n", "hold numbers that are not finite"),
        ("0 0.5 0.5 0.5 0.5 0.5 0.5 0.5\n", "line 1: has 8 numbers"),
        ("0\n", "line 1: has 1 numbers"),
        ("pig 0.5 0.5 0.5 0.5\n", "line 1: 'pig' is not a number"),
        ("0 0,5 0.5 0.5 0.5\n", "line 1: '0,5' is not a number"),
        ("0 1_0 0.5 0.5 0.5\n", "'1_0' is not a number"),
        ("2 0.5 0.5 0.5 0.5\n", "line 1: no class 2; there are 0 (pig), 1 (person)"),
        ("-1 0.5 0.5 0.5 0.5\n", "no class -1"),
        ("0.5 0.5 0.5 0.5 0.5\n", "no class 0.5"),
        ("nan 0.5 0.5 0.5 0.5\n", "no class nan"),
        (f"{'9' * 5000} 0.5 0.5 0.5 0.5\n", "no class 999"),
        ("0 nan 0.5 0.5 0.5\n", "line 1: box [nan, 0.5, 0.5, 0.5] has numbers that are not finite"),
        ("0 0.5 0.5 inf 0.5\n", "not finite"),
        ("0 0.5 0.5 1e400 0.5\n", "not finite"),
        ("0 0.5 0.5 0 0.5\n", "line 1: box [0.5, 0.5, 0, 0.5] has no area"),
        ("0 0.5 0.5 -0.5 0.5\n", "has no area"),
        ("0 0.9 0.5 0.5 0.5\n", "line 1: box [0.9, 0.5, 0.5, 0.5] reaches outside"),
        ("0 20 10 20 8\n", "reaches outside"),
        (b"\xff\xd8\xff\xe0\x00", "not YOLO labels: byte 0 is not text in UTF-8"),
        (b"0 0.5\x000.5", "is not a number"),
    ],
)
def test_a_wrong_line_is_named(
    herd: Any, tmp_path: Path, refused: Any, labels: str | bytes, message: str
) -> None:
    told = refused(herd(labels))
    assert message in told
    assert told.startswith(str(tmp_path / "labels/train/cam1_1.txt"))


ALIASES = "a: &a [1, 2]\nb: &b [*a, *a]\ntrain: *b\nnames: [pig]\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys such as"),
        ("[1, 2]", "expected keys such as"),
        ("train: [a\n", "not a YOLO data.yaml: while parsing"),
        ("train: \0\n", "not a YOLO data.yaml"),
        (ALIASES, "not a YOLO data.yaml: line 2: uses an alias"),
        ("names: " + "[" * 20_000, "not a YOLO data.yaml"),
        ("a: 2026-99-99\n", "not a YOLO data.yaml"),
        ("train: !!python/object/apply:os.system ['true']\n", "not a YOLO data.yaml: could not"),
        ("names: [pig]\n", "names no images; expected `train`, `val` or `test`"),
        ("train: images/train\n", "`names` must list the classes"),
        ("train: images/train\nnames: pig\n", "`names` must list the classes"),
        ("train: images/train\nnames: {a: pig}\n", "'a' is no class number"),
        ("train: images/train\nnames: {-1: pig}\n", "-1 is no class number"),
        ("train: images/train\nnames: [no]\n", "class 0 is False; write it in quotes"),
        ("train: images/train\nnames: [pig, pig]\n", "class names are not unique"),
        ("train: images/train\nnames: [pig]\nnc: 2\n", "`nc` is 2, but `names` lists 1 classes"),
        ("train: {a: b}\nnames: [pig]\n", "`train` must be a folder, a .txt file, or a list"),
        ("train: nowhere\nnames: [pig]\n", "'nowhere' is not in"),
        ("train: ..\nnames: [pig]\n", "'..' leads out of"),
        ("train: /etc\nnames: [pig]\n", "'/etc' leads out of"),
        ("path: 3\ntrain: images\nnames: [pig]\n", "`path` must be a folder"),
        ("train: images\nnames: [pig]\nkpt_shape: 5\n", "`kpt_shape` must be two whole numbers"),
        ("train: empty\nnames: [pig]\n", "lists no images"),
    ],
)
def test_a_wrong_data_yaml_is_named(
    herd: Any, tmp_path: Path, refused: Any, text: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    told = refused(herd("", text))
    assert message in told
    assert told.startswith(str(tmp_path / "data.yaml"))


def test_lists_that_lead_nowhere_or_out(herd: Any, tmp_path: Path, refused: Any) -> None:
    path = herd("", "train: all.txt\nnames: [pig]\n")
    (tmp_path / "all.txt").write_text("images/train/none.png\n")
    assert "image 'images/train/none.png' is not in" in refused(path)
    (tmp_path / "all.txt").write_text("/etc/hostname\n")
    assert "image '/etc/hostname' leads out of" in refused(path)
    (tmp_path / "all.txt").write_bytes(b"\xff\xfe")
    assert "all.txt: not a list of images" in refused(path)


def test_a_broken_image_is_named(herd: Any, tmp_path: Path, refused: Any) -> None:
    path = herd("0 0.5 0.5 0.5 0.5\n")
    (tmp_path / "images/train/cam1_1.png").write_bytes(b"")
    assert "cam1_1.png: not an image that can be read" in refused(path)
