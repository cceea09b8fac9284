from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import edge.identity.means
from edge.errors import BundleError
from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader, load_means, save_means


def means() -> ClassMeans:
    return ClassMeans(
        ("cow1", "kuh-2"),
        np.array([[1, 0], [0, 1], [-1, 0]], np.float32),
        np.array([0, 1, OUTLIERS], np.int32),
        np.array([[3, 0], [0, 4]], np.float64),
        np.array([3, 4], np.int64),
        np.array([0.2, 0.3], np.float32),
        0.05,
        MeansHeader(seq=7, embedder_sha256="ab", created="2026-01-01", calibration={"x": 0.5}),
    )


def arrays(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as archive:
        return dict(archive)


def rewrite(path: Path, **changes: np.ndarray) -> None:
    content = {**arrays(path), **changes}
    np.savez(path, **{name: array for name, array in content.items() if array is not None})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_means(means(), tmp_path / "means.npz")
    return tmp_path / "means.npz"


def test_what_is_saved_is_loaded(path: Path) -> None:
    loaded, original = load_means(path), means()
    assert loaded.animals == original.animals
    assert loaded.header == original.header
    assert loaded.margin == pytest.approx(0.05)
    assert loaded.dimension == 2
    for name in ("prototypes", "owner", "sums", "counts", "threshold"):
        ours, theirs = getattr(original, name), getattr(loaded, name)
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype


def test_an_empty_herd_is_saved_and_loaded(tmp_path: Path) -> None:
    empty = ClassMeans(
        (),
        np.zeros((0, 8), np.float32),
        np.zeros(0, np.int32),
        np.zeros((0, 8)),
        np.zeros(0, np.int64),
        np.zeros(0, np.float32),
        0.0,
        MeansHeader(),
    )
    save_means(empty, tmp_path / "m.npz")
    assert load_means(tmp_path / "m.npz").animals == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prototypes": np.ones((3, 2), np.float32)}, "unit length"),
        ({"prototypes": np.eye(3, 2, dtype=np.float64)}, "prototypes is float64"),
        ({"owner": np.array([0, 2, -1], np.int32)}, "owner points outside"),
        ({"owner": np.array([0, -2, -1], np.int32)}, "owner points outside"),
        ({"owner": np.array([0, 1], np.int32)}, "owner must be"),
        ({"sums": np.zeros((2, 3))}, "sums must be"),
        ({"counts": np.array([-1, 4], np.int64)}, "negative"),
        ({"threshold": np.array([np.nan, 1], np.float32)}, "not finite"),
        ({"margin": np.float32(np.inf)}, "not finite"),
        ({"animals": np.array(["a", "a"])}, "distinct"),
        ({"animals": np.array(["a", ""])}, "not empty"),
        ({"header": np.array("no json")}, "not a class-means file"),
        ({"header": np.array(json.dumps({"schema": 2}))}, "schema 2 is not 1"),
        ({"header": np.array(json.dumps({"colour": 2}))}, "colour"),
        ({"extra": np.zeros(1)}, "expected arrays"),
        ({"counts": None}, "expected arrays"),
    ],
)
def test_wrong_content_is_refused_in_one_line(
    path: Path, changes: dict[str, np.ndarray], message: str
) -> None:
    rewrite(path, **changes)
    with pytest.raises(BundleError, match=message) as caught:
        load_means(path)
    assert str(path) in str(caught.value)


def test_missing_broken_and_pickled_files_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="missing"):
        load_means(tmp_path / "nowhere.npz")
    broken = tmp_path / "broken.npz"
    broken.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BundleError, match="not a class-means file"):
        load_means(broken)
    broken.write_bytes(b"")
    with pytest.raises(BundleError, match="not a class-means file"):
        load_means(broken)
    rewrite(path, animals=np.array(["a", None], object))
    with pytest.raises(BundleError, match="not a class-means file"):
        load_means(path)


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(path, counts=np.zeros(1 << 20, np.int64))
    assert path.stat().st_size < 1 << 16
    monkeypatch.setattr(edge.identity.means, "_MAX_BYTES", 1 << 20)
    monkeypatch.setattr(np, "load", lambda *arguments, **options: pytest.fail("unpacked"))
    with pytest.raises(BundleError, match="unpacks to more"):
        load_means(path)


def test_a_lone_array_is_no_class_means_file(tmp_path: Path) -> None:
    with (tmp_path / "lone.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(BundleError, match="not a class-means file"):
        load_means(tmp_path / "lone.npz")


def test_values_that_do_not_fit_are_refused_when_made() -> None:
    with pytest.raises(ValueError, match="prototypes must be"):
        replace(means(), prototypes=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="threshold must be"):
        replace(means(), threshold=np.zeros(3, np.float32))


def test_no_flipped_byte_ends_in_anything_but_one_line(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    broken = tmp_path / "broken.npz"
    lines = []
    for place in range(0, len(data), 7):
        broken.write_bytes(data[:place] + bytes([data[place] ^ 0x5A]) + data[place + 1 :])
        try:
            load_means(broken)
        except BundleError as error:
            lines.append(str(error))
    assert len(lines) > len(data) // 7 // 2
    assert not any("\n" in line for line in lines)


def test_a_small_file_that_unpacks_to_more_than_the_memory(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.npz", tmp_path / "bad.npz"
    save_means(means(), good)
    head = io.BytesIO()
    shape = (300 << 17,)
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": shape}
    )
    with (
        zipfile.ZipFile(good) as source,
        zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as target,
    ):
        for name in source.namelist():
            if name != "sums.npy":
                target.writestr(name, source.read(name))
                continue
            with target.open(name, "w") as stream:
                stream.write(head.getvalue())
                for _ in range(300):
                    stream.write(bytes(1 << 20))
    assert bad.stat().st_size < 4 << 20
    with pytest.raises(BundleError, match="unpacks to more"):
        load_means(bad)
