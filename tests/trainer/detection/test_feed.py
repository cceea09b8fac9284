from __future__ import annotations

from dataclasses import replace
from itertools import islice

import numpy as np

from trainer.detection.assign import corners, decode
from trainer.detection.augment import FrameAugmentation
from trainer.detection.feed import Feed
from trainer.detection.options import DetectorOptions

ANCHORS = np.array([[16, 16, 20, 20], [16, 48, 20, 20], [48, 16, 20, 20]], np.float32)
OPTIONS = DetectorOptions(input_size=(64, 64), batch_size=3, seed=4)


def feed(options: DetectorOptions = OPTIONS, first: int = 0) -> Feed:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (5, 64, 64, 3)).astype(np.uint8)
    boxes = tuple(np.array([[6, 6, 26, 26 + n]], np.float32) for n in range(5))
    classes = tuple(np.array([n % 2], np.int32) for n in range(5))
    return Feed(images, boxes, classes, ANCHORS, options, first=first)


def test_a_resumed_feed_goes_on_where_it_was() -> None:
    whole = list(islice(feed(), 6))
    rest = list(islice(feed(replace(OPTIONS, workers=3), first=4), 2))
    for one, other in zip(whole[4:], rest, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
    assert not np.array_equal(whole[0].images, whole[1].images)


def test_targets_are_those_of_the_changed_frame() -> None:
    for batch in islice(feed(), 4):
        assert batch.images.shape == (3, 64, 64, 3)
        assert batch.classes.shape == (3, 3)
        for classes, encodings in zip(batch.classes, batch.encodings, strict=True):
            boxes = decode(encodings, ANCHORS)[classes >= 0]
            assert (boxes >= -1e-3).all()
            assert (boxes <= 64 + 1e-3).all()
            # An anchor without a box has nothing to say.
            assert not encodings[classes < 0].any()
    assert corners(ANCHORS).shape == (3, 4)


def test_mosaics_come_as_often_as_asked_and_are_resumable() -> None:
    options = replace(OPTIONS, augmentation=FrameAugmentation(mosaic=0.5))
    whole = list(islice(feed(options), 4))
    rest = list(islice(feed(options, first=2), 2))
    np.testing.assert_array_equal(whole[3].images, rest[1].images)
    plain = list(islice(feed(), 4))
    assert any(not np.array_equal(a.images, b.images) for a, b in zip(whole, plain, strict=True))
