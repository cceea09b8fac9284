from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.files import write_atomically
from edge.health import CropRing, Release
from edge.identity.types import Track
from edge.pipeline import FrameResult
from edge.vision.types import Detections, Frame
from trainer.data.crops import read_crops

START = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)


def frame(second: float, *, wall: bool = True) -> Frame:
    image = np.full((100, 200, 3), (10, 200, 30), np.uint8)
    when = datetime.fromtimestamp(START.timestamp() + second, UTC) if wall else None
    return Frame(image, "pen-1", int(second * 10), second, when)


def track(number: int, animal: str | None = None, **changes: Any) -> Track:
    fields: dict[str, Any] = {
        "id": number,
        "box": np.array([20, 10, 60, 50], np.float32),
        "score": 0.9,
        "age_frames": 9,
        "first_seen_s": 0.0,
        "last_seen_s": 1.0,
        "animal": animal,
        "reason": None if animal else "unknown",
        "confidence": 0.8,
        "distance": 0.2,
        "margin": 0.4,
        "votes": {"cow001": 3},
        "settled": True,
        "seen": True,
    }
    return Track(**{**fields, **changes})


def result(*tracks: Track, ended: tuple[Track, ...] = ()) -> FrameResult:
    return FrameResult(0, tracks, ended, Detections.empty())


def ring(folder: Path, keep: int = 50, warnings: list[str] | None = None) -> CropRing:
    said = [] if warnings is None else warnings
    return CropRing(folder, keep, lambda: Release("abc", 7), said.append)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob("*/*/*"))


def test_a_crop_and_what_was_known_of_it(tmp_path: Path) -> None:
    crops = ring(tmp_path)
    crops(frame(3.5), result(track(4, "cow001", margin=float("inf")), track(5)))
    crops.close()
    assert names(tmp_path) == [
        "named/cow001/pen-1-20260504_120003500-4.jpg",
        "named/cow001/pen-1-20260504_120003500-4.json",
        "unnamed/unknown/pen-1-20260504_120003500-5.jpg",
        "unnamed/unknown/pen-1-20260504_120003500-5.json",
    ]
    facts = json.loads((tmp_path / names(tmp_path)[1]).read_text())
    assert facts == {
        "camera": "pen-1",
        "track": 4,
        "animal": "cow001",
        "reason": None,
        "confidence": 0.8,
        "distance": 0.2,
        "margin": None,
        "votes": {"cow001": 3},
        "box": [0.1, 0.1, 0.3, 0.5],
        "score": 0.9,
        "time": "2026-05-04T12:00:03.500+00:00",
        "release": "abc",
        "means_seq": 7,
    }
    image = cv2.imread(str(tmp_path / names(tmp_path)[0]))
    assert image.shape == (40, 40, 3)
    assert abs(image[20, 20].astype(int) - (30, 200, 10)).max() < 6


def test_the_trainer_reads_what_is_named(tmp_path: Path) -> None:
    crops = ring(tmp_path)
    crops(frame(1), result(track(1, "cow001"), track(2, "cow002"), track(3)))
    crops.close()
    found = read_crops(tmp_path / "named")
    assert found.animals == ("cow001", "cow002")
    assert set(found.sessions) == {"pen-1-20260504"}


def test_how_often_a_track_is_kept(tmp_path: Path) -> None:
    crops = ring(tmp_path)
    doubtful = {2: track(2, "cow002", margin=0.05), 3: track(3), 4: track(4, None, settled=False)}
    for second in range(0, 700, 10):
        name = "cow001" if second < 300 else "cow009"
        crops(frame(second), result(track(1, name), track(5, "cow005"), *doubtful.values()))
        while not crops._waiting.empty():
            pass
    crops.close()
    counts: dict[str, int] = {}
    for path in tmp_path.glob("*/*/*.jpg"):
        counts[path.stem.rpartition("-")[2]] = counts.get(path.stem.rpartition("-")[2], 0) + 1
    # Every minute the doubtful ones; the others at first, when their name changes, at ten minutes.
    assert counts == {"1": 2, "2": 12, "3": 12, "5": 2}


def test_an_animal_that_is_lost_and_found_does_not_fill_the_ring(tmp_path: Path) -> None:
    crops = ring(tmp_path, keep=1000)
    for number in range(360):  # a new track every ten seconds, for an hour
        narrow = track(1000 + number, "cow002", margin=0.05)
        crops(frame(10 * number), result(track(number, "cow001"), narrow))
        while not crops._waiting.empty():
            pass
    crops.close()
    counts = {folder.name: len(list(folder.glob("*.jpg"))) for folder in tmp_path.glob("*/*")}
    assert counts == {"cow001": 6, "cow002": 60}


