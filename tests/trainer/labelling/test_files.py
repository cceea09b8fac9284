from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DataError
from edge.vision.geometry import crop_pixels, cut_crop, letterbox
from trainer.data.crops import by_time, session_of
from trainer.labelling.files import crop_name, put, safe

SIDE = st.floats(-40, 140, width=32)


@given(st.tuples(SIDE, SIDE, SIDE, SIDE), st.integers(0, 9))
def test_the_pixels_are_those_the_device_scales(
    box: tuple[float, float, float, float], seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    corners = np.array(box, np.float32)
    expected = cut_crop(image, corners, 32)
    np.testing.assert_array_equal(letterbox(crop_pixels(image, corners), (32, 32))[0], expected)


def test_sides_fall_outwards_on_whole_pixels() -> None:
    image = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
    crop = crop_pixels(image, np.array([4.2, 5.9, 11.1, 9.0], np.float32))
    np.testing.assert_array_equal(crop, image[5:9, 4:12])


@given(
    st.text(min_size=1, max_size=20),
    st.one_of(st.integers(0, 10**7), st.text(max_size=12)),
    st.integers(1, 40),
)
def test_a_name_keeps_its_session(session: str, frame: str | int, copy: int) -> None:
    name = crop_name(session, frame, copy)
    assert session_of(Path(name)) == safe(session)
    assert Path(name).name == name
    assert not name.startswith(".")


def test_names() -> None:
    assert crop_name("cam1-day", 12) == "cam1-day_000012.jpg"
    assert crop_name("cam1-day", 12, 2) == "cam1-day_000012-2.jpg"
    assert crop_name("stall 3/süd_b", "a_7") == "stall-3-süd_b_a-7.jpg"
    paths = [Path(crop_name("pen", 9, copy)) for copy in (10, 2, 1)]
    assert sorted(paths, key=by_time) == paths[::-1]


def test_put_overwrites_nothing(tmp_path: Path) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    for link in (False, True):
        with pytest.raises(FileExistsError):
            put(source, target, link=link)
    assert target.read_bytes() == b"old"
    put(source, tmp_path / "c", link=True)
    assert (tmp_path / "c").samefile(source)
    put(source, tmp_path / "d", link=False)
    assert (tmp_path / "d").read_bytes() == b"new"
    assert not (tmp_path / "d").samefile(source)
    with pytest.raises(DataError, match="gone: cannot be copied"):
        put(tmp_path / "gone", tmp_path / "e", link=False)
