from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.errors import DataError, UsageError
from edge.identity.means import OUTLIERS, ClassMeans, MeansHeader, load_means, save_means
from trainer.means.projector import (
    Pair,
    means_of_pair,
    pair_of_means,
    read_pair,
    write_pair,
)


def files(folder: Path, vectors: str | bytes, meta: str | bytes) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    paths = folder / "v.tsv", folder / "m.tsv"
    for path, content in zip(paths, (vectors, meta), strict=True):
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return paths


def original_like() -> tuple[str, str]:
    """As numpy.savetxt wrote the original's: 16 animals of 64 float32 numbers, not unit length."""
    rng = np.random.default_rng(5)
    rows = rng.normal(0, 0.11, (16, 64)).astype(np.float32)
    lines = ["\t".join(f"{value:.18e}" for value in row) for row in rows]
    return "\n".join(lines) + "\n", "".join(f"{n}\n" for n in rng.permutation(16) + 1)


def test_import_and_export_give_the_same_bytes(tmp_path: Path) -> None:
    vectors, meta = files(tmp_path / "in", *original_like())
    pair = read_pair(vectors, meta)
    assert pair.vectors.shape == (16, 64)
    save_means(means_of_pair(pair), tmp_path / "means.npz")
    means = load_means(tmp_path / "means.npz")
    written = write_pair(pair_of_means(means), tmp_path / "out")
    assert [path.name for path in written] == ["vecs.tsv", "meta.tsv"]
    assert written[0].read_bytes() == vectors.read_bytes()
    assert written[1].read_bytes() == meta.read_bytes()


names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1
).filter(lambda name: bool(name.strip()) and not name.startswith("\ufeff"))
numbers = st.floats(-4e5, 4e5)


@settings(deadline=None)
@given(st.data())
def test_any_vectors_and_ids_survive(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    ids = data.draw(st.lists(names, min_size=1, max_size=5, unique=True))
    shape = (len(ids), data.draw(st.integers(1, 4)))
    vectors = data.draw(hnp.arrays(np.float64, shape, elements=numbers))
    vectors[np.linalg.norm(vectors, axis=1) < 1e-6, 0] = 1.0
    folder = tmp_path_factory.mktemp("pair")
    again = read_pair(*write_pair(Pair(tuple(ids), vectors), folder))
    assert again.ids == tuple(ids)
    assert (again.vectors == vectors).all()
    means = means_of_pair(again)
    assert np.linalg.norm(means.prototypes, axis=1) == pytest.approx(np.ones(len(ids)), abs=1e-5)
    assert (pair_of_means(means).vectors == vectors).all()


def test_prototypes_point_where_the_vectors_do() -> None:
    pair = Pair(("7", "1"), np.array([[3.0, 4.0], [0.0, -0.5]]))
    means = means_of_pair(pair, threshold=0.3, margin=0.05)
    assert means.prototypes == pytest.approx(np.array([[0.6, 0.8], [0, -1]]))
    assert means.sums.tolist() == [[3.0, 4.0], [0.0, -0.5]]
    assert means.counts.tolist() == [1, 1]
    assert means.threshold == pytest.approx([0.3, 0.3])
    assert means.margin == pytest.approx(0.05)
    assert means.header.embedder_sha256 == ""
    assert means.header.calibration["source"] == "projector"


def test_the_mean_of_what_was_seen_is_exported() -> None:
    means = ClassMeans(
        ("a", "b"),
        np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32),
        np.array([0, 0, 1, OUTLIERS], np.int32),
        np.array([[3.0, 1.0], [0, 0]]),
        np.array([4, 0]),
        np.zeros(2, np.float32),
        0.0,
        MeansHeader(),
    )
    # b has no images on record: its prototype stands in.
    assert pair_of_means(means).vectors.tolist() == [[0.75, 0.25], [1, 0]]


def test_columns_of_meta_data_have_a_header(tmp_path: Path) -> None:
    vectors, meta = files(tmp_path, "1\t0\n0\t1\n", "pen\tpig\nA\t15\nB\t4\n")
    assert read_pair(vectors, meta, "pig").ids == ("15", "4")
    with pytest.raises(DataError, match=r"columns pen, pig; say which .*--column"):
        read_pair(vectors, meta)
    with pytest.raises(DataError, match="no single column 'sow' among pen, pig"):
        read_pair(vectors, meta, "sow")
    # A lonely header is not what TensorBoard writes, but can be named.
    vectors, meta = files(tmp_path, "1\t0\n0\t1\n", "pig\n15\n4\n")
    assert read_pair(vectors, meta, "pig").ids == ("15", "4")
    with pytest.raises(DataError, match=r"3 ids for the 2 vectors .*--column 'pig'"):
        read_pair(vectors, meta)


