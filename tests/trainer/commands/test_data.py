"""`earmark-trainer data …` on a small set that the test draws."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from edge.errors import DataError, UsageError
from trainer.cli import main
from trainer.data.annotations import read_frames


@pytest.fixture
def pens(tmp_path: Path) -> Path:
    """A COCO folder: three pens of two frames each, 80x60 pixels, an animal in every frame."""
    root = tmp_path / "pens"
    images, annotations = [], []
    rng = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    for row in range(6):
        name = f"images/pen{row // 2}_{row % 2}.png"
        cv2.imwrite(str(root / name), rng.integers(0, 255, (60, 80, 3)).astype(np.uint8))
        images.append({"id": row, "file_name": name, "width": 80, "height": 60})
        box = [4.125 + row, 5, 20.7, 30]
        annotations.append(
            {"id": row, "image_id": row, "category_id": 1, "bbox": box, "animal_id": "cow-1"}
        )
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cow"}],
    }
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def run(*arguments: object) -> int:
    return main(["data", *map(str, arguments)])


def test_check_prints_and_writes_what_it_found(
    pens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("check", pens) == 0
    assert capsys.readouterr().out == (
        "6 frames of 3 sessions, 6 boxes (cow 6), 1 animal with ids: 0 errors, 0 warnings\n"
    )
    (pens / "images" / "pen2_1.png").unlink()
    (pens / "images" / "pen0_0.png").write_bytes(b"no picture")
    (pens / "images" / "pen9_0.png").write_bytes((pens / "images" / "pen1_0.png").read_bytes())
    assert run("check", pens, "--json", tmp_path / "found.json") == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "error: broken image (1)"
    assert lines[2] == "error: missing image (1)"
    assert lines[4] == "warning: image without annotations (1)"
    assert lines[-1].endswith("2 errors, 1 warning")
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["errors"], found["warnings"], found["frames"]) == (2, 1, 5)
    assert found["problems"][0]["kind"] == "missing image"
    assert "pen2_1.png" in found["problems"][0]["message"]


def test_check_shows_a_few_of_each_kind(pens: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for image in (pens / "images").iterdir():
        image.unlink()
    assert run("check", pens, "--show", 2) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "error: missing image (6)"
    assert lines[3] == "  … and 4 more (--show N, --json FILE)"
    assert len(lines) == 5


def test_warnings_alone_end_in_0(pens: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = pens / "images"
    (images / "pen1_0.png").write_bytes((images / "pen0_0.png").read_bytes())
    assert run("check", pens) == 0
    assert "warning: duplicate image (1)" in capsys.readouterr().out


def test_convert_through_all_formats(
    pens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = pens
    for format in ("cvat", "voc", "coco", "yolo"):
        assert run("convert", source, "--to", format, "--out", tmp_path / format) == 0
        source = tmp_path / format
    captured = capsys.readouterr()
    assert "yolo" in captured.out
    assert "note: YOLO has no room for animals' ids" in captured.err
    first, last = read_frames(pens), read_frames(source)
    assert first.sessions == last.sessions
    for a, b in zip(first.boxes, last.boxes, strict=True):
        np.testing.assert_array_equal(a, b)
    assert read_frames(tmp_path / "coco").animals == first.animals
    with pytest.raises(UsageError, match="exists already"):
        run("convert", pens, "--to", "coco", "--out", tmp_path / "coco")


def test_convert_takes_frames_from_videos(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    writer = cv2.VideoWriter(
        str(videos / "01_day.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (160, 120)
    )
    for grey in range(7):
        writer.write(np.full((120, 160, 3), 30 * grey, np.uint8))
    writer.release()
    points = np.zeros((4, 7, 1))
    points[:] = np.array([80, 60, 60, 60])[:, None, None]
    entry = np.empty((1, 2), object)
    entry[0, 0], entry[0, 1] = points, points
    savemat(tmp_path / "LocationSelected.mat", {"LocationSelected": entry})
    mat, out = tmp_path / "LocationSelected.mat", tmp_path / "out"
    assert run("convert", mat, "--to", "voc", "--out", out, "--video", videos, "--every", 3) == 0
    assert "annotates 'video02', of which there is no video" in capsys.readouterr().err
    frames = read_frames(out)
    assert [path.name for path in frames.paths] == [f"video01_{n:06}.jpg" for n in (0, 3, 6)]
    assert frames.sessions == ("video01",) * 3
    # The back is 20 pixels long, its rear at (60, 60).
    np.testing.assert_allclose(frames.boxes[0], [[44, 52, 88, 68]])
    assert abs(float(cv2.imread(str(frames.paths[1])).mean()) - 90) < 3
    # Taken frames leave nothing beside the new folder, also where that fails.
    with pytest.raises(DataError, match="has no video of 'video01'"):
        run("convert", mat, "--to", "voc", "--out", tmp_path / "b", "--video", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "LocationSelected.mat",
        "out",
        "videos",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--every", "2"], "--every is for frames of a --video"),
        (["--video", "v.mp4", "--images", "d"], "--images and --video exclude each other"),
        (["--video", "v.mp4"], "is coco, which annotates images; it needs no --video"),
    ],
)
def test_convert_refuses_what_cannot_be(
    pens: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        run("convert", pens, "--to", "voc", "--out", tmp_path / "out", *arguments)
    assert not (tmp_path / "out").exists()


def test_split_keeps_sessions_whole(
    pens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("split", pens, "--out", pens, "--test", 0.3) == 0
    out = capsys.readouterr().out
    assert f"{pens}/test.json: 2 frames of 1 session, 2 boxes" in out
    assert "--images" not in out
    train, test = (read_frames(pens / f"{name}.json") for name in ("train", "test"))
    assert set(train.sessions).isdisjoint(test.sessions)
    assert len(train) == 4
    assert run("split", pens / "annotations.json", "--out", tmp_path / "s") == 0
    assert f"read them with --images {pens}" in capsys.readouterr().out
    assert len(read_frames(tmp_path / "s" / "train.json", images=pens)) == 4


def test_split_by_name_is_refused_for_neighbouring_frames(
    pens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="3 of 3 sessions on both sides"):
        run("split", pens, "--out", tmp_path / "s", "--every", 2)
    assert not (tmp_path / "s").exists()
    assert run("split", pens, "--out", tmp_path / "s", "--every", 2, "--force") == 0
    assert "warning: sessions are on both sides" in capsys.readouterr().err
    test = read_frames(tmp_path / "s" / "test.json", images=pens)
    assert [path.name for path in test.paths] == [f"pen{pen}_1.png" for pen in range(3)]
    with pytest.raises(UsageError, match="leave out --by and --test"):
        run("split", pens, "--out", tmp_path / "t", "--every", 2, "--by", "date")
    with pytest.raises(UsageError, match="--force is for --every and for --by session"):
        run("split", pens, "--out", tmp_path / "t", "--by", "date", "--force")
    with pytest.raises(DataError, match="names no date"):
        run("split", pens, "--out", tmp_path / "t", "--by", "date")


def test_frames_without_sessions_are_split_only_by_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = []
    for row in range(10):
        images.append({"id": row, "file_name": f"{row:04}.png"})
        cv2.imwrite(str(tmp_path / f"{row:04}.png"), np.full((20, 40, 3), 20 * row, np.uint8))
    content = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cow"}]}
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"0000\.png: its name gives no session"):
        run("split", tmp_path, "--out", tmp_path / "s")
    assert run("split", tmp_path, "--out", tmp_path / "s", "--force") == 0
    assert "warning: frames were split without knowing" in capsys.readouterr().err
    assert run("split", tmp_path, "--out", tmp_path / "e", "--every", 5) == 0
    assert "warning: frames were split without knowing" in capsys.readouterr().err
    # What was written states each one's session, and still gives none.
    with pytest.raises(DataError, match="its name gives no session"):
        run("split", tmp_path / "e" / "train.json", "--images", tmp_path, "--out", tmp_path / "f")


def test_preview_draws_a_sheet(
    pens: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("preview", pens, "--out", tmp_path / "sheet.jpg", "--count", 4) == 0
    assert f"preview {tmp_path}/sheet.jpg (4 of 6 frames)" in capsys.readouterr().out
    assert cv2.imread(str(tmp_path / "sheet.jpg")).shape[1] == 2 * 486 + 6


@pytest.mark.slow
def test_a_broken_file_is_one_line_and_no_tensorflow_is_needed(pens: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'matplotlib'): sys.modules[name] = None\n"
        "from trainer.cli import entry\n"
        "entry()\n"
    )

    def process(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, "data", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert process("check", pens).returncode == 0
    assert process("preview", pens, "--out", tmp_path / "a.png").returncode == 0
    assert process("split", pens, "--out", tmp_path / "s").returncode == 0
    assert process("convert", pens, "--to", "yolo", "--out", tmp_path / "y").returncode == 0
    (pens / "annotations.json").write_text('{"images": [')
    broken = process("convert", pens, "--to", "yolo", "--out", tmp_path / "z")
    assert broken.returncode == 2
    assert broken.stderr.startswith(f"earmark-trainer: error: {pens}/annotations.json: not COCO")
    assert broken.stderr.count("\n") == 1
    assert not (tmp_path / "z").exists()
