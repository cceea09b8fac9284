"""`earmark-trainer crops …`: from annotations, and from video to named crops, on real pixels."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.demo.truth import TruthIndex, load_truth
from edge.errors import DataError, UsageError
from edge.video import write_video
from trainer.cli import main
from trainer.data.crops import read_crops
from trainer.labelling.tracklets import Proposal, load_proposal

DEMO = Path(__file__).parents[3] / "models" / "demo"


def run(*arguments: object) -> int:
    return main(["crops", *map(str, arguments)])


@pytest.fixture
def tracks(tmp_path: Path) -> Path:
    """A video of twelve frames, and CVAT tracks of two animals in it and of one without an id."""
    frames = []
    for number in range(12):
        picture = np.full((96, 128, 3), 60, np.uint8)
        picture[10:40, 10 + number : 50 + number] = (200, 30, 30)
        picture[50:90, 70:110] = (30, 30, 200)
        frames.append(picture)
    write_video(tmp_path / "pen.mp4", frames, 10, crf=10)

    def box(frame: int, *corners: int, outside: int = 0, animal: str = "") -> str:
        x1, y1, x2, y2 = corners
        named = f'<attribute name="animal">{animal}</attribute>' if animal else ""
        return (
            f'<box frame="{frame}" xtl="{x1}" ytl="{y1}" xbr="{x2}" ybr="{y2}" '
            f'outside="{outside}">{named}</box>'
        )

    red = "".join(box(n, 10 + n, 10, 50 + n, 40, animal="red-1") for n in range(12))
    blue = "".join(box(n, 70, 50, 110, 90, animal="blue-1") for n in range(12))
    other = "".join(box(n, 2, 60, 40, 90) for n in range(12))
    (tmp_path / "pen.xml").write_text(
        "<annotations><meta><task><source>pen.mp4</source></task></meta>"
        + "".join(f'<track id="{n}" label="pig">{t}</track>' for n, t in enumerate((red, blue)))
        + f'<track id="2" label="pig">{other}</track></annotations>'
    )
    return tmp_path


def test_cut_from_a_video(tracks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tracks / "crops"
    source = (tracks / "pen.xml", "--video", tracks / "pen.mp4", "--every", 5, "--jitter", 0)
    assert run("cut", *source, "--out", out) == 0
    assert capsys.readouterr().out == (
        f"crops {out}: 6 crops of 2 animals in 1 session\n"
        "left out: 3 without an id\n"
        "in a single session, so never held out: blue-1, red-1\n"
        "fewer than 10 crops: blue-1 (3), red-1 (3)\n"
    )
    names = sorted(path.name for path in (out / "red-1").iterdir())
    assert names == ["pen_000000.jpg", "pen_000005.jpg", "pen_000010.jpg"]
    for name in names:
        crop = cv2.cvtColor(cv2.imread(str(out / "red-1" / name)), cv2.COLOR_BGR2RGB)
        assert crop.shape == (30, 40, 3)
        # Red from one side to the other: the box moved with the animal.
        np.testing.assert_allclose(crop[5:-5, 3:-3].mean(axis=(0, 1)), (200, 30, 30), atol=30)
    assert [path.name for path in tracks.iterdir() if path.name.startswith(".")] == []


def test_cut_says_what_cannot_be(tracks: Path) -> None:
    out = tracks / "crops"
    out.mkdir()
    with pytest.raises(UsageError, match="exists already"):
        run("cut", tracks / "pen.xml", "--out", out)
    with pytest.raises(UsageError, match="exclude each other"):
        run("cut", tracks, "--video", tracks, "--images", tracks, "--out", tracks / "new")
    with pytest.raises(DataError, match="holds no images of it"):
        run("cut", tracks / "pen.xml", "--out", tracks / "new")
    assert not (tracks / "new").exists()


def test_propose_says_what_cannot_be(tmp_path: Path) -> None:
    clip, out = DEMO / "pen.mp4", tmp_path / "out"
    with pytest.raises(UsageError, match="give --bundle"):
        run("propose", clip, "--out", out)
    with pytest.raises(UsageError, match="--spec goes with --detector"):
        run("propose", clip, "--bundle", DEMO / "bundle", "--spec", tmp_path, "--out", out)
    with pytest.raises(UsageError, match=r"none\.tflite: no such file"):
        run("propose", clip, "--detector", tmp_path / "none.tflite", "--out", out)
    with pytest.raises(
        UsageError, match=r"detector\.json: does not say how detector\.tflite is fed"
    ):
        run("propose", clip, "--detector", DEMO / "bundle" / "detector.tflite", "--out", out)
    with pytest.raises(UsageError, match="no such video"):
        run("propose", tmp_path / "none.mp4", "--bundle", DEMO / "bundle", "--out", out)
    out.mkdir()
    with pytest.raises(UsageError, match="exists already"):
        run("propose", clip, "--bundle", DEMO / "bundle", "--out", out)


def test_a_video_without_animals_leaves_nothing_behind(tmp_path: Path) -> None:
    write_video(tmp_path / "dark.mp4", [np.zeros((96, 128, 3), np.uint8)] * 5, 10)
    with pytest.raises(UsageError, match=r"no tracklets found .5 frames looked at; no animals"):
        run("propose", tmp_path / "dark.mp4", "--bundle", DEMO / "bundle", "--out", tmp_path / "o")
    assert [path.name for path in tmp_path.iterdir()] == ["dark.mp4"]


def majority(proposal: Proposal, truth: TruthIndex) -> dict[str, list[str | None]]:
    """Return the true animal of each crop of each tracklet, by the boxes they were cut from."""
    size = np.array([truth.truth.width, truth.truth.height] * 2)
    shown: dict[str, list[str | None]] = {}
    for tracklet in proposal.tracklets:
        boxes = [(crop.frame, np.array(crop.box) / size) for crop in tracklet.crops]
        shown[tracklet.name] = [truth.animal_at(frame, tuple(box)) for frame, box in boxes]
    return shown


@pytest.mark.slow
def test_from_video_to_named_crops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo clip: 16 animals in 30 seconds, named by the truth; the rest is the commands'."""
    found, out = tmp_path / "found", tmp_path / "crops"
    arguments = ("propose", DEMO / "pen.mp4", "--bundle", DEMO / "bundle", "--out", found)
    assert run(*arguments) == 0
    assert (found / "index.html").stat().st_size > 100_000
    proposal = load_proposal(found)
    truth = TruthIndex(load_truth(DEMO / "truth.json"))
    shown = majority(proposal, truth)
    animals = {name: Counter(crops).most_common(1)[0][0] for name, crops in shown.items()}
    # What was seen together is never one animal, and most animals were found.
    for tracklet in proposal.tracklets:
        assert animals[tracklet.name] not in [animals[other] for other in tracklet.together]
    assert len(set(animals.values()) - {None}) >= 12
    right = sum(c == animals[name] for name, crops in shown.items() for c in crops)
    total = sum(map(len, shown.values()))
    print(f"{right} of {total} crops show their tracklet's animal")
    assert right / total >= 0.99
    # Suggestions are right where they are made, and are made for most: the bundle knows this herd.
    made = [(t.suggestion.animal, animals[t.name]) for t in proposal.tracklets if t.suggestion]
    assert len(made) >= 0.8 * len(animals)
    assert sum(said == true for said, true in made) >= 0.95 * len(made)
    alike = [(animals[t.name], animals[t.alike[0][0]]) for t in proposal.tracklets if t.alike]
    assert len(alike) >= 10
    assert sum(one == two for one, two in alike) >= 0.9 * len(alike)

    left = next(iter(animals))
    with (tmp_path / "names.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tracklet", "animal"])
        writer.writerows((name, animal) for name, animal in animals.items() if name != left)
    capsys.readouterr()
    named = ("name", found, "--names", tmp_path / "names.csv", "--out", out)
    assert run(*named) == 0
    told = capsys.readouterr().out
    assert f"without a name: 1 tracklet ({left})" in told
    assert "in a single session, so never held out: pig01" in told
    crops = read_crops(out)
    assert len(crops) == total - len(shown[left])
    assert set(crops.sessions) == {"pen"}
    with pytest.raises(UsageError, match="exists already"):
        run(*named)
    assert run(*named, "--merge") == 0
    assert f"{len(crops)} were there already" in capsys.readouterr().out
    assert len(read_crops(out)) == len(crops)


@pytest.mark.slow
def test_neither_tensorflow_nor_matplotlib_is_needed(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'matplotlib', 'pycocotools'):\n"
        "    sys.modules[name] = None\n"
        "from trainer.cli import main\n"
        f"demo, out = {str(DEMO)!r}, {str(tmp_path)!r}\n"
        "model = ['--detector', demo + '/bundle/detector.tflite', '--spec', demo + '/bundle']\n"
        "clip = ['stall=' + demo + '/pen.mp4', '--seconds', '4', '--every', '2']\n"
        "code = main(['crops', 'propose', *clip, *model, '--out', out + '/found'])\n"
        "assert code == 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "found" / "tracklets.json").read_text())
    assert content["bundle"] is None
    assert {t["session"] for t in content["tracklets"]} == {"stall"}
    assert {t["frames"] for t in content["tracklets"]} <= set(range(20, 25))
    assert all(crop["frame"] % 2 == 0 for t in content["tracklets"] for crop in t["crops"])
