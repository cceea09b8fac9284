"""A repository in memory, and a device that asks it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pytest

from edge.release.channels import Channel
from edge.release.state import Floor
from edge.release.trust import Trust, Wanted
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
