"""What differs between two class means, worked out by hand in two dimensions."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from deploy.cli import main
from deploy.means.diff import (
    Moved,
    Renamed,
    diff_means,
    diff_names,
    lines,
    name_lines,
)
from edge.errors import UsageError
from edge.identity.means import ClassMeans, MeansHeader, save_means

DEMO = Path(__file__).parents[3] / "models" / "demo"


def at(*degrees: float) -> np.ndarray:
    """Unit vectors at angles."""
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def means(herd: dict[str, tuple[float, ...]], **changes: object) -> ClassMeans:
    """Class means of animals by the angles of their prototypes; `outlier` is one."""
    animals = tuple(name for name in herd if name != "outlier")
    owner = [animals.index(name) if name in animals else -1 for name in herd for _ in herd[name]]
    made = ClassMeans(
        animals,
        at(*[angle for angles in herd.values() for angle in angles]),
        np.array(owner, np.int32),
        np.zeros((len(animals), 2)),
        np.zeros(len(animals), np.int64),
        np.full(len(animals), 0.1, np.float32),
        0.05,
        MeansHeader(embedder_sha256="e" * 64),
    )
    return replace(made, **changes)


HERD = {"cow001": (0.0,), "cow002": (90.0,), "cow003": (180.0, 200.0)}


def test_nothing_changed() -> None:
    found = diff_means(means(HERD), means(HERD))
    assert (found.new, found.gone, found.moved, found.same) == ([], [], [], 3)
    assert lines(found) == ["  3 animals as before"]


def test_who_came_who_went_and_who_moved_how_far() -> None:
    new = {"cow001": (60.0,), "cow003": (180.0, 200.0), "cow004": (270.0,), "outlier": (45.0,)}
    found = diff_means(means(HERD), means(new, margin=0.07))
    assert (found.new, found.gone, found.same) == (["cow004"], ["cow002"], 1)
    (moved,) = found.moved
    assert moved.animal == "cow001"
    assert moved.distance == pytest.approx(1 - math.cos(math.radians(60)), abs=1e-5)
    assert (found.margin, found.outliers) == ((0.05, 0.07), (0, 1))
    assert lines(found) == [
        "+ cow004",
        "- cow002",
        "~ cow001: moved by 0.5000",
        "  margin 0.050 → 0.070",
        "  outliers 0 → 1",
        "  1 animals as before",
    ]


def test_a_prototype_that_was_dropped_counts_as_far_as_it_lay() -> None:
    found = diff_means(means(HERD), means({**HERD, "cow003": (180.0,)}))
    (moved,) = found.moved
    assert moved.prototypes == (2, 1)
    assert moved.distance == pytest.approx(1 - math.cos(math.radians(20)), abs=1e-5)


def test_a_threshold_alone() -> None:
    threshold = np.array([0.1, 0.2, 0.1], np.float32)
    found = diff_means(means(HERD), means(HERD, threshold=threshold))
    assert [one.animal for one in found.moved] == ["cow002"]
    assert lines(found)[0] == "~ cow002: moved by 0.0000, threshold 0.100 → 0.200"


def test_other_embedders_cannot_be_compared() -> None:
    other = means(HERD, header=MeansHeader(embedder_sha256="f" * 64))
    found = diff_means(means(HERD), other)
    assert not found.same_embedder
    assert found.moved == []
    assert "different embedders" in lines(found)[0]


def test_which_crops_would_change_name() -> None:
    new = means({"cow001": (0.0,), "cow002": (20.0,), "cow004": (91.0,)})
    crops = at(1.0, 19.0, 90.0, 181.0)
    renamed = diff_names(means(HERD), new, crops, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"])
    assert renamed == [
        Renamed("b.jpg", "cow001", "cow002"),
        Renamed("c.jpg", "cow002", "cow004"),
        Renamed("d.jpg", "cow003", None),
    ]
    told = name_lines(renamed, 4)
    assert told[0] == "3 of 4 crops would get another name"
    assert "  cow003 → nobody: 1, such as d.jpg" in told


def test_crops_of_another_dimension_are_refused() -> None:
    with pytest.raises(UsageError, match="another embedder's"):
        diff_names(means(HERD), means(HERD), np.eye(3, dtype=np.float32), ["a", "b", "c"])


def test_no_crops_no_names() -> None:
    assert diff_names(means(HERD), means(HERD), at(), []) == []
    assert Moved("a", 0.0, (1, 1), (0.1, 0.1)) == Moved("a", 0.0, (1, 1), (0.1, 0.1))


# -- the command -----------------------------------------------------------------------------------


def test_the_command_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_means(means(HERD), tmp_path / "old.npz")
    save_means(means({**HERD, "cow004": (270.0,)}), tmp_path / "new.npz")
    command = ["means", "diff", str(tmp_path / "old.npz"), str(tmp_path / "new.npz")]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[0] == "+ cow004"
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["means"]["new"], found["crops"], found["renamed"]) == (["cow004"], 0, None)
    with pytest.raises(UsageError, match="belong together"):
        main([*command, "--crops", str(tmp_path)])


@pytest.mark.slow
def test_the_command_reads_crops_as_the_device_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    from edge.identity.means import load_means
    from edge.release.selftest import load_self_test

    bundle = DEMO / "bundle"
    crops = load_self_test(bundle / "selftest.npz").crops
    folder = tmp_path / "crops" / "named"
    folder.mkdir(parents=True)
    for number, crop in enumerate(crops):
        cv2.imwrite(str(folder / f"{number}.png"), crop[..., ::-1])
    demo = load_means(bundle / "means.npz")
    gone = replace(demo, threshold=demo.threshold * 0 - 1)
    save_means(gone, tmp_path / "gone.npz")
    command = ["means", "diff", str(bundle / "means.npz"), str(tmp_path / "gone.npz")]
    command += ["--crops", str(tmp_path / "crops"), "--bundle", str(bundle), "--json"]
    assert main(command) == 0
    found = msgspec.json.decode(capsys.readouterr().out)
    assert found["crops"] == len(crops)
    assert found["renamed"]
    assert {one["after"] for one in found["renamed"]} == {None}
    assert {one["before"] for one in found["renamed"]} <= set(demo.animals)
    with pytest.raises(UsageError, match="no pictures"):
        main([*command[:4], "--crops", str(tmp_path / "nothing"), "--bundle", str(bundle)])
