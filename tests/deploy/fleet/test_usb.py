from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.fleet import usb
from deploy.fleet.repository import Repository, RepositoryError
from deploy.fleet.usb import StickError, write_stick
from edge.errors import UsageError

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_it_holds_what_the_devices_need_and_says_what_it_is(stick, repository):
    [bundle] = repository.bundles
    written = write_stick(stick, Repository(repository.folder), ["barn-7"], NOW)
    there = files(stick)
    note = there.pop("EARMARK.txt").decode()
    assert f"barn-7: {bundle[:12]}-1" in note
    assert "2026-11-24 12:00 UTC" in note
    assert there == {f"earmark/{path}": data for path, data in files(repository.folder).items()}
    assert written.copied == len(there)
    assert written.size == sum(len(data) for data in there.values())


def test_a_second_time_writes_nothing_and_an_old_release_makes_room(stick, repository):
    write_stick(stick, Repository(repository.folder), ["barn-7"], NOW)
    before = {path: path.stat().st_mtime_ns for path in (stick / "earmark").rglob("*.*")}
    again = write_stick(stick, Repository(repository.folder), ["barn-7"], NOW)
    assert again.copied == 0
    assert before == {path: path.stat().st_mtime_ns for path in (stick / "earmark").rglob("*.*")}

    (stick / "photos.jpg").write_bytes(b"somebody's own")
    old, new = next(iter(repository.bundles)), repository.publish(b"<!-- new -->")
    repository.assign(all=new)
    write_stick(stick, Repository(repository.folder), ["barn-7"], NOW)
    assert not (stick / "earmark/targets/models" / old).exists()
    assert (stick / "earmark/targets/models" / new).is_dir()
    assert (stick / "photos.jpg").exists()
    write_stick(stick, Repository(repository.folder), ["barn-7"], NOW)


def test_metadata_comes_after_what_it_speaks_of_and_the_timestamp_last(stick, repository):
    told: list[str] = []
    write_stick(stick, Repository(repository.folder), ["barn-7"], NOW, told.append)
    paths = [text.partition(",")[0] for text in told]
    first = next(n for n, path in enumerate(paths) if path.startswith("metadata/"))
    assert all(path.startswith("targets/") for path in paths[:first])
    assert all(path.startswith("metadata/") for path in paths[first:])
    assert paths[-1] == "metadata/timestamp.json"


def test_a_stick_that_lies_is_found_out(stick, repository, monkeypatch):
    def worn_out(source: Path, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        data = source.read_bytes()
        # What cheap sticks do: all is well until it is read.
        target.write_bytes(data[:-1] + b"\0" if source.suffix == ".tflite" else data)

    monkeypatch.setattr(usb, "_copy", worn_out)
    with pytest.raises(StickError, match="is not what was written; use another stick"):
        write_stick(stick, Repository(repository.folder), ["barn-7"], NOW)


def test_a_full_stick_is_one_line(stick, repository, monkeypatch):
    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(usb, "_copy", full)
    with pytest.raises(StickError, match="No space left on device; is the stick full, or pulled"):
        write_stick(stick, Repository(repository.folder), ["barn-7"], NOW)


def test_what_cannot_be_written(stick, repository, tmp_path):
    with pytest.raises(UsageError, match="name where the stick is mounted"):
        write_stick(tmp_path / "none", Repository(repository.folder), ["barn-7"], NOW)
    repository.assign(barn_1=next(iter(repository.bundles)))
    with pytest.raises(RepositoryError, match=r"barn-2, barn-3: nothing is assigned"):
        write_stick(stick, Repository(repository.folder), ["barn-1", "barn-2", "barn-3"], NOW)
    assert not list(stick.iterdir())