def test_line_ends_of_windows_and_a_missing_last_one_are_fine(tmp_path: Path) -> None:
    vectors, meta = files(tmp_path, "1\t0\r\n0\t1", b"\xef\xbb\xbf15\r\n4\r\n\r\n")
    pair = read_pair(vectors, meta)
    assert pair.ids == ("15", "4")
    assert pair.vectors.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("vectors", "meta", "complaint"),
    [
        ("1\t0\n0\t1\t2\n", "a\nb\n", r"v\.tsv, line 2: 3 numbers, the first line has 2"),
        ("1\t0\n0\tnan\n", "a\nb\n", r"v\.tsv, line 2: a number is not finite"),
        ("1\t0\n-inf\t1\n", "a\nb\n", r"v\.tsv, line 2: a number is not finite"),
        ("1\t0\n0\t0\n", "a\nb\n", r"v\.tsv, line 2: a zero vector"),
        ("1\t0\n1e7\t1\n", "a\nb\n", r"v\.tsv, line 2: a vector of length 1e\+07"),
        ("1\t0\n1e-7\t0\n", "a\nb\n", r"v\.tsv, line 2: a vector of length 1e-07"),
        ("1\t0\n1e300\t1e300\n", "a\nb\n", r"v\.tsv, line 2: a vector of length 1.4e\+300"),
        ("1\t0\n0\tone\n", "a\nb\n", r"v\.tsv, line 2: .*'one'"),
        ("1\t0\n\n0\t1\n", "a\nb\n", r"v\.tsv, line 2: "),
        ("1\t0\n0\t1\n", "a\na\n", r"m\.tsv, line 2: id 'a' stands in line 1 already"),
        ("1\t0\n0\t1\n", "a\n\nb\n", r"m\.tsv: 3 ids for the 2 vectors"),
        ("1\t0\n0\t1\n", "a\n \n", r"m\.tsv, line 2: the id is empty"),
        ("1\t0\n0\t1\n", "a\n", r"m\.tsv: 1 ids for the 2 vectors of .*v\.tsv"),
        ("1\t0\n0\t1\n", "a\nb\tc\n", r"m\.tsv, line 2: several columns"),
        ("", "a\n", r"v\.tsv: empty"),
        ("1\t0\n", "\n", r"m\.tsv: empty"),
        (b"\xff\xfe1\x00", "a\n", r"v\.tsv: not text in UTF-8"),
    ],
)
def test_what_is_wrong_is_told_by_file_and_line(
    tmp_path: Path, vectors: str, meta: str, complaint: str
) -> None:
    with pytest.raises(DataError, match=complaint) as caught:
        read_pair(*files(tmp_path, vectors, meta))
    assert "\n" not in str(caught.value)


def test_a_ragged_table_and_a_missing_file_are_told(tmp_path: Path) -> None:
    vectors, meta = files(tmp_path, "1\t0\n0\t1\n", "pen\tpig\nA\t15\nB\n")
    with pytest.raises(DataError, match="line 3: 1 columns, the header has 2"):
        read_pair(vectors, meta, "pig")
    with pytest.raises(DataError, match=r"no\.tsv: no such file"):
        read_pair(tmp_path / "no.tsv", meta)


def test_an_id_that_would_break_the_lines_is_not_exported(tmp_path: Path) -> None:
    for name in ("a\tb", "a\nb", "a\rb", "a\u2028b"):
        with pytest.raises(UsageError, match="tab or line break"):
            write_pair(Pair((name,), np.ones((1, 2))), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_animal_with_nothing_cannot_be_exported() -> None:
    means = ClassMeans(
        ("a",),
        np.zeros((0, 2), np.float32),
        np.zeros(0, np.int32),
        np.zeros((1, 2)),
        np.zeros(1, np.int64),
        np.zeros(1, np.float32),
        0.0,
        MeansHeader(),
    )
    with pytest.raises(UsageError, match="'a' has neither"):
        pair_of_means(means)
