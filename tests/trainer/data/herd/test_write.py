from __future__ import annotations

import configparser
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge import video as video_module
from edge.errors import DataError, EarmarkError
from trainer.data.crops import load_image, read_crops
from trainer.data.herd import Herd, HerdOptions, SessionPlan, simulate, write_clip, write_video

WIDTH, HEIGHT = 640, 360
SESSIONS = (
    SessionPlan("cam1-day-0", 1, "day", 0, 6),
    SessionPlan("cam2-day-0", 2, "day", 0, 6),
    SessionPlan("cam1-night-0", 1, "night", 1, 4),
)
OPTIONS = HerdOptions(
    animals=5,
    width=WIDTH,
    height=HEIGHT,
    fps=1.0,
    sessions=SESSIONS,
    video=False,
    crop_every=2,
    frame_every=3,
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("herd") / "out"
    simulate(folder, OPTIONS)
    return folder


def read_json(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def mot_rows(out: Path, session: str) -> np.ndarray:
    return np.loadtxt(out / "mot" / session / "gt" / "gt.txt", delimiter=",", ndmin=2)


def test_pictures_are_listed_with_boxes_inside_them(out: Path) -> None:
    coco = read_json(out / "annotations.json")
    assert [entry["file_name"] for entry in coco["images"]] == [
        *("frames/cam1-day-0/000000.jpg", "frames/cam1-day-0/000003.jpg"),
        *("frames/cam2-day-0/000000.jpg", "frames/cam2-day-0/000003.jpg"),
        *("frames/cam1-night-0/000000.jpg", "frames/cam1-night-0/000003.jpg"),
    ]
    assert coco["categories"] == [{"id": 1, "name": "animal"}]
    for entry in coco["images"]:
        assert load_image(out / entry["file_name"]).shape == (HEIGHT, WIDTH, 3)
        assert entry["camera"] == entry["session"].split("-")[0]
    ids = {entry["id"] for entry in coco["images"]}
    seen = Counter((box["image_id"], box["animal_id"]) for box in coco["annotations"])
    assert max(seen.values()) == 1
    assert len({box["id"] for box in coco["annotations"]}) == len(coco["annotations"]) >= 20
    for box in coco["annotations"]:
        x, y, width, height = box["bbox"]
        assert box["image_id"] in ids
        assert min(x, y) >= 0
        assert min(width, height) > 0
        assert x + width <= WIDTH
        assert y + height <= HEIGHT
        assert box["area"] == width * height
        assert 0 < box["visibility"] <= 1


def test_boxes_and_tracks_tell_the_same(out: Path) -> None:
    coco = read_json(out / "annotations.json")
    images = {entry["id"]: entry for entry in coco["images"]}
    for box in coco["annotations"]:
        image = images[box["image_id"]]
        rows = mot_rows(out, image["session"])
        # MOTChallenge counts frames from 1.
        row = rows[(rows[:, 0] == image["frame_index"] + 1) & (rows[:, 1] == box["track_id"])]
        assert row.shape == (1, 9)
        assert row[0, 2:6].tolist() == box["bbox"]
        assert row[0, 8] == pytest.approx(box["visibility"], abs=2e-3)


def test_a_track_is_one_animal(out: Path) -> None:
    boxes = read_json(out / "annotations.json")["annotations"]
    pairs = {(box["animal_id"], box["track_id"]) for box in boxes}
    assert len(pairs) == len({pair[0] for pair in pairs}) == len({pair[1] for pair in pairs})


def test_sequences_describe_themselves(out: Path) -> None:
    for plan in SESSIONS:
        info = configparser.ConfigParser()
        info.read(out / "mot" / plan.name / "seqinfo.ini")
        assert info.getint("Sequence", "seqLength") == plan.frames
        assert info.getint("Sequence", "imWidth") == WIDTH
        assert mot_rows(out, plan.name)[:, 0].max() == plan.frames


def test_crops_are_read_back_with_their_sessions_and_sizes(out: Path) -> None:
    crops = read_crops(out / "crops")
    assert set(crops.animals) <= set(OPTIONS.animal_ids())
    assert set(crops.sessions) == {plan.name for plan in SESSIONS}
    for path, animal, session in zip(crops.paths, crops.names(), crops.sessions, strict=True):
        frame = int(path.stem.rpartition("_")[2])
        assert frame % 2 == 0
        rows = mot_rows(out, session)
        track = OPTIONS.animal_ids().index(animal) + 1
        row = rows[(rows[:, 0] == frame + 1) & (rows[:, 1] == track)][0]
        height, width = load_image(path).shape[:2]
        # Off by a detector's error, not by more.
        assert abs(width - row[4]) <= 0.2 * row[4] + 2
        assert abs(height - row[5]) <= 0.2 * row[5] + 2
        assert row[8] >= 0.6


def test_the_herd_is_described(out: Path) -> None:
    herd = read_json(out / "herd.json")
    assert [entry["id"] for entry in herd["animals"]] == list(OPTIONS.animal_ids())
    assert herd["options"]["sessions"][0]["name"] == "cam1-day-0"


def test_the_same_options_write_the_same_bytes(out: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "again", replace(OPTIONS, sessions=SESSIONS[:1]))
    for path in sorted((tmp_path / "again").rglob("*.jpg")):
        assert path.read_bytes() == (out / path.relative_to(tmp_path / "again")).read_bytes()


def test_nothing_is_left_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="no such folder"):
        simulate(tmp_path / "out", replace(OPTIONS, sprites=tmp_path / "missing"))

    def broken(self: Herd, plan: SessionPlan) -> Any:
        raise EarmarkError("the lamp broke")
        yield

    monkeypatch.setattr(Herd, "render", broken)
    with pytest.raises(EarmarkError, match="the lamp broke"):
        simulate(tmp_path / "out", OPTIONS)
    herd = Herd(OPTIONS)
    with pytest.raises(EarmarkError, match="the lamp broke"):
        write_clip(tmp_path / "pen.mp4", tmp_path / "truth.json", herd, SESSIONS[0])
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    simulate(
        tmp_path / "out",
        replace(OPTIONS, sessions=SESSIONS[:2], animals=2),
        lambda done, total, note="": calls.append((done, total)),
    )
    assert calls == [(done, 12) for done in range(1, 13)]


@pytest.mark.slow
@pytest.mark.parametrize("with_ffmpeg", [True, False])
def test_a_clip_is_a_video_and_its_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_ffmpeg: bool
) -> None:
    if not with_ffmpeg:
        monkeypatch.setattr(video_module.shutil, "which", lambda name: None)
    herd = Herd(replace(OPTIONS, fps=12.0))
    plan = SessionPlan("pen", 1, "day", 9, 8)
    write_clip(tmp_path / "pen.mp4", tmp_path / "truth.json", herd, plan)
    assert {path.name for path in tmp_path.iterdir()} == {"pen.mp4", "truth.json"}
    truth = read_json(tmp_path / "truth.json")
    assert truth["animals"] == list(herd.animals)
    assert (truth["fps"], truth["width"], truth["height"]) == (12.0, WIDTH, HEIGHT)
    frames = list(herd.render(plan))
    assert len(truth["boxes"]) == sum(len(frame.animals) for frame in frames)
    for number, animal, *box, percent in truth["boxes"]:
        row = frames[number].animals.index(herd.animals[animal])
        assert frames[number].boxes[row].tolist() == box
        assert percent == round(100 * float(frames[number].visibility[row]))
    capture = cv2.VideoCapture(str(tmp_path / "pen.mp4"))
    for frame in frames:
        good, image = capture.read()
        assert good
        assert np.abs(image[..., ::-1].astype(int) - frame.image).mean() < 6
    assert not capture.read()[0]
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(12.0, abs=0.01)


@pytest.mark.slow
def test_sessions_get_their_videos(tmp_path: Path) -> None:
    simulate(tmp_path / "out", replace(OPTIONS, video=True, animals=2))
    names = {path.name for path in (tmp_path / "out" / "videos").iterdir()}
    assert names == {f"{plan.name}.mp4" for plan in SESSIONS}


@pytest.mark.slow
def test_a_video_that_cannot_be_encoded_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    # H.264 with 4:2:0 colour needs even sides.
    odd = [np.zeros((33, 35, 3), np.uint8)] * 3
    if video_module.shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on PATH")
    with pytest.raises(EarmarkError, match=r"v\.mp4: ffmpeg could not write the video"):
        write_video(tmp_path / "v.mp4", odd, 12.0)
    with pytest.raises(EarmarkError, match="no frames"):
        write_video(tmp_path / "v.mp4", [], 12.0)
    assert list(tmp_path.iterdir()) == []
