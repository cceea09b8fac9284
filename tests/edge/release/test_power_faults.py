"""Fault table, the power cut: at every named point of an update the disk holds a whole release.

An ext4 file system in a file is copied at each point that is passed: the copy is what a disk would
hold whose power failed then. It is mounted, as after a reboot, and an agent and an updater start
on it. Beside that others sync files of their own, which brings names to the disk whose content has
not been written: what makes empty models.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge import durable
from tests.edge.release import acts
from tests.edge.release.acts import ACTS, NEW, Act

pytestmark = pytest.mark.slow
# Nothing reaches the disk by itself, neither after some seconds nor because of a rename.
OPTIONS = "loop,data=ordered,noauto_da_alloc,commit=600"


@contextlib.contextmanager
def mounted(file: Path, place: Path) -> Iterator[None]:
    run = subprocess.run(
        ["mount", "-o", OPTIONS, str(file), str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if run.returncode:
        pytest.skip(f"a file system may not be mounted here: {run.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


class Rig:
    """A store on a disk of its own, whose power fails at every point of an act.

    models: the sizes of the models that were there after the last cut.
    """

    def __init__(self, file: Path, folder: Path) -> None:
        self._file, self._cut = file, file.with_name("cut.img")
        self._place, self._again = folder / "disk", folder / "again"
        self._place.mkdir()
        self._again.mkdir()
        self.models: dict[str, int] = {}

    def cuts(
        self,
        act: Act,
        *,
        others_sync: bool,
        patch: Callable[[], None] = lambda: None,
        only: str = "",
    ) -> dict[str, str]:
        """Do an act; return what was wrong after a cut at each of its points, where it was.

        others_sync: whether somebody else syncs a file just before each cut. patch: called before
        the act begins. only: cut where the point's name ends so. The last point, when the act has
        returned, is `told`.
        """
        found: dict[str, str] = {}
        passed = 0

        def cut(point: str, *, told: bool = False) -> None:
            nonlocal passed
            passed += 1
            if not point.endswith(only):
                return
            if others_sync:
                bystander = os.open(self._place / "bystander", os.O_WRONLY | os.O_CREAT)
                os.write(bystander, b"x")
                real_fsync(bystander)
                os.close(bystander)
            shutil.copyfile(self._file, self._cut)
            with mounted(self._cut, self._again):
                self.models = {
                    str(path.relative_to(self._again / "store")): path.stat().st_size
                    for path in (self._again / "store").rglob("*.tflite")
                }
                wrong = acts.damage(self._again / "store", act, told=told)
            if wrong is not None:
                found[f"{passed} {point}"] = wrong

        root, real_fsync = self._place / "store", os.fsync
        with mounted(self._file, self._place):
            act.given(root)
            os.sync()
            patch()
            durable.observer = without_looking(cut)
            try:
                act.do(root)
            finally:
                durable.observer = lambda point: None
            cut("told", told=True)
        assert passed > 4
        return found


def without_looking(cut: Callable[[str], None]) -> Callable[[str], None]:
    """Return an observer that is not called for the points that it passes itself."""

    def look(point: str) -> None:
        durable.observer = lambda point: None
        cut(point)
        durable.observer = look

    return look


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """In memory, where copying takes milliseconds."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    if shutil.which("mkfs.ext4") is None or shutil.which("mount") is None:
        pytest.skip("mkfs.ext4 and mount are not installed")
    shared = Path("/dev/shm")
    folder = shared / f"earmark-store-{os.getpid()}" if shared.is_dir() else tmp_path / "images"
    folder.mkdir()
    file = folder / "disk.img"
    with file.open("wb") as stream:
        stream.truncate(8 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", "-J", "size=1", str(file)], check=True)
        yield Rig(file, tmp_path)
    finally:
        shutil.rmtree(folder)


@pytest.mark.parametrize("others_sync", [False, True], ids=["alone", "others sync"])
@pytest.mark.parametrize("name", ["fetch", "stage", "commit", "roll_back", "clean", "return"])
def test_after_a_cut_at_every_point_current_is_whole_and_the_floor_stands(
    name: str, others_sync: bool, rig: Rig
) -> None:
    assert rig.cuts(ACTS[name], others_sync=others_sync) == {}


def test_without_syncing_content_the_rig_finds_empty_models(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders and state that are synced bring names without content, as if it were all there."""
    real = os.fsync

    def but_content(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if stat.S_ISDIR(os.fstat(handle).st_mode) or "state" in path.parts:
            real(handle)

    whole_way = Act(acts.given_running, lambda root: acts.install_all(root, NEW), after=NEW)
    found = rig.cuts(
        whole_way,
        others_sync=True,
        patch=lambda: monkeypatch.setattr(os, "fsync", but_content),
        only="told",
    )
    assert list(found.values()) == [f"the agent starts {NEW.name}, which is not whole"]
    assert rig.models[f"releases/{NEW.name}/embedder.tflite"] == 0


def test_without_any_sync_the_rig_finds_that_a_commit_was_forgotten(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rig.cuts(
        ACTS["commit"],
        others_sync=False,
        patch=lambda: monkeypatch.setattr(os, "fsync", lambda handle: None),
        only="told",
    )
    assert [point.split()[-1] for point in found] == ["told"]
