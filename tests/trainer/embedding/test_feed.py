from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from trainer.data.augment import NO_AUGMENTATION
from trainer.data.crops import CropSet
from trainer.embedding.feed import Batch, Feed
from trainer.embedding.options import EmbedderOptions

OPTIONS = EmbedderOptions(input_size=16, classes_per_batch=2, images_per_class=2, seed=5)


@pytest.fixture
def crops() -> CropSet:
    labels = np.repeat(np.arange(3), 4).astype(np.int32)
    paths = tuple(Path(f"{label}/s{n % 2}_{n}.jpg") for n, label in enumerate(labels))
    return CropSet(paths, ("a", "b", "c"), labels, tuple(f"s{n % 2}" for n in range(12)))


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3)).astype(np.uint8)


def equal(one: Iterable[Batch], other: Iterable[Batch]) -> bool:
    return all(
        (a.images == b.images).all() and (a.labels == b.labels).all()
        for a, b in zip(one, other, strict=True)
    )


def test_a_later_start_gives_the_later_batches(crops: CropSet, images: np.ndarray) -> None:
    whole = list(islice(Feed(crops, images, OPTIONS), 9))
    assert equal(islice(Feed(crops, images, OPTIONS, first=4), 5), whole[4:])
    assert not equal(whole[:4], whole[4:8])


def test_threads_do_not_change_the_batches(crops: CropSet, images: np.ndarray) -> None:
    one = islice(Feed(crops, images, OPTIONS), 12)
    assert equal(islice(Feed(crops, images, replace(OPTIONS, workers=4)), 12), list(one))


def test_replicas_share_the_batches_out(crops: CropSet, images: np.ndarray) -> None:
    still = replace(OPTIONS, augmentation=NO_AUGMENTATION)
    alone = list(islice(Feed(crops, images, still), 6))
    for replica in range(2):
        part = islice(Feed(crops, images, still, replica=replica, replicas=2), 3)
        assert equal(part, alone[replica::2])


def test_mirror_images_are_other_animals(crops: CropSet, images: np.ndarray) -> None:
    feed = Feed(
        crops, images, replace(OPTIONS, augmentation=NO_AUGMENTATION, mirrored_animals=True)
    )
    assert feed.animals == 6
    seen = set()
    for batch in islice(feed, 12):
        for image, label in zip(batch.images, batch.labels, strict=True):
            original = image[:, ::-1] if label >= 3 else image
            source = int(np.flatnonzero((images == original).all(axis=(1, 2, 3)))[0])
            assert crops.labels[source] == label % 3
            seen.add(int(label))
    assert seen == set(range(6))
    assert Feed(crops, images, OPTIONS).animals == 3


@pytest.mark.parametrize(
    ("wanted", "animals", "expected"), [(None, 5, 5), (None, 40, 12), ("all", 40, 40), (7, 40, 7)]
)
def test_how_many_animals_a_batch_has(
    wanted: int | Literal["all"] | None, animals: int, expected: int
) -> None:
    options = replace(OPTIONS, classes_per_batch=wanted, images_per_class=3)
    assert options.classes_in_batch(animals) == expected
    assert options.batch_size(animals) == 3 * expected


def test_repetitions_are_counted_with_the_batches_taken(crops: CropSet, images: np.ndarray) -> None:
    six = replace(OPTIONS, images_per_class=6)
    for workers in (1, 3):
        batches = list(islice(Feed(crops, images, replace(six, workers=workers)), 4))
        # Two animals of four images each, asked for six.
        assert [batch.repeated for batch in batches] == [4, 4, 4, 4]
