from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from edge import durable
from edge.durable import DurableError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The points that are passed, and what is synced, in order."""
    seen: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        kind = "folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file"
        seen.append(f"sync {kind}" if kind == "file" else f"sync {path.name}")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(durable, "observer", seen.append)
    return seen


def test_writing_syncs_the_content_before_the_name_and_the_folder_last(
    tmp_path: Path, points: list[str]
) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    path = folder / "f.json"
    durable.write_durably(path, b"old")
    points.clear()
    durable.write_durably(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(folder) == ["f.json"]
    steps = ["f.json: made", "f.json: written", "sync file", "f.json: synced", "f.json: renamed"]
    assert points == [*steps, "sync state", "f.json: kept"]


def test_a_written_file_has_the_usual_permissions_or_those_asked_for(tmp_path: Path) -> None:
    durable.write_durably(tmp_path / "ours", b"x")
    (tmp_path / "usual").write_bytes(b"x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode
    durable.write_durably(tmp_path / "fixed", b"x", 0o444)
    assert stat.S_IMODE((tmp_path / "fixed").stat().st_mode) == 0o444


@pytest.mark.parametrize(("call", "code"), [("fsync", errno.EIO), ("replace", errno.ENOSPC)])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    path = tmp_path / "f"
    durable.write_durably(path, b"old")

    def fail(*arguments: object, **named: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(DurableError, match=r"/f: cannot be kept for good: ") as caught:
        durable.write_durably(path, b"new")
    assert caught.value.full == (code == errno.ENOSPC)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_a_link_is_replaced_by_one_rename(tmp_path: Path, points: list[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        points.clear()
        durable.replace_link(tmp_path / "current", name)
        assert (tmp_path / "current").resolve() == tmp_path / name
        assert points[1:] == ["current: renamed", f"sync {tmp_path.name}", "current: kept"]
    assert names(tmp_path) == ["a", "b", "current"]
    (tmp_path / "folder").mkdir()
    with pytest.raises(DurableError):
        durable.replace_link(tmp_path / "folder", "a")
    assert names(tmp_path) == ["a", "b", "current", "folder"]


def test_both_folders_of_a_rename_are_synced(tmp_path: Path, points: list[str]) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "one" / "f").write_bytes(b"x")
    durable.rename_durably(tmp_path / "one" / "f", tmp_path / "two" / "f")
    assert (tmp_path / "two" / "f").read_bytes() == b"x"
    assert points == ["f: renamed", "sync two", "sync one", "f: kept"]
    with pytest.raises(DurableError, match="No such file"):
        durable.rename_durably(tmp_path / "one" / "f", tmp_path / "two" / "f")


def test_a_new_folder_is_synced_into_each_parent(tmp_path: Path, points: list[str]) -> None:
    (tmp_path / "a").mkdir()
    durable.make_folder(tmp_path / "a" / "b" / "c")
    assert points == ["sync a", "sync b"]
    points.clear()
    durable.make_folder(tmp_path / "a" / "b" / "c")
    assert points == []
    (tmp_path / "a" / "file").write_bytes(b"")
    with pytest.raises(DurableError):
        durable.make_folder(tmp_path / "a" / "file")


def test_a_tree_is_synced_files_first_and_links_not_at_all(
    tmp_path: Path, points: list[str]
) -> None:
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    (tree / "deep" / "f").write_bytes(b"x")
    (tree / "g").write_bytes(b"x")
    (tree / "link").symlink_to("/nowhere")
    durable.sync_tree(tree)
    assert points == ["sync file", "sync deep", "sync file", "sync tree"]


def test_removing_takes_folders_files_and_links_but_not_what_they_point_to(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "f").write_bytes(b"x")
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name in ("link", "file", "folder", "folder"):
        durable.remove_tree(tmp_path / name)
    assert names(tmp_path) == ["kept"]
    assert names(kept) == ["f"]


def test_only_what_was_left_half_written_is_swept(tmp_path: Path) -> None:
    for name in (".f.json.0a1b2c3d.new", ".hidden", "f.new", "f.json"):
        (tmp_path / name).write_bytes(b"x")
    durable.remove_unfinished(tmp_path)
    durable.remove_unfinished(tmp_path / "missing")
    assert names(tmp_path) == [".hidden", "f.json", "f.new"]


def test_a_lock_is_waited_for(tmp_path: Path) -> None:
    entered, order = threading.Event(), []

    def other() -> None:
        entered.set()
        with durable.locked(tmp_path / "lock"):
            order.append("other")

    thread = threading.Thread(target=other)
    with durable.locked(tmp_path / "lock"):
        thread.start()
        assert entered.wait(10)
        thread.join(0.05)
        assert thread.is_alive()
        order.append("first")
    thread.join(10)
    assert order == ["first", "other"]
    with pytest.raises(DurableError), durable.locked(tmp_path / "missing" / "lock"):
        pass
