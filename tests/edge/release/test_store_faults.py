"""Fault table: killed at every named point, state torn at every length, disk full, disk failing.

Whatever happened, `current` is a whole verified release and the floor has not fallen.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from edge.durable import DurableError
from edge.errors import BundleError
from edge.release import install, state
from edge.release.selection import Selected, select
from edge.release.state import StateDamagedError
from edge.release.store import Store
from tests.edge.release import acts
from tests.edge.release.acts import ACTS, NEW, OLD, OTHER, Act

MakeStore = Callable[[Act], Path]


@pytest.fixture
def make_store(tmp_path: Path) -> Iterator[MakeStore]:
    """Call with an act: a store in the state that it begins from, a copy of the first of its kind.

    In memory where there is some: a kill loses nothing that was written.
    """
    shared = Path("/dev/shm")
    folder = shared / f"earmark-store-{os.getpid()}" if shared.is_dir() else tmp_path / "stores"
    folder.mkdir()
    made = 0

    def make(act: Act) -> Path:
        nonlocal made
        template = folder / act.given.__name__
        if not template.exists():
            act.given(template)
        made += 1
        return copy_store(template, folder / str(made))

    yield make
    shutil.rmtree(folder)


def copy_store(source: Path, target: Path) -> Path:
    """Copy a store with its links: what were two names of one file are so again."""
    first: dict[int, Path] = {}
    for folder, folders, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        place.mkdir()
        for name in [*folders, *files]:
            path = Path(folder, name)
            if path.is_symlink():
                (place / name).symlink_to(path.readlink())
            elif name in files and path.stat().st_ino in first:
                (place / name).hardlink_to(first[path.stat().st_ino])
            elif name in files:
                shutil.copy(path, place / name)
                first[path.stat().st_ino] = place / name
    return target


class Worker:
    """Another process that does acts in children of its own, and has them killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, acts.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def do(self, act: str, root: Path, die_at: int | None = None) -> dict[str, Any]:
        """Return the `points` that were passed, or the signal that it was `killed` by."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        wish = {"act": act, "root": str(root), "die_at": die_at}
        self._process.stdin.write(json.dumps(wish) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()


def goes_on(root: Path) -> bool:
    """Install what comes next; return whether it is current then."""
    acts.install_all(root, OTHER)
    return Store(root).current() == Store(root).release(OTHER.name)


@pytest.mark.slow
@pytest.mark.parametrize("name", ACTS)
def test_killed_at_every_point_current_is_whole_and_the_floor_stands(
    name: str, make_store: MakeStore, worker: Worker
) -> None:
    act = ACTS[name]
    root = make_store(act)
    points = worker.do(name, root)["points"]
    assert acts.damage(root, act, told=True) is None
    assert len(points) >= 5
    for number, point in enumerate(points):
        root = make_store(act)
        assert worker.do(name, root, number) == {"killed": 9}, point
        # The next process is the updater's, or the agent's, which `damage` starts with.
        if number % 2:
            assert "points" in worker.do("finish", root), point
        assert acts.damage(root, act) is None, point
        assert number % 5 or goes_on(root), point
        shutil.rmtree(root)


@pytest.mark.slow
def test_killed_again_while_it_recovers(make_store: MakeStore, worker: Worker) -> None:
    act = ACTS["finish"]
    points = worker.do("finish", make_store(act))["points"]
    root = make_store(act)
    for number, _ in enumerate(points):
        answer = worker.do("finish", root, number)
        assert answer == {"killed": 9} or "points" in answer
    assert acts.damage(root, act) is None
    worker.do("finish", root)
    assert acts.damage(root, act, told=True) is None


@pytest.mark.parametrize("name", ["commit", "roll_back", "clean"])
def test_the_points_of_the_table_are_passed(name: str, make_store: MakeStore, worker: Worker):
    """A point that vanished would take its row of the table with it."""
    wanted = {
        "commit": [
            "journal: committing",
            "current: renamed",
            "floor.json: synced",
            "journal: idle",
        ],
        "roll_back": ["journal: rolled_back", "boot.json: renamed", "given up"],
        "clean": [
            f".gone-{OTHER.name}: renamed",
            "means.npz: removed",
            f"{'ab' * 32}.part: removed",
        ],
    }
    points = worker.do(name, make_store(ACTS[name]))["points"]
    passed = dict.fromkeys(point for point in points if point in wanted[name])
    assert list(passed) == wanted[name]


def torn(data: bytes) -> Iterator[bytes]:
    """Return every beginning that is not the whole; of some, with zeros where the rest was."""
    for length in range(len(data.rstrip())):
        yield data[:length]
        if length % 10 == 0:
            yield data[:length] + bytes(len(data) - length)


@pytest.mark.parametrize("name", ["floor", "journal"])
def test_torn_at_every_length_installs_are_closed_and_the_device_runs(
    name: str, make_store: MakeStore
) -> None:
    root = make_store(ACTS["clean"])
    path = root / "state" / f"{name}.json"
    data, floor = path.read_bytes(), state.read_floor(root)
    for rest in torn(data):
        path.write_bytes(rest)
        finished = install.finish(root)
        assert finished.done == "closed"
        assert path.name in finished.text
        assert "\n" not in finished.text
        assert path.read_bytes() == rest
        if len(rest) % 10 == 0:
            nothing_is_installed(root)
    path.unlink()
    assert install.finish(root).done == "closed"
    nothing_is_installed(root)
    assert install.repair(root) == floor == state.read_floor(root)
    assert install.finish(root).done == "nothing"
    assert goes_on(root)


def nothing_is_installed(root: Path) -> None:
    for act in (acts.commit, lambda root, release: install.begin_trial(root, release.name)):
        with pytest.raises(StateDamagedError):
            act(root, OTHER)
    assert select(root).release == NEW.name


def test_a_torn_boot_file_at_every_length_starts_what_is_current(make_store: MakeStore) -> None:
    root = make_store(ACTS["commit"])
    path = root / "state" / "boot.json"
    for rest in torn(path.read_bytes()):
        path.write_bytes(rest)
        assert select(root) == Selected(Store(root).release(OLD.name), OLD.name, trial=False)
        assert path.read_bytes() == rest
    assert install.finish(root).done == "rolled_back"
    assert acts.damage(root, ACTS["roll_back"], told=True) is None


def test_random_bytes_in_the_state_are_damage(make_store: MakeStore) -> None:
    rng = random.Random(7)
    root = make_store(ACTS["clean"])
    for name in ("floor", "journal", "boot"):
        path = root / "state" / f"{name}.json"
        before = path.read_bytes()
        for data in (rng.randbytes(200), b"[" * 50_000, b'{"schema": 2}', b"x" * (1 << 20), b"{}}"):
            path.write_bytes(data)
            assert select(root).release == NEW.name
            if name != "boot":
                assert install.finish(root).done == "closed"
        path.write_bytes(before)


class Failing:
    """Lets the `number`th call of operations on the disk fail; lasting: all after it too."""

    def __init__(self, code: int, *, lasting: bool) -> None:
        self.calls = 0
        self.number: int | None = None
        self._code, self._lasting = code, lasting

    def wrap(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(os, name)

        def call(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            due = self.number is not None and (
                self.calls > self.number if self._lasting else self.calls == self.number + 1
            )
            if due and self._applies(name, arguments):
                raise OSError(self._code, os.strerror(self._code))
            return real(*arguments, **named)

        monkeypatch.setattr(os, name, call)

    def _applies(self, name: str, arguments: tuple[Any, ...]) -> bool:
        """A full disk can still be read."""
        return name != "open" or bool(arguments[1] & os.O_CREAT)


WRITING = ["fetch", "stage", "commit", "roll_back", "clean", "return"]


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
def test_a_failing_fsync_at_every_call_fails_the_update_only(
    name: str, lasting: bool, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(errno.EIO, lasting=lasting)
    make_store(ACTS[name])
    failing.wrap(monkeypatch, "fsync")
    every_call_fails(name, failing, make_store)


@pytest.mark.parametrize("name", WRITING)
def test_a_full_disk_at_every_call_fails_the_update_only(
    name: str, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(errno.ENOSPC, lasting=True)
    make_store(ACTS[name])
    for what in ("open", "link", "mkdir", "symlink", "fsync"):
        failing.wrap(monkeypatch, what)
    every_call_fails(name, failing, make_store)


def every_call_fails(name: str, failing: Failing, make_store: MakeStore) -> None:
    """Do an act with the first call failing, the second, … until none is left to fail."""
    act = ACTS[name]
    for number in range(200):
        failing.number = None
        root = make_store(act)
        failing.calls, failing.number = 0, number
        failed = None
        try:
            act.do(root)
        except DurableError as error:
            failed = error
        calls, failing.number = failing.calls, None
        assert failed is None or "\n" not in str(failed)
        if name in ("stage", "replace") and failed is not None:
            assert NEW.name not in Store(root).releases()
        assert acts.damage(root, act) is None, number
        assert number % 5 or goes_on(root), number
        shutil.rmtree(root)
        if calls <= number:
            assert number >= 1
            return
    pytest.fail("more calls than any act makes")


def test_what_the_disk_would_not_keep_is_dropped_before_a_second_sync_calls_it_kept(
    make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_store(ACTS["commit"])
    store, real = Store(root), os.fsync

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if path.parts[-2:] == (NEW.name, "embedder.tflite"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DurableError, match="is the disk failing"):
        acts.commit(root, NEW)
    monkeypatch.undo()
    assert not store.has_blob(NEW.manifest.files["embedder.tflite"].sha256)
    assert install.finish(root).done == "rolled_back"
    assert store.current() == store.release(OLD.name)


@pytest.mark.slow
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """The whole way of an update with ever a page more of room than the last time."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    run = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        pytest.skip(f"a file system may not be mounted here: {run.stderr.strip()}")
    try:
        fail_until_there_is_room(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)


