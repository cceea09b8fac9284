from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from edge.release import state
from edge.release.state import Boot, Floor, Journal, StateDamagedError

NAME = "0123456789ab-7"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    state.prepare(tmp_path / "store")
    return tmp_path / "store"


def test_a_fresh_store_has_defaults_and_one_that_was_born_has_its_files(tmp_path: Path) -> None:
    assert state.read_floor(tmp_path) == Floor()
    assert state.read_journal(tmp_path) == Journal()
    assert state.read_boot(tmp_path) == Boot()
    state.prepare(tmp_path)
    files = {path.name for path in (tmp_path / "state").iterdir()}
    assert files == {".born", "floor.json", "journal.json", "boot.json"}


@pytest.mark.parametrize("name", ["floor", "journal", "boot"])
def test_in_a_store_that_was_born_a_missing_file_is_damage(root: Path, name: str) -> None:
    (root / "state" / f"{name}.json").unlink()
    state.prepare(root)
    with pytest.raises(
        StateDamagedError, match=f"{name}.json: missing; nothing is installed until"
    ):
        getattr(state, f"read_{name}")(root)


def test_an_interrupted_birth_keeps_what_was_written(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    state.write_floor(tmp_path, Floor(assignment=3))
    state.prepare(tmp_path)
    assert state.read_floor(tmp_path).assignment == 3


def test_what_is_written_is_read(root: Path) -> None:
    journal = Journal(
        phase="rolled_back",
        release=NAME,
        assignment=7,
        means=12,
        reason="died twice",
        rev=9,
        rejected={NAME: "died twice"},
        previous="ba9876543210-6",
    )
    state.write_journal(root, journal)
    assert state.read_journal(root) == journal
    state.write_boot(root, Boot(trial=NAME, tries=1))
    assert state.read_boot(root) == Boot(trial=NAME, tries=1)


def test_the_floor_only_rises_number_for_number(root: Path) -> None:
    one = state.write_floor(root, Floor(assignment=5, means=2, root=1, bundle="ab" * 32))
    assert one == state.read_floor(root)
    two = state.write_floor(root, Floor(assignment=4, means=3, timestamp=8, bundle="cd" * 32))
    expected = Floor(assignment=5, means=3, root=1, timestamp=8, bundle="ab" * 32)
    assert two == state.read_floor(root) == expected
    state.write_floor(root, Floor())
    assert state.read_floor(root) == expected


def test_the_content_of_a_seq_goes_with_the_seq_and_is_never_exchanged() -> None:
    floor = Floor(assignment=5, bundle="ab" * 32, means=2)
    assert floor.raised(Floor(assignment=5, bundle="cd" * 32)).bundle == "ab" * 32
    assert floor.raised(Floor(assignment=6, bundle="cd" * 32)).bundle == "cd" * 32
    assert floor.raised(Floor(assignment=6)).bundle == ""
    assert floor.raised(Floor(means=2, means_sha256="ef" * 32)).means_sha256 == "ef" * 32
    assert floor.raised(Floor(means=1, means_sha256="ef" * 32)).means_sha256 == ""


def test_a_newer_root_says_how_far_timestamp_and_snapshot_have_counted() -> None:
    """Their keys were stolen, counted up to the sky, and replaced."""
    stolen = Floor(root=1, timestamp=1 << 40, snapshot=9, assignment=5)
    replaced = Floor(root=2, timestamp=12, snapshot=10, assignment=6)
    assert stolen.raised(replaced) == replaced.raised(stolen) == replaced
    assert replaced.raised(Floor(root=2, timestamp=11)) == replaced


def test_a_damaged_floor_is_not_raised_but_by_a_repair(root: Path) -> None:
    path = root / "state" / "floor.json"
    path.write_bytes(b'{"schema":1,"assi')
    with pytest.raises(StateDamagedError):
        state.write_floor(root, Floor(assignment=9))
    assert path.read_bytes() == b'{"schema":1,"assi'
    state.replace_floor(root, Floor(assignment=2))
    assert state.read_floor(root) == Floor(assignment=2)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"assignment": -1},
        {"assignment": 10**15},
        {"assignment": 1.5},
        {"assignment": "7"},
        {"news": 1},
        {"bundle": "x"},
        {"bundle": "ab" * 32 + "\n"},
    ],
)
def test_a_floor_that_is_not_ours_is_damage(root: Path, change: dict[str, object]) -> None:
    fields = msgspec.to_builtins(Floor(assignment=1)) | change
    (root / "state" / "floor.json").write_bytes(msgspec.json.encode(fields))
    with pytest.raises(StateDamagedError, match=r"floor\.json: damaged"):
        state.read_floor(root)


@pytest.mark.parametrize(
    "change",
    [
        {"phase": "asleep"},
        {"release": "../etc"},
        {"release": f"{NAME}\n"},
        {"rejected": {"x": "y"}},
        {"phase": "committing"},
        {"phase": "trial", "release": None},
    ],
)
def test_a_journal_that_makes_no_sense_is_damage(root: Path, change: dict[str, object]) -> None:
    fields = msgspec.to_builtins(Journal()) | change
    (root / "state" / "journal.json").write_bytes(msgspec.json.encode(fields))
    with pytest.raises(StateDamagedError):
        state.read_journal(root)


def test_what_could_not_be_read_again_is_not_written(root: Path) -> None:
    with pytest.raises(msgspec.ValidationError):
        state.write_boot(root, Boot(trial="../etc"))
    with pytest.raises(msgspec.ValidationError):
        state.write_journal(root, Journal(reason="x" * 501))
    assert state.read_boot(root) == Boot()


def test_the_last_rejected_are_remembered_and_the_journal_stays_small(root: Path) -> None:
    journal = Journal()
    for seq in range(100):
        name = f"0123456789ab-{seq}"
        journal = msgspec.structs.replace(
            journal, rejected=journal.rejecting(name, "\x01\N{COW FACE}" * 500)
        )
    state.write_journal(root, journal)
    assert list(state.read_journal(root).rejected)[-1] == "0123456789ab-99"
    assert len(journal.rejected) == 32
    again = journal.rejecting("0123456789ab-80", "again")
    assert list(again)[-1] == "0123456789ab-80"
    assert len(again) == 32


def test_a_folder_in_a_files_place_is_damage(root: Path) -> None:
    path = root / "state" / "boot.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(StateDamagedError, match="cannot be read"):
        state.read_boot(root)
