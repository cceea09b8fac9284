"""Changes that are killed, and devices that read while one is made: old or new, never half."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from deploy.repo.copying import copy_repository, current_files
from edge import durable
from edge.errors import EarmarkError, UsageError
from edge.release.channels.folder import FolderChannel
from edge.release.state import Floor
from edge.release.trust import Trust, Wanted
from tests.deploy.repo.conftest import Operator

Act = Callable[[Operator, dict[str, Path]], object]


class Killed(BaseException):
    """The process is gone."""


ACTS: dict[str, Act] = {
    "publish": lambda operator, files: operator.open().publish(files["new"]),
    "assign": lambda operator, files: operator.open().assign("all", files["new id"].name),
    "publish-means": lambda operator, files: operator.open().publish_means(files["means"], "all"),
    "rotate timestamp": lambda operator, files: operator.open().rotate("timestamp"),
    "rotate snapshot": lambda operator, files: operator.open().rotate("snapshot"),
    "rotate models": lambda operator, files: operator.open().rotate("models"),
    "rotate root": lambda operator, files: operator.open().rotate("root"),
    "renew": lambda operator, files: operator.open().renew(["timestamp", "targets", "root"]),
}


@pytest.fixture
def files(
    operator: Operator, bundle: Callable[..., Path], means: Callable[..., Path]
) -> dict[str, Path]:
    """What the acts need; `old` is what everybody runs."""
    repository = operator.repository
    repository.assign("all", repository.publish(bundle("old")))
    other = repository.publish(bundle("other"))
    operator.runs()
    return {"new": bundle("new"), "new id": Path(other), "means": means()}


def points(operator: Operator, act: Callable[[], object]) -> list[str]:
    """Return the named points that an act passes."""
    passed: list[str] = []
    with watched(passed.append):
        act()
    return passed


class watched:  # noqa: N801 - reads like a verb
    """Let somebody look on at every named point, for a block."""

    def __init__(self, look: Callable[[str], None]) -> None:
        self._look = look

    def __enter__(self) -> None:
        durable.observer = self._look

    def __exit__(self, *error: object) -> None:
        durable.observer = lambda point: None


def ask(operator: Operator, folder: Path, floor: Floor) -> Wanted | None:
    """Let some device with that trust folder ask."""
    return Trust(folder, "barn-7", clock=lambda: operator.now).refresh(operator.channel, floor)


@pytest.mark.parametrize("name", ACTS)
def test_at_every_moment_of_a_change_devices_read_the_old_or_the_new(
    operator: Operator, files: dict[str, Path], name: str, tmp_path: Path
) -> None:
    """One that knows the old, and one that has just been provisioned."""
    before = ask(operator, operator.device.folder, operator.device.floor)
    seen: list[Wanted | None] = []
    busy = False

    def look(point: str) -> None:
        nonlocal busy
        # Devices make their own files durable, and pass points as well.
        if busy or not point.endswith(("made", "renamed")):
            return
        busy = True
        fresh = tmp_path / f"fresh-{len(seen)}"
        fresh.mkdir()
        (fresh / "root.json").write_bytes((operator.folder / "root.json").read_bytes())
        seen.append(ask(operator, operator.device.folder, operator.device.floor))
        seen.append(ask(operator, fresh, Floor()))
        busy = False

    with watched(look):
        ACTS[name](operator, files)
    after = ask(operator, operator.device.folder, operator.device.floor)
    assert len(seen) >= 4
    kinds = [without_versions(one) for one in seen]
    assert set(kinds) <= {without_versions(before), without_versions(after)}
    assert kinds[0] == without_versions(before)


def without_versions(wanted: Wanted | None) -> tuple[object, ...]:
    assert wanted is not None
    return wanted.bundle, wanted.assignment, wanted.means, wanted.means_seq


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTS)
def test_a_change_killed_at_any_moment_can_be_made_again(
    operator: Operator, files: dict[str, Path], name: str
) -> None:
    number = 0
    while True:
        left = number

        def kill(point: str) -> None:
            nonlocal left
            if left == 0:
                raise Killed(point)
            left -= 1

        try:
            with watched(kill):
                ACTS[name](operator, files)
        except Killed:
            operator.runs()
            number += 3
            continue
        break
    assert number > 3
    operator.open().renew(["timestamp"])
    operator.runs()
    assert not [path for path in operator.files() if path.endswith(durable.UNFINISHED)]


class Interrupted(FolderChannel):
    """Lets the operator act while a device is between two questions."""

    def __init__(self, folder: Path, after: int, act: Callable[[], object]) -> None:
        super().__init__(folder)
        self._left, self._act = after, act

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        if self._left == 0:
            self._act()
        self._left -= 1
        yield from super().fetch(path, offset=offset, limit=limit)


@pytest.mark.parametrize("name", ACTS)
def test_a_change_made_while_a_device_asks_does_not_confuse_it(
    operator: Operator, files: dict[str, Path], name: str, tmp_path: Path
) -> None:
    for after in range(8):
        fresh = tmp_path / f"fresh-{after}"
        fresh.mkdir()
        (fresh / "root.json").write_bytes((operator.folder / "root.json").read_bytes())
        channel = Interrupted(
            operator.folder / "public", after, lambda: ACTS[name](operator, files)
        )
        trust = Trust(fresh, "barn-7", clock=lambda: operator.now)
        assert trust.refresh(channel, Floor()) is not None
        if after > 2 and name != "rotate root":
            break


def test_a_full_disk_changes_nothing(
    operator: Operator, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = operator.runs()
    count = 0

    def fill(path: Path, data: bytes) -> None:
        nonlocal count
        count += 1
        if count > 3:
            raise durable.DurableError(path, OSError(28, "No space left on device"))
        durable.write_durably(path, data)

    monkeypatch.setattr("deploy.repo.change.write_durably", fill)
    with pytest.raises(EarmarkError, match="No space"):
        operator.open().publish(files["new"])
    assert operator.runs() == before
    monkeypatch.undo()
    monkeypatch.setattr("deploy.repo.checking.has_runtime", lambda: False)
    operator.open().assign("all", operator.open().publish(files["new"]))
    assert operator.runs().bundle != before.bundle


# Copies for web servers and sticks.


def test_a_copy_is_what_devices_need_and_no_more(
    operator: Operator, files: dict[str, Path], tmp_path: Path
) -> None:
    repository = operator.repository
    for margin in (1, 2, 3):
        repository.publish_means(files["means"], f"device/barn-{margin}7")
    repository.rotate("root")
    state = repository.state()
    stick = tmp_path / "stick"
    running = {wanted.bundle for wanted in [operator.runs()]}
    copied = copy_repository(state, stick, running)
    assert operator.device.ask(FolderChannel(stick)) == operator.runs()
    assert len([path for path in stick.glob("**/*") if path.is_file()]) == copied
    assert not (stick / "targets" / "models" / files["new id"].name).exists()
    assert not (stick / "metadata" / "1.models.json").exists()
    assert copy_repository(state, stick, running) == 0
    assert copy_repository(state, stick) > 0


def test_a_copy_broken_off_at_any_moment_is_old_or_new(
    operator: Operator, files: dict[str, Path], tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    copy_repository(operator.repository.state(), stick)
    old = operator.device.ask(FolderChannel(stick))
    operator.repository.assign("all", files["new id"].name)
    operator.repository.rotate("snapshot")
    state = operator.repository.state()
    number = 0
    while True:
        left = number

        def kill(point: str) -> None:
            nonlocal left
            if left == 0:
                raise Killed(point)
            left -= 1

        try:
            with watched(kill):
                copy_repository(state, stick)
        except Killed:
            fresh = tmp_path / f"fresh-{number}"
            fresh.mkdir()
            (fresh / "root.json").write_bytes((operator.folder / "root.json").read_bytes())
            trust = Trust(fresh, "barn-7", clock=lambda: operator.now)
            found = trust.refresh(FolderChannel(stick), Floor())
            assert found is not None
            assert without_versions(found) in (
                without_versions(old),
                without_versions(operator.device.ask(operator.channel)),
            )
            number += 1
            continue
        break
    assert number > 5
    assert not list(stick.glob("**/*.new"))


def test_what_was_damaged_on_a_stick_is_copied_again(
    operator: Operator, files: dict[str, Path], tmp_path: Path
) -> None:
    stick = tmp_path / "stick"
    state = operator.repository.state()
    copy_repository(state, stick)
    hurt = [*stick.glob("targets/models/*/*.embedder.tflite"), stick / "metadata" / "1.root.json"]
    for path in hurt:
        path.write_bytes(path.read_bytes()[:-1])
    assert copy_repository(state, stick) == len(hurt)


def test_what_was_current_long_ago_is_removed(
    operator: Operator, files: dict[str, Path], tmp_path: Path
) -> None:
    repository = operator.repository
    for _ in range(3):
        repository.publish_means(files["means"], "device/barn-9")
    repository.rotate("root")
    (operator.folder / "public" / "robots.txt").write_text("not ours to remove")
    copy_repository(repository.state(), tmp_path / "www")
    roots = {path for path in operator.files() if path.endswith("root.json")}
    repository.withdraw_means("device/barn-9")
    operator.now += timedelta(days=6)
    repository.renew(["timestamp"])
    assert any("barn-9" in path for path in operator.files())
    operator.now += timedelta(days=2)
    repository.renew(["timestamp"])
    copy_repository(repository.state(), tmp_path / "www")
    left = set(operator.files())
    assert not any("barn-9" in path for path in left)
    assert roots <= left
    assert "robots.txt" in left
    assert len([path for path in left if path.endswith("snapshot.json")]) == 1
    assert not list((tmp_path / "www").glob("**/*barn-9*"))
    operator.runs()


def test_what_was_current_just_now_stays_for_who_is_reading_it(
    operator: Operator, files: dict[str, Path]
) -> None:
    """However old it is itself."""
    before = current_files(operator.repository.state())
    operator.now += timedelta(days=50)
    operator.repository.assign("all", files["new id"].name)
    assert before <= set(operator.files())


def test_nobody_changes_what_is_being_copied(
    operator: Operator, files: dict[str, Path], tmp_path: Path
) -> None:
    """Else a timestamp would be copied that speaks of a snapshot that was not."""
    stick = tmp_path / "stick"
    refused = 0

    def change(_: str) -> None:
        nonlocal refused
        try:
            operator.open().renew(["timestamp"])
        except UsageError:
            refused += 1

    with watched(change):
        operator.repository.copy(stick, assigned=True)
    assert refused > 5
    assert operator.device.ask(FolderChannel(stick)) == operator.runs()


def test_a_copy_leaves_the_files_of_others_alone(
    operator: Operator, files: dict[str, Path], tmp_path: Path
) -> None:
    """Whoever names a folder too high up loses nothing."""
    theirs = tmp_path / "home" / "thesis" / ".chapter.new"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("three months")
    operator.repository.copy(tmp_path / "home")
    assert theirs.exists()


def test_a_bundle_whose_files_are_gone_can_be_withdrawn(
    operator: Operator, files: dict[str, Path]
) -> None:
    bundle = operator.repository.publish(files["new"])
    shutil.rmtree(operator.folder / "public" / "targets" / "models" / bundle)
    operator.repository.withdraw(bundle)
    assert bundle not in operator.repository.state().bundles()
