from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import UsageError
from edge.video import write_video
from trainer.labelling.places import Place, find_places


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "Pen 3.mp4"
    write_video(path, [np.full((64, 96, 3), 40 * n, np.uint8) for n in range(5)], 10)
    return path


def test_a_video_is_called_by_its_stem(video: Path) -> None:
    assert find_places([str(video)]) == [Place(str(video), "Pen-3", False, str(video), 5)]
    (place,) = find_places([f"night={video}"])
    assert (place.camera, place.url) == ("night", str(video))


def test_a_folder_of_videos_is_each_of_them(video: Path) -> None:
    (video.parent / "b.mp4").write_bytes(video.read_bytes())
    (video.parent / "notes.txt").write_text("x")
    assert [place.camera for place in find_places([str(video.parent)])] == ["Pen-3", "b"]
    with pytest.raises(UsageError, match="holds 2 videos"):
        find_places([f"pen={video.parent}"])


def test_a_folder_of_images_is_one_source(tmp_path: Path) -> None:
    folder = tmp_path / "stills"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), np.zeros((8, 8, 3), np.uint8))
    assert find_places([str(folder)]) == [Place(str(folder), "stills", False, str(folder), 3)]
    write_video(folder / "a.mp4", [np.zeros((64, 96, 3), np.uint8)], 10)
    with pytest.raises(UsageError, match="holds videos and images"):
        find_places([str(folder)])


def test_cameras_are_called_by_host_or_device_and_secrets_are_not_shown() -> None:
    rtsp, device = find_places(["rtsp://me:secret@10.0.0.7:554/s?key=x", "/dev/video0"])
    assert (rtsp.camera, rtsp.live) == ("10.0.0.7", True)
    assert "secret" not in rtsp.shown
    assert "secret" in rtsp.url
    assert (device.camera, device.live) == ("video0", True)
    (named,) = find_places(["pen-3=rtsp://10.0.0.7/s?a=b"])
    assert (named.camera, named.url) == ("pen-3", "rtsp://10.0.0.7/s?a=b")


def test_a_file_whose_name_looks_like_a_named_source(video: Path, tmp_path: Path) -> None:
    path = tmp_path / "a=b.mp4"
    path.write_bytes(video.read_bytes())
    assert find_places([str(path)])[0].camera == "a-b"


def test_names_are_unique(video: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"would both be called '10.0.0.7'.*NAME="):
        find_places(["rtsp://10.0.0.7/1", "rtsp://10.0.0.7/2"])
    with pytest.raises(UsageError, match="would both be called"):
        find_places([f"pen={video}", f"PEN={video}"])
    assert len(find_places(["a1=rtsp://10.0.0.7/1", "a2=rtsp://10.0.0.7/2"])) == 2


def test_what_is_no_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such video or folder"):
        find_places([str(tmp_path / "gone.mp4")])
    with pytest.raises(UsageError, match="no source of this kind"):
        find_places(["ftp://host/video"])