def fail_until_there_is_room(place: Path) -> None:
    root, filler = place / "store", place / "filler"
    acts.given_running(root)
    refused = 0
    for pages in range(200):
        fill(filler)
        os.truncate(filler, max(0, filler.stat().st_size // 4096 - pages) * 4096)
        failed = None
        try:
            acts.install_all(root, NEW)
        except (DurableError, OSError) as error:
            failed = str(error)
        if failed is None:
            break
        refused += 1
        assert "No space left" in failed
        assert Store(root).current() == Store(root).release(OLD.name)
        assert select(root).release == OLD.name
        filler.unlink()
        assert acts.damage(root, ACTS["stage"]) is None
        Store(root).clean([])
    assert refused > 10
    assert acts.damage(root, ACTS["commit"], told=True) is None


def fill(path: Path) -> None:
    """Write until there is no room."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as stream:
        while True:
            stream.write(bytes(4096))


def test_what_runs_is_not_taken_away_for_another_manifest_under_its_name(tmp_path: Path) -> None:
    acts.given_running(tmp_path)
    before = Store(tmp_path).verify(OLD.name)
    other = msgspec.structs.replace(OLD.manifest, created="2027-01-01T00:00:00Z")
    with pytest.raises(BundleError, match="another manifest"):
        Store(tmp_path).stage(OLD.name, other)
    assert Store(tmp_path).verify(OLD.name) == before
