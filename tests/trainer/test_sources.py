"""Which image is used for what, and that no session is on two sides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import DataError, UsageError
from trainer.data.annotations import read_frames, write_frames
from trainer.data.annotations.split import split_frames, write_split
from trainer.data.frames import FrameSet
from trainer.progress import silent
from trainer.recipe import Recipe, load_recipe
from trainer.sources import FrameData, _split_frames, load_data

CROPS = (
    "name: r\nseed: 2\ndata: {crops: {test: test, newcomer_gallery: new, newcomer_query: asked}}\n"
)
HERD = """
name: r
seed: 2
data: {herd: {animals: 2, other_pens: 1, unknown_animals: 2, sessions: 2, frames: 2}}
detector: {}
"""


def recipe(tmp_path: Path, text: str) -> Recipe:
    (tmp_path / "r.yaml").write_text(text)
    return load_recipe(tmp_path / "r.yaml")


def crops(root: Path, animals: list[str], sessions: int = 3) -> None:
    rng = np.random.default_rng(0)
    for animal in animals:
        (root / animal).mkdir(parents=True)
        for session in range(sessions):
            for frame in range(2):
                image = rng.integers(0, 255, (16, 16, 3)).astype(np.uint8)
                cv2.imwrite(str(root / animal / f"s{session}_{frame}.png"), image)


def test_crops_by_purpose(tmp_path: Path) -> None:
    data = tmp_path / "data"
    crops(data / "train", ["a", "b"])
    crops(data / "test", ["a", "b"], 1)
    crops(data / "new", ["c"], 1)
    crops(data / "asked", ["c"], 1)
    loaded = load_data(recipe(tmp_path, CROPS), data, tmp_path / "work", silent).crops
    assert set(loaded.fit.sessions).isdisjoint(loaded.held_out.sessions)
    assert len(loaded.fit) + len(loaded.held_out) == 12
    assert loaded.test is not None
    assert loaded.newcomer_query is not None
    assert loaded.unknown is loaded.newcomer_query
    assert loaded.newcomer_query.animals == ("c",)


def test_the_digest_tells_one_changed_byte(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, ids in (("train", "ab"), ("test", "ab"), ("new", "cd"), ("asked", "cd")):
        crops(data / name, list(ids), 2)
    asked = recipe(tmp_path, CROPS)
    first = load_data(asked, data, tmp_path / "work", silent).digest
    assert load_data(asked, data, tmp_path / "work", silent).digest == first
    image = next((data / "test").rglob("*.png"))
    image.write_bytes(image.read_bytes() + b"\0")
    assert load_data(asked, data, tmp_path / "work", silent).digest != first


def test_a_test_animal_that_nobody_knows_is_named(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("train", "new", "asked"):
        crops(data / name, ["a", "b"], 2)
    crops(data / "test", ["a", "stranger"], 1)
    with pytest.raises(DataError, match="stranger"):
        load_data(recipe(tmp_path, CROPS), data, tmp_path / "work", silent)


def test_no_data_folder(tmp_path: Path) -> None:
    asked = recipe(tmp_path, CROPS)
    with pytest.raises(UsageError, match="--data"):
        load_data(asked, None, tmp_path / "work", silent)
    with pytest.raises(UsageError, match="nowhere"):
        load_data(asked, tmp_path / "nowhere", tmp_path / "work", silent)


@pytest.mark.slow
def test_a_herds_test_can_be_by_cameras_of_its_own(tmp_path: Path) -> None:
    text = (
        "name: r\ndata: {herd: {animals: 2, other_pens: 0, unknown_animals: 2, frames: 1, "
        "cameras: [1, 5], test_cameras: [3]}}\nembedder: null\ndetector: {}\n"
    )
    loaded = load_data(recipe(tmp_path, text), None, tmp_path / "work", silent)
    frames = loaded.frames
    assert loaded.crops is None
    assert frames is not None
    assert frames.test is not None

    def cameras(part: FrameSet) -> set[str]:
        return {path.parent.name.split("-")[0] for path in part.paths}

    assert cameras(frames.fit) | cameras(frames.held_out) == {"cam1", "cam5"}
    assert cameras(frames.test) == {"cam3"}


@pytest.mark.slow
def test_a_detector_can_be_chosen_on_cameras_that_it_did_not_learn_from(tmp_path: Path) -> None:
    herd = "animals: 2, other_pens: 1, unknown_animals: 2, frames: 1, cameras: [1, 5]"
    text = "name: r\ndata: {herd: {%s, held_out_cameras: [%s]}}\nembedder: null\ndetector: {}\n"
    frames = load_data(recipe(tmp_path, text % (herd, "5")), None, tmp_path / "w", silent).frames
    assert frames is not None

    def cameras(part: FrameSet) -> set[str]:
        return {path.parent.name.split("-")[0] for path in part.paths}

    assert cameras(frames.fit) == {"cam1"}
    assert cameras(frames.held_out) == {"cam5"}
    assert len(frames.fit) == len(frames.held_out)
    for wrong in ("1, 5", "2"):
        with pytest.raises(UsageError, match="held_out_cameras must be some of cameras, not all"):
            recipe(tmp_path, text % (herd, wrong))


@pytest.mark.slow
def test_a_herd_by_purpose(tmp_path: Path) -> None:
    loaded = load_data(recipe(tmp_path, HERD), None, tmp_path / "work", silent)
    herd, frames = loaded.crops, loaded.frames
    known = {"pig01", "pig02"}
    assert set(herd.herd.names()) == set(herd.held_out.names()) == known
    assert set(herd.fit.names()) == known | {"pig03", "pig04"}
    assert herd.test is not None
    assert set(herd.test.names()) == known
    assert herd.unknown is not None
    assert set(herd.unknown.names()).isdisjoint(herd.fit.names())
    assert frames is not None
    assert frames.test is not None
    assert set(frames.fit.sessions).isdisjoint(frames.held_out.sessions)
    # Nothing of the test session was seen in training, by crop or by frame.
    trained = {path.parent for path in frames.fit.paths} | {p.parent for p in herd.fit.paths}
    asked = {path.parent for path in frames.test.paths} | {p.parent for p in herd.test.paths}
    assert trained.isdisjoint(asked)


def frames(sizes: dict[str, int]) -> FrameSet:
    sessions = tuple(name for name, count in sizes.items() for _ in range(count))
    count = len(sessions)
    return FrameSet(
        paths=tuple(Path(f"{number}.jpg") for number in range(count)),
        boxes=(np.zeros((0, 4), np.float32),) * count,
        classes=(np.zeros(0, np.int32),) * count,
        sessions=sessions,
        class_names=("animal",),
    )


def test_one_session_is_cut_at_the_end_of_its_time() -> None:
    names = [f"pen_{number}.jpg" for number in (10, 2, 9, 1, 11)]
    given = replace(frames({"pen": 5}), paths=tuple(map(Path, names)))
    fit, held = _split_frames(given, 0.4, 0)
    assert [path.name for path in held.paths] == ["pen_10.jpg", "pen_11.jpg"]
    assert [path.name for path in fit.paths] == ["pen_2.jpg", "pen_9.jpg", "pen_1.jpg"]


@pytest.mark.parametrize("seed", range(6))
def test_a_long_session_is_not_held_out(seed: int) -> None:
    fit, held = _split_frames(frames({"long": 90, "short": 10}), 0.2, seed)
    assert set(fit.sessions) == {"long"}
    assert set(held.sessions) == {"short"}


def test_where_all_are_too_long_the_shortest_is_held_out() -> None:
    fit, held = _split_frames(frames({"a": 50, "b": 40}), 0.1, 0)
    assert (set(fit.sessions), set(held.sessions)) == ({"a"}, {"b"})


def test_one_frame_cannot_be_split() -> None:
    with pytest.raises(DataError, match="cannot be split"):
        _split_frames(frames({"a": 1}), 0.2, 0)


def test_a_broken_test_image_is_told_before_the_training(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name, ids in (("train", "ab"), ("test", "ab"), ("new", "cd"), ("asked", "cd")):
        crops(data / name, list(ids), 2)
    (data / "test" / "b" / "s1_1.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"test/b/s1_1\.png"):
        load_data(recipe(tmp_path, CROPS), data, tmp_path / "work", silent)


@pytest.mark.parametrize(
    ("animals", "named"),
    [
        ({"new": ["a"]}, "newcomer animal 'a' is among those to train on"),
        ({"new": ["b"], "asked": ["b"]}, "newcomer animal 'b' is among those to train on"),
    ],
)
def test_a_newcomer_that_is_trained_on_is_told_before_the_training(
    tmp_path: Path, animals: dict[str, list[str]], named: str
) -> None:
    data = tmp_path / "data"
    usual = {"train": ["a", "b"], "test": ["b"], "new": ["c"], "asked": ["c"]} | animals
    if "new" in animals:
        usual["asked"] = animals["new"]
    for name, ids in usual.items():
        crops(data / name, ids, 3 if name == "train" else 1)
    with pytest.raises((DataError, UsageError), match=named):
        load_data(recipe(tmp_path, CROPS), data, tmp_path / "work", silent)


def test_what_makes_figures_too_good_is_said(tmp_path: Path) -> None:
    data = tmp_path / "data"
    crops(data / "train", ["cow1", "Cow 2"])
    loaded = load_data(
        recipe(tmp_path, "name: r\ndata: {crops: {}}\n"), data, tmp_path / "work", silent
    )
    assert "devices will refuse" in loaded.crops.warnings[0]
    assert "'Cow 2'" in loaded.crops.warnings[0]
    assert "no test crops" in loaded.crops.warnings[1]
    (data / "train" / "Cow 2").rename(data / "train" / "cow2")
    crops(data / "test", ["cow1"], 1)
    both = "name: r\ndata: {crops: {test: test}}\n"
    loaded = load_data(recipe(tmp_path, both), data, tmp_path / "work", silent)
    assert len(loaded.crops.warnings) == 1
    assert "1 sessions of the test crops" in loaded.crops.warnings[0]
    frame = "name: r\ndata: {crops: {split: frame, force_frame_split: true, test: test}}\n"
    loaded = load_data(recipe(tmp_path, frame), data, tmp_path / "work", silent)
    assert "at random by frame" in loaded.crops.warnings[0]


def photographs(root: Path, names: list[str], classes: list[str], used: int = 0) -> Path:
    """Write a COCO file of images with a box each, of the class number `used`."""
    root.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for row, name in enumerate(names):
        image = np.random.default_rng(row).integers(0, 255, (20, 40, 3)).astype(np.uint8)
        cv2.imwrite(str(root / name), image)
        images.append({"id": row, "file_name": name})
        annotations.append({"image_id": row, "category_id": used, "bbox": [1, 2, 9, 8]})
    categories = [{"id": row, "name": name} for row, name in enumerate(classes)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = root / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def detected(tmp_path: Path, frames: str) -> FrameData:
    text = f"name: r\ndata: {{crops: {{}}, frames: {{{frames}}}}}\ndetector: {{}}\n"
    if not (tmp_path / "data" / "train").exists():
        crops(tmp_path / "data" / "train", ["cow1", "cow2"])
    loaded = load_data(recipe(tmp_path, text), tmp_path / "data", tmp_path / "work", silent)
    assert loaded.frames is not None
    return loaded.frames


def test_every_fifth_photograph_by_name_is_the_test(tmp_path: Path) -> None:
    names = [f"{number:02}.png" for number in range(12, 0, -1)]
    frames = read_frames(photographs(tmp_path / "coco", names, ["cow"]))
    write_frames(frames, tmp_path / "data" / "voc", "voc")
    with pytest.raises(DataError, match=r"its name gives no session.*force_frame_split: true"):
        detected(tmp_path, "train: voc, test_every: 5")
    data = detected(tmp_path, "train: voc, test_every: 5, force_frame_split: true")
    assert data.test is not None
    assert [path.name for path in data.test.paths] == ["05.png", "10.png"]
    assert len(data.fit) + len(data.held_out) == 10
    (warning,) = data.warnings
    assert "without knowing their sessions" in warning


def test_neighbouring_frames_are_a_test_only_by_force(tmp_path: Path) -> None:
    photographs(tmp_path / "data", [f"pen_{number}.png" for number in range(6)], ["cow"])
    with pytest.raises(DataError, match="on both sides"):
        detected(tmp_path, "test_every: 3")
    data = detected(tmp_path, "test_every: 3, force_frame_split: true")
    assert "near-duplicate frames" in data.warnings[0]


def test_classes_of_train_and_test_go_by_name(tmp_path: Path) -> None:
    photographs(tmp_path / "data" / "a", ["a_1.png", "b_1.png"], ["person", "cow"], used=1)
    photographs(tmp_path / "data" / "b", ["c.png"], ["cow", "dog"], used=0)
    data = detected(tmp_path, "train: a/annotations.json, test: b/annotations.json")
    assert data.test is not None
    assert data.test.class_names == data.fit.class_names == ("person", "cow")
    assert data.test.classes[0].tolist() == [1]
    photographs(tmp_path / "data" / "b", ["c.png"], ["cow", "dog"], used=1)
    with pytest.raises(DataError, match=r"c\.png: has a box of class 'dog'"):
        detected(tmp_path, "train: a/annotations.json, test: b/annotations.json")


def test_figures_of_frames_that_chose_the_step_are_doubted(tmp_path: Path) -> None:
    photographs(tmp_path / "data", [f"pen{n}_0.png" for n in range(6)], ["cow"])
    assert "there are no test frames" in detected(tmp_path, "held_out: 0.3").warnings[0]


def test_what_is_trained_on_is_no_test(tmp_path: Path) -> None:
    photographs(tmp_path / "data" / "a", ["a.png", "b.png"], ["cow"])
    with pytest.raises(DataError, match=r"a\.png: is to be trained on and is a test frame"):
        detected(tmp_path, "train: a/annotations.json, test: a")


def test_split_files_with_images_elsewhere(tmp_path: Path) -> None:
    path = photographs(tmp_path / "data" / "pens", [f"pen{n}_0.png" for n in range(6)], ["cow"])
    train, test = split_frames(read_frames(path), 0.4, 0)
    write_split(train, test, path.parent, tmp_path / "data" / "split")
    data = detected(tmp_path, "train: split/train.json, test: split/test.json, images: pens")
    assert data.test is not None
    assert data.test.paths == test.paths


def test_a_detector_alone_needs_no_crops(tmp_path: Path) -> None:
    photographs(tmp_path / "data", [f"pen{number}_0.png" for number in range(6)], ["cow"])
    text = "name: r\ndata: {frames: {test_every: 3}}\ndetector: {}\n"
    loaded = load_data(recipe(tmp_path, text), tmp_path / "data", tmp_path / "work", silent)
    assert loaded.crops is None
    assert loaded.frames is not None
    assert len(loaded.frames.all_paths()) == 6
