from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError, UsageError
from trainer.data.annotations.formats import read_raw
from trainer.data.crops import load_image, read_crops, session_of
from trainer.labelling.cut import CutOptions, cut_crops, read_visible

STILL = CutOptions(jitter=0)
Annotation = tuple[int, str | None, tuple[float, float, float, float]]


def herd(root: Path, annotations: list[Annotation], names: tuple[str, ...]) -> Path:
    """Write a COCO folder: images of 100x80 pixels whose red is x and green is y."""
    y, x = np.mgrid[:80, :100]
    image = np.stack([x * 2, y * 3, np.full_like(x, 128)], axis=2).astype(np.uint8)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / name), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    content = {
        "images": [{"id": row, "file_name": name} for row, name in enumerate(names)],
        "annotations": [
            {
                "id": row,
                "image_id": image_id,
                "category_id": 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                **({} if animal is None else {"animal_id": animal}),
            }
            for row, (image_id, animal, (x1, y1, x2, y2)) in enumerate(annotations)
        ],
        "categories": [{"id": 1, "name": "cow"}],
    }
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def cut(source: Path, out: Path, options: CutOptions) -> dict[str, int]:
    out.mkdir()
    return dict(cut_crops(read_visible(read_raw(source)), out, options))


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*.jpg"))


def test_a_crop_holds_the_pixels_of_its_box(tmp_path: Path) -> None:
    source = herd(tmp_path / "in", [(0, "ann", (10.2, 20.5, 49.1, 60))], ("day_7.png",))
    assert cut(source, tmp_path / "out", STILL) == {}
    assert files(tmp_path / "out") == ["ann/day_7.jpg"]
    crop = load_image(tmp_path / "out" / "ann" / "day_7.jpg").astype(int)
    assert crop.shape == (40, 40, 3)
    # Columns 10 to 49, rows 20 to 59; JPEG is a little off.
    np.testing.assert_allclose(crop[20, :, 0], 2 * np.arange(10, 50), atol=8)
    np.testing.assert_allclose(crop[:, 20, 1], 3 * np.arange(20, 60), atol=8)


def test_margin_grows_the_box_and_the_frame_cuts_it(tmp_path: Path) -> None:
    source = herd(tmp_path / "in", [(0, "ann", (60, 30, 100, 50))], ("day_7.png",))
    cut(source, tmp_path / "out", CutOptions(jitter=0, margin=0.25))
    # 40 wide grows by 10 on each side, of which the right one is outside; 20 high by 5.
    assert load_image(tmp_path / "out" / "ann" / "day_7.jpg").shape == (30, 50, 3)


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    source = herd(
        tmp_path / "in",
        [
            (0, "ann", (0, 0, 40, 40)),
            (0, None, (60, 0, 90, 30)),
            (0, "bob", (0, 50, 30, 65)),  # 15 pixels high
            (1, "twin", (0, 0, 30, 30)),
            (1, "twin", (50, 0, 80, 30)),
            (2, "cat", (0, 0, 40, 40)),
            (2, "dan", (0, 20, 40, 60)),  # each covers half of the other
        ],
        ("day_1.png", "day_2.png", "day_3.png"),
    )
    assert cut(source, tmp_path / "out", STILL) == {
        "without an id": 1,
        "too small": 1,
        "of an animal that is twice in its frame": 2,
        "crowded": 2,
    }
    assert files(tmp_path / "out") == ["ann/day_1.jpg"]
    cut(source, tmp_path / "all", CutOptions(jitter=0, least_px=15, most_covered=0.5))
    assert files(tmp_path / "all") == [
        "ann/day_1.jpg",
        "bob/day_1.jpg",
        "cat/day_3.jpg",
        "dan/day_3.jpg",
    ]


def test_shapes_beyond_the_edge_are_cut_off(tmp_path: Path) -> None:
    """A polygon of 40x40 pixels of which the left half lies outside the frame."""
    root = herd(tmp_path / "in", [], ("day_1.png",))
    (root / "annotations.json").unlink()
    (root / "cvat.xml").write_text(
        '<annotations><image id="0" name="day_1.png" width="100" height="80">'
        '<polygon label="cow" points="-20,10;20,10;20,50;-20,50">'
        '<attribute name="animal">ann</attribute></polygon>'
        '<polygon label="cow" points="60,10;99,10;99,50;60,50">'
        '<attribute name="animal">bob</attribute></polygon>'
        "</image></annotations>"
    )
    assert cut(root, tmp_path / "out", STILL) == {"cut off by the frame's edge": 1}
    assert files(tmp_path / "out") == ["bob/day_1.jpg"]
    cut(root, tmp_path / "half", CutOptions(jitter=0, least_visible=0.5))
    assert load_image(tmp_path / "half" / "ann" / "day_1.jpg").shape == (40, 20, 3)


