"""Files are bounded, and what cannot be read is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import DataError
from trainer.data.annotations.files import read_bytes, read_text


def test_a_file_that_is_too_large_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "a"
    with path.open("wb") as stream:
        stream.truncate(3 << 20)
    assert len(read_bytes(path, "labels", 3 << 20)) == 3 << 20
    with pytest.raises(DataError, match="a: has 3 MB, more than the 2 MB that labels may have"):
        read_bytes(path, "labels", 2 << 20)


def test_what_never_ends_is_refused() -> None:
    with pytest.raises(DataError, match="/dev/zero: has more than the 1 MB"):
        read_bytes(Path("/dev/zero"), "labels", 1 << 20)


def test_text_is_utf8_with_or_without_its_mark(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"\xef\xbb\xbfp\xc3\xa9")
    assert read_text(path, "labels") == "pé"
    path.write_bytes(b"p\xe9")
    with pytest.raises(DataError, match="a: not labels: byte 1 is not text in UTF-8"):
        read_text(path, "labels")


def test_names_that_no_file_can_have(tmp_path: Path) -> None:
    for name in ("a\0b", "a" * 5000):
        with pytest.raises(DataError, match=r"cannot be read|no such file"):
            read_bytes(tmp_path / name, "labels")
