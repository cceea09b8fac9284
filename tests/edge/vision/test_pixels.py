from __future__ import annotations

import numpy as np
import pytest

from edge.vision.pixels import quantise


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float32])
def test_the_same_as_looking_every_pixel_up(dtype: type) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (33, 47, 3)).astype(np.uint8)
    image.reshape(-1)[:256] = np.arange(256)  # every value at least once
    table = rng.integers(-100, 100, 256).astype(dtype)
    tensor = quantise(image, table)
    assert tensor.dtype == dtype
    np.testing.assert_array_equal(tensor, table[image])


def test_a_part_of_a_frame_is_looked_up_as_well() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    table = np.arange(256, dtype=np.uint8)[::-1].astype(np.int8)
    part = frame[5:25, 10:40]
    np.testing.assert_array_equal(quantise(part, table), table[part])
