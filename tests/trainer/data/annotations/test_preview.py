"""The contact sheet shows boxes where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.draw import animal_colour
from edge.errors import DataError, UsageError
from trainer.data.annotations.preview import contact_sheet, write_preview
from trainer.data.frames import FrameSet


@pytest.fixture
def frames(tmp_path: Path) -> FrameSet:
    """Three grey frames of 480x240 pixels with a box each, of a named animal in the first."""
    paths = []
    for number in range(3):
        paths.append(tmp_path / f"s_{number}.png")
        cv2.imwrite(str(paths[-1]), np.full((240, 480, 3), 120, np.uint8))
    box = np.array([[100, 80, 300, 200]], np.float32)
    labels = np.zeros(1, np.int32)
    return FrameSet(
        tuple(paths), (box,) * 3, (labels,) * 3, ("s",) * 3, ("pig",), (("x",), (None,), (None,))
    )


def test_a_box_is_drawn_in_its_animals_colour(frames: FrameSet) -> None:
    sheet = contact_sheet(frames)
    # Two by two tiles of 480x240 with a strip of 20 below and gaps of 6.
    assert sheet.shape == (2 * 266 + 6, 2 * 486 + 6, 3)
    np.testing.assert_array_equal(sheet[6 + 150, 6 + 100], animal_colour("x"))
    np.testing.assert_array_equal(sheet[6 + 150, 6 + 486 + 300], animal_colour("pig"))
    np.testing.assert_array_equal(sheet[6 + 150, 6 + 200], [120, 120, 120])


def test_a_file_is_written_once(frames: FrameSet, tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    assert write_preview(frames, out, 2, 0) == 2
    assert cv2.imread(str(out)).shape[1] == 2 * 486 + 6
    with pytest.raises(UsageError, match="exists already"):
        write_preview(frames, out, 2, 0)
    with pytest.raises(UsageError, match=r"must end in \.jpg"):
        write_preview(frames, tmp_path / "sheet.gif", 2, 0)
    with pytest.raises(DataError, match="no frames"):
        write_preview(frames.select([]), tmp_path / "b.png", 2, 0)


def test_the_same_seed_draws_the_same_frames(frames: FrameSet, tmp_path: Path) -> None:
    for name, seed in (("a.png", 0), ("b.png", 0)):
        write_preview(frames, tmp_path / name, 1, seed)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
