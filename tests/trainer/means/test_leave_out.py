from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.data.crops import CropSet
from trainer.means.embed import EmbeddedCrops
from trainer.means.leave_out import without_held_out_session, without_own_session
from trainer.means.prototypes import MeansOptions

OPTIONS = MeansOptions(trim_floor=-1.0)


def circle(degrees: list[float]) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def crops(rows: list[tuple[str, str, float]]) -> EmbeddedCrops:
    animals = tuple(sorted({animal for animal, *_ in rows}))
    return EmbeddedCrops(
        CropSet(
            tuple(Path(f"{a}/{s}_{n}.jpg") for n, (a, s, _) in enumerate(rows)),
            animals,
            np.array([animals.index(a) for a, *_ in rows], np.int32),
            tuple(s for _, s, _ in rows),
        ),
        circle([degrees for *_, degrees in rows]),
    )


def distance(a: float, b: float) -> float:
    return 1 - float(np.cos(np.radians(a - b)))


def test_a_held_out_crop_is_asked_without_its_own_session() -> None:
    gallery = crops([("a", "t0", 0.0), ("b", "t0", 90.0)])
    held_out = crops([("a", "t1", 20.0), ("a", "t2", 40.0), ("b", "t1", 100.0)])
    queries = circle([22.0, 40.0, 100.0])
    distances, means = without_held_out_session(gallery, held_out, queries, [1, 1], OPTIONS)
    assert means[0] @ circle([20.0]).T == pytest.approx(1, abs=1e-5)
    assert means[1] @ circle([95.0]).T == pytest.approx(1, abs=1e-5)
    # Own animal: a without t1 has its mean at 20, a without t2 at 10, b without t1 at 90.
    assert distances[0, 0] == pytest.approx(distance(22, 20), abs=1e-5)
    assert distances[1, 0] == pytest.approx(distance(40, 10), abs=1e-5)
    assert distances[2, 1] == pytest.approx(distance(100, 90), abs=1e-5)
    # Another animal: all of its sessions, a's mean at 20 and b's at 95.
    assert distances[0, 1] == pytest.approx(distance(22, 95), abs=1e-5)
    assert distances[2, 0] == pytest.approx(distance(100, 20), abs=1e-5)


def test_a_gallery_crop_is_asked_without_its_own_session() -> None:
    gallery = crops([("a", "t0", 0.0), ("a", "t1", 30.0), ("b", "t0", 90.0), ("b", "t0", 94.0)])
    queries = circle([5.0, 30.0, 90.0, 94.0])
    full = np.full((4, 2), 0.5, np.float32)
    distances, fair = without_own_session(gallery, queries, full, OPTIONS)
    assert fair.all()
    assert distances[0] == pytest.approx([distance(5, 30), 0.5], abs=1e-5)
    assert distances[1] == pytest.approx([distance(30, 0), 0.5], abs=1e-5)
    # One session: its two halves in time.
    assert distances[2] == pytest.approx([0.5, distance(90, 94)], abs=1e-5)


def test_the_only_crop_of_an_animal_cannot_be_asked() -> None:
    gallery = crops([("a", "t0", 0.0), ("b", "t0", 90.0), ("b", "t1", 94.0)])
    full = np.full((3, 2), 0.5, np.float32)
    _, fair = without_own_session(gallery, gallery.embeddings, full, OPTIONS)
    assert fair.tolist() == [False, True, True]
