"""Regions and masks: which pixels are looked at, and which settings are refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import UsageError
from edge.vision.view import View, make_view, read_stencil

GREY = [114, 114, 114]
HALF = [(0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0)]


def picture(height: int = 40, width: int = 80) -> np.ndarray:
    """Return a picture in which each pixel holds its own place: (row, column, 255)."""
    rows, columns = np.indices((height, width))
    return np.stack([rows, columns, np.full_like(rows, 255)], axis=2).astype(np.uint8)


def test_a_region_is_cut_out_with_its_pixels() -> None:
    image = picture()
    view = View((0.25, 0.5, 0.75, 1.0))
    assert np.array_equal(view.look(image), image[20:40, 20:60])
    window = view.window(40, 80)
    assert (window.x1, window.y1, window.x2, window.y2) == (20, 20, 60, 40)


def test_a_region_grows_to_whole_pixels() -> None:
    window = View((0.26, 0.51, 0.74, 0.99)).window(10, 10)
    assert (window.x1, window.y1, window.x2, window.y2) == (2, 5, 8, 10)


def test_a_polygon_hides_what_is_inside_and_nothing_else() -> None:
    image = picture()
    seen = View(polygons=[HALF]).look(image)
    assert (seen[:, :40] == GREY).all()
    # The polygon's own edge lies on column 40.
    assert np.array_equal(seen[:, 41:], image[:, 41:])


def test_the_picture_itself_stays_as_it_is() -> None:
    image = picture()
    View(polygons=[HALF]).look(image)
    assert np.array_equal(image, picture())


def test_two_looks_share_no_memory() -> None:
    view = View(polygons=[HALF])
    first = view.look(picture())
    view.look(np.zeros((40, 80, 3), np.uint8))
    assert np.array_equal(first[:, 41:], picture()[:, 41:])


def test_a_mask_and_a_region_are_both_of_the_whole_picture() -> None:
    image = picture()
    seen = View((0.25, 0.0, 1.0, 1.0), [HALF]).look(image)
    assert seen.shape == (40, 60, 3)
    assert (seen[:, :20] == GREY).all()
    assert np.array_equal(seen[:, 21:], image[:, 41:])


def test_a_camera_that_changes_its_size_is_seen_by_its_new_one() -> None:
    view = View((0.5, 0.0, 1.0, 1.0), [[(0.5, 0.0), (1.0, 0.0), (1.0, 0.5), (0.5, 0.5)]])
    assert view.look(picture(40, 80)).shape == (40, 40, 3)
    seen = view.look(picture(20, 20))
    assert seen.shape == (20, 10, 3)
    assert (seen[:10] == GREY).all()
    assert np.array_equal(seen[11:], picture(20, 20)[11:, 10:])


def test_a_picture_s_dark_part_hides(tmp_path: Path) -> None:
    stencil = np.full((4, 8), 255, np.uint8)
    stencil[:, :4] = 0
    cv2.imwrite(str(tmp_path / "mask.png"), stencil)
    view = make_view(None, str(tmp_path / "mask.png"))
    assert view is not None
    seen = view.look(picture())
    assert (seen[:, :40] == GREY).all()
    assert np.array_equal(seen[:, 40:], picture()[:, 40:])


def test_a_mask_that_hides_nothing_costs_no_copy() -> None:
    image = picture()
    seen = View(stencil=np.full((2, 2), 200, np.uint8)).look(image)
    assert np.shares_memory(seen, image)


@pytest.mark.parametrize(
    "region", [(0.5, 0, 0.5, 1), (0.6, 0, 0.5, 1), (0, 0.9, 1, 0.1), (-0.1, 0, 1, 1), (0, 0, 1, 2)]
)
def test_a_region_without_extent_or_outside_is_refused(region: tuple[float, ...]) -> None:
    with pytest.raises(UsageError, match="region"):
        View(region)  # type: ignore[arg-type]


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(UsageError, match="region"):
        View((0.0, 0.0, float("nan"), 1.0))


def test_a_mask_that_hides_all_of_the_region_is_refused() -> None:
    with pytest.raises(UsageError, match="hides all"):
        View((0.0, 0.0, 0.4, 1.0), [HALF])


@pytest.mark.parametrize("data", [b"", b"no picture", None])
def test_a_mask_that_is_no_picture_is_named(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "mask.png"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError, match=r"mask\.png: mask"):
        read_stencil(path)


def test_without_region_and_mask_there_is_no_view() -> None:
    assert make_view(None, None) is None
    assert make_view(None, []) is None


fractions = st.floats(0, 1, allow_nan=False)


@given(fractions, fractions, fractions, fractions, st.integers(1, 60), st.integers(1, 60))
def test_every_region_is_inside_the_frame_and_has_a_pixel(
    a: float, b: float, c: float, d: float, height: int, width: int
) -> None:
    x1, x2 = sorted((a, b))
    y1, y2 = sorted((c, d))
    if x1 == x2 or y1 == y2:
        return
    window = View((x1, y1, x2, y2)).window(height, width)
    assert 0 <= window.x1 < window.x2 <= width
    assert 0 <= window.y1 < window.y2 <= height
    # Nothing of the region is left out.
    assert window.x1 <= x1 * width + 1e-9
    assert window.x2 >= x2 * width - 1e-9
    assert window.y1 <= y1 * height + 1e-9
    assert window.y2 >= y2 * height - 1e-9