def test_a_new_name_is_kept_though_the_animal_was_just_seen(tmp_path: Path) -> None:
    crops = ring(tmp_path)
    crops(frame(0), result(track(1, "cow001"), track(2, "cow002")))
    crops(frame(5), result(track(1, "cow002")))
    crops.close()
    jpegs = [name.rpartition("/")[2] for name in names(tmp_path) if name.endswith("jpg")]
    assert jpegs == [
        "pen-1-20260504_120000000-1.jpg",
        "pen-1-20260504_120000000-2.jpg",
        "pen-1-20260504_120005000-1.jpg",
    ]


def test_each_camera_keeps_its_own(tmp_path: Path) -> None:
    crops = ring(tmp_path)
    crops(frame(0), result(track(1, "cow001")))
    crops(replace(frame(0), camera="pen-2"), result(track(1, "cow001")))
    crops.close()
    assert len(list(tmp_path.glob("named/cow001/*.jpg"))) == 2


def test_only_the_newest_stay_also_after_a_restart(tmp_path: Path) -> None:
    for start in (0, 10):
        crops = ring(tmp_path, keep=3)
        for number in range(4):
            crops(frame(start + number), result(track(start + number, f"cow{start + number:03d}")))
        crops.close()
        for order, path in enumerate(sorted(tmp_path.glob("*/*/*.jpg"))):
            os.utime(path, (order + 1, order + 1))
    assert [name for name in names(tmp_path) if name.endswith("jpg")] == [
        f"named/cow{n:03d}/pen-1-20260504_1200{n}000-{n}.jpg" for n in (11, 12, 13)
    ]
    assert len(names(tmp_path)) == 6
    assert sorted(path.name for path in (tmp_path / "named").iterdir()) == [
        "cow011",
        "cow012",
        "cow013",
    ]


def test_without_a_clock_files_are_numbered(tmp_path: Path) -> None:
    crops = ring(tmp_path)
    crops(frame(2, wall=False), result(track(1, "cow001")))
    crops.close()
    assert names(tmp_path)[0] == "named/cow001/pen-1-undated_000000020-1.jpg"


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path: Path) -> None:
    (tmp_path / "crops").write_text("a file is in the way")
    warnings: list[str] = []
    crops = ring(tmp_path / "crops", warnings=warnings)
    for number in range(3):
        crops(frame(number), result(track(number)))
    crops.close()
    assert len(warnings) == 1
    assert "crops cannot be kept" in warnings[0]


def test_a_full_disk_leaves_no_facts_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".jpg":
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, data)

    monkeypatch.setattr("edge.health.crops.write_atomically", full)
    warnings: list[str] = []
    crops = ring(tmp_path, keep=2, warnings=warnings)
    for number in range(5):
        crops(frame(number), result(track(number)))
    crops.close()
    assert names(tmp_path) == []
    assert len(warnings) == 1


def test_facts_alone_of_a_run_that_was_cut_off_are_removed(tmp_path: Path) -> None:
    alone = tmp_path / "named" / "cow001" / "pen-1-20260504_120003500-4.json"
    alone.parent.mkdir(parents=True)
    alone.write_text("{}")
    crops = ring(tmp_path)
    crops.close()
    assert not alone.exists()


def test_numbered_files_come_again_after_a_restart_and_count_once(tmp_path: Path) -> None:
    for _ in range(2):
        crops = ring(tmp_path, keep=2)
        for number in range(2):
            crops(frame(number, wall=False), result(track(number, f"cow00{number}")))
        crops.close()
    assert len([name for name in names(tmp_path) if name.endswith("jpg")]) == 2


def test_a_disk_that_hangs_does_not_keep_the_agent_from_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hang = threading.Event()
    monkeypatch.setattr("edge.health.crops.write_atomically", lambda path, data: hang.wait())
    monkeypatch.setattr("edge.health.crops._CLOSE_S", 0.05)
    crops = ring(tmp_path)
    for number in range(50):
        crops(frame(number), result(track(number)))
    closing = threading.Thread(target=crops.close, daemon=True)
    closing.start()
    closing.join(timeout=30)
    ended = not closing.is_alive()
    hang.set()
    assert ended


def test_tracks_that_end_with_their_camera_are_forgotten(tmp_path: Path) -> None:
    crops = ring(tmp_path)
    crops(frame(0), result(track(1, "cow001")))
    crops(frame(599), result(track(2, "cow002")))
    assert len(crops._tracks) == len(crops._kept_s) == 2
    crops(frame(600), result())
    assert [number for _, number in crops._tracks] == [2]
    assert [animal for _, animal in crops._kept_s] == ["cow002"]
    crops.close()


@pytest.mark.parametrize("state", [{"seen": False}, {"settled": False}])
def test_what_is_not_seen_or_not_yet_settled_is_left_out(
    tmp_path: Path, state: dict[str, bool]
) -> None:
    crops = ring(tmp_path)
    crops(frame(1), result(track(1, "cow001", **state)))
    crops.close()
    assert names(tmp_path) == []
