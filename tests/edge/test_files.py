from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edge.errors import UsageError
from edge.files import new_directory, sha256_file, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc" * 100_000)
    assert sha256_file(tmp_path / "f") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_writing_makes_parents_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "f.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(path.parent) == ["f.json"]


def test_a_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write_atomically(tmp_path / "ours", b"x")
    (tmp_path / "usual").write_bytes(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_what_need_not_outlive_a_power_cut_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    write_atomically(tmp_path / "f", b"x", synced=False)
    assert ((tmp_path / "f").read_bytes(), synced) == (b"x", [])
    write_atomically(tmp_path / "f", b"y")
    assert len(synced) == 1


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "f"
    write_atomically(path, b"old")

    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_a_new_directory_appears_when_its_block_ends(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with new_directory(out) as folder:
        (folder / "f").write_text("x")
        assert not out.exists()
    assert names(out) == ["f"]
    assert names(out.parent) == ["out"]
    (tmp_path / "usual").mkdir()
    assert out.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_new_directory_replaces_the_old_one_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name in ("first", "second"):
        with new_directory(out) as folder:
            (folder / name).write_text("x")
    assert names(out) == ["second"]
    assert names(tmp_path) == ["out"]


def test_a_new_directory_takes_a_files_place(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with new_directory(tmp_path / "out") as folder:
        (folder / "f").write_text("x")
    assert names(tmp_path / "out") == ["f"]
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_directory(
    tmp_path: Path, error: type[BaseException]
) -> None:
    out = tmp_path / "out"
    with new_directory(out) as folder:
        (folder / "old").write_text("x")

    def fail() -> None:
        with new_directory(out) as folder:
            (folder / "new").write_text("x")
            raise error

    with pytest.raises(error):
        fail()
    assert names(out) == ["old"]
    assert names(tmp_path) == ["out"]


def test_parents_made_for_a_block_that_fails_go_with_it(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="full"), new_directory(tmp_path / "a" / "b" / "c" / "out"):
        raise OSError("full")
    assert names(tmp_path / "a") == []

    def fail() -> None:
        with new_directory(tmp_path / "a" / "b" / "out"):
            (tmp_path / "a" / "b" / "mine").write_text("kept")
            raise OSError("full")

    # Unless somebody has put something there meanwhile.
    with pytest.raises(OSError, match="full"):
        fail()
    assert names(tmp_path / "a" / "b") == ["mine"]


def test_when_the_last_rename_fails_the_old_directory_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with new_directory(out) as folder:
        (folder / "old").write_text("x")
    real = Path.replace

    def fail_into_place(self: Path, target: Path) -> Path:
        if target == out and (self / "new").exists():
            raise OSError(5, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", fail_into_place)
    with pytest.raises(OSError, match="Input/output"), new_directory(out) as folder:
        (folder / "new").write_text("x")
    assert names(out) == ["old"]
    assert names(tmp_path) == ["out"]


def test_a_place_that_cannot_be_renamed_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "mount"
    place.mkdir()
    (place / "kept").write_text("kept")
    begun = []

    def refuse(self: Path, target: Path) -> None:
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(UsageError, match="mount: cannot be replaced"), new_directory(place):
        begun.append(True)
    assert not begun
    assert [path.name for path in tmp_path.iterdir()] == ["mount"]
    assert (place / "kept").read_text() == "kept"


def test_the_folder_one_stands_in_can_be_the_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with new_directory(Path("out/../result")) as folder:
        (folder / "made").write_text("x")
    assert (tmp_path / "result" / "made").read_text() == "x"
