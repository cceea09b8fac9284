"""A repository in memory, and a device that asks it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from edge.release.channels import Channel
from edge.release.state import Floor
from edge.release.store import release_name
from edge.release.trust import Trust, Wanted
from tests.edge.release.barn import Barn, Farm
from tests.edge.release.repository import NOW, Repository


@dataclass
class Asking:
    """barn-7's side: its trust folder, its floor and its clock."""

    folder: Path
    floor: Floor = field(default_factory=Floor)
    now: datetime = NOW
    name: str = "barn-7"

    def ask(self, channel: Channel) -> Wanted | None:
        """Refresh through a channel."""
        return Trust(self.folder, self.name, clock=lambda: self.now).refresh(channel, self.floor)

    def runs(self, channel: Channel) -> Wanted:
        """Refresh, and raise the floor as if it had been installed."""
        wanted = self.ask(channel)
        assert wanted is not None
        self.floor = Floor(
            assignment=wanted.assignment,
            bundle=wanted.bundle,
            means=wanted.means_seq,
            means_sha256=wanted.means.sha256 if wanted.means else "",
            root=wanted.versions.root,
            timestamp=wanted.versions.timestamp,
            snapshot=wanted.versions.snapshot,
        )
        return wanted


@pytest.fixture
def repository() -> Repository:
    """With nothing but its metadata, good for 30 days from NOW."""
    return Repository()


@pytest.fixture
def provision(tmp_path: Path) -> Callable[[Repository], Asking]:
    """Call with a repository: a device that begins to trust it."""

    def make(repository: Repository) -> Asking:
        folder = tmp_path / "trust"
        folder.mkdir(exist_ok=True)
        (folder / "root.json").write_bytes(repository.root)
        return Asking(folder)

    return make


@pytest.fixture
def device(repository: Repository, provision: Callable[[Repository], Asking]) -> Asking:
    """barn-7, provisioned from `repository`."""
    return provision(repository)


@pytest.fixture
def farm() -> Farm:
    """A repository with nothing in it."""
    return Farm()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is some: nothing here is about power cuts."""
    shared = Path("/dev/shm")
    if not shared.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="earmark-", dir=shared))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def barn(memory: Path, farm: Farm) -> Barn:
    """A device that runs the farm's first bundle."""
    farm.first = farm.bundle("one", "cow001", "cow002")
    farm.first_seq = farm.assign("all", farm.first)
    barn = Barn(memory / "store", farm)
    assert barn.settle().phase == "idle"
    barn.spend(60)
    assert barn.current == release_name(farm.first, farm.first_seq)
    barn.reports.clear()
    barn.asked.clear()
    return barn