def test_copies_differ_and_keep_their_session(tmp_path: Path) -> None:
    source = herd(tmp_path / "in", [(0, "ann", (20, 20, 60, 60))], ("day_7.png",))
    cut(source, tmp_path / "out", CutOptions(copies=3))
    names = files(tmp_path / "out")
    assert names == ["ann/day_7-2.jpg", "ann/day_7-3.jpg", "ann/day_7.jpg"]
    assert {session_of(Path(name)) for name in names} == {"day"}
    assert len({(tmp_path / "out" / name).read_bytes() for name in names}) == 3
    with pytest.raises(UsageError, match="would all be the same"):
        CutOptions(copies=2, jitter=0)


def test_the_seed_decides_and_nothing_else(tmp_path: Path) -> None:
    source = herd(tmp_path / "in", [(0, "ann", (20, 20, 60, 60))], ("day_7.png",))
    data = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        cut(source, tmp_path / name, CutOptions(seed=seed))
        data[name] = (tmp_path / name / "ann" / "day_7.jpg").read_bytes()
    assert data["first"] == data["again"] != data["other"]


def test_every_takes_each_sessions_own_frames(tmp_path: Path) -> None:
    names = ("a_10.png", "a_9.png", "a_11.png", "b_0.png", "b_1.png")
    boxes: list[Annotation] = [(row, "ann", (10, 10, 50, 50)) for row in range(5)]
    source = herd(tmp_path / "in", boxes, names)
    cut(source, tmp_path / "out", CutOptions(jitter=0, every=2))
    assert files(tmp_path / "out") == ["ann/a_11.jpg", "ann/a_9.jpg", "ann/b_0.jpg"]


def test_frames_of_the_same_name_do_not_take_each_others_place(tmp_path: Path) -> None:
    boxes: list[Annotation] = [(row, "ann", (10, 10, 50, 50)) for row in range(2)]
    source = herd(tmp_path / "in", boxes, ("x/day_1.png", "y/day_1.png"))
    cut(source, tmp_path / "out", STILL)
    assert files(tmp_path / "out") == ["ann/x-day_1.jpg", "ann/y-day_1.jpg"]
    # Sessions that differ in what a file's name cannot hold only.
    source = herd(tmp_path / "b", boxes, ("x y/day_1.png", "x-y/day_1.png"))
    cut(source, tmp_path / "c", STILL)
    assert files(tmp_path / "c") == ["ann/x-y-day_1-2.jpg", "ann/x-y-day_1.jpg"]


def test_ids_must_be_such_that_devices_can_publish_them(tmp_path: Path) -> None:
    source = herd(tmp_path / "in", [(0, "7", (10, 10, 50, 50))], ("day_1.png",))
    with pytest.raises(UsageError, match=r"animal id '7'.*--prefix"):
        cut(source, tmp_path / "out", STILL)
    cut(source, tmp_path / "named", CutOptions(jitter=0, prefix="cow-"))
    assert read_crops(tmp_path / "named").animals == ("cow-7",)


def test_without_ids_there_is_nothing_to_cut(tmp_path: Path) -> None:
    source = herd(tmp_path / "in", [(0, None, (10, 10, 50, 50))], ("day_1.png",))
    with pytest.raises(DataError, match=r"no box says which animal.*crops propose"):
        cut(source, tmp_path / "out", STILL)


def test_a_folder_without_a_good_crop_is_an_error(tmp_path: Path) -> None:
    source = herd(tmp_path / "in", [(0, "ann", (10, 10, 20, 20))], ("day_1.png",))
    with pytest.raises(DataError, match="no crop could be cut: 1 too small"):
        cut(source, tmp_path / "out", STILL)


@pytest.mark.parametrize("wrong", [{"jitter": 0.3}, {"jitter": -0.1}, {"margin": 2}, {"seed": -1}])
def test_options_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        CutOptions(**wrong)  # type: ignore[arg-type]
