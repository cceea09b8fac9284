"""A repository in a folder with keys that are cheap to open, bundles for it, and a device."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from deploy.repo import checking
from deploy.repo.creating import create_repository
from deploy.repo.keys import KeyRing
from deploy.repo.passphrases import GivenPassphrases
from deploy.repo.repository import Repository
from edge.files import sha256_file
from edge.identity.means import load_means, save_means
from edge.release.channels.folder import FolderChannel
from edge.release.manifest import FileEntry, content_id, decode_manifest, encode_manifest
from edge.release.trust import Wanted
from tests.edge.release.conftest import Asking
from tests.edge.release.repository import NOW

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
PASSPHRASE = "four words make one"


class Operator:
    """Who has a repository, all its keys, and a device that updates from its public folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keys = folder / "keys"
        self.now = NOW
        self.repository = create_repository(folder, self.ring(), clock=lambda: self.now)
        trust = folder.parent / "trust"
        trust.mkdir()
        shutil.copy(folder / "root.json", trust)
        self.device = Asking(trust)

    def ring(self, *folders: Path) -> KeyRing:
        """Return key files in folders, the repository's own by default."""
        return KeyRing(folders or (self.keys,), GivenPassphrases(PASSPHRASE), cost=2)

    def open(self, *keys: Path) -> Repository:
        """Return the repository as another run of the program opens it."""
        return Repository(self.folder, self.ring(*keys), lambda: self.now)

    @property
    def channel(self) -> FolderChannel:
        """The public folder, as devices read it."""
        return FolderChannel(self.folder / "public")

    def runs(self) -> Wanted:
        """Let the device update; return what it is told to run."""
        self.device.now = self.now
        return self.device.runs(self.channel)

    def files(self) -> dict[str, bytes]:
        """Return everything that is published, by path."""
        public = self.folder / "public"
        return {
            str(path.relative_to(public)): path.read_bytes()
            for path in sorted(public.glob("**/*"))
            if path.is_file()
        }


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """Of a farm with an empty repository; its workstation cannot run models."""
    monkeypatch.setattr(checking, "has_runtime", lambda: False)
    return Operator(tmp_path / "repo")


@pytest.fixture
def bundle(tmp_path: Path) -> Callable[..., Path]:
    """Call with a word: the demo's bundle with that in its report, so another one each time."""

    def make(word: str = "", **changes: object) -> Path:
        folder = tmp_path / f"bundle-{word}"
        shutil.copytree(DEMO, folder, dirs_exist_ok=True)
        (folder / "report.html").write_text(word)
        describe(folder, **changes)
        return folder

    return make


def describe(folder: Path, **changes: object) -> None:
    """Make a bundle's manifest agree with its files, as an exporter does."""
    path = folder / "manifest.json"
    manifest = decode_manifest(path.read_bytes(), "a bundle")
    files = {
        name: FileEntry(
            sha256=sha256_file(folder / name), size=(folder / name).stat().st_size, role=entry.role
        )
        for name, entry in manifest.files.items()
    }
    changes = {"files": files, "id": content_id(files), **changes}
    path.write_bytes(encode_manifest(msgspec.structs.replace(manifest, **changes)))


@pytest.fixture
def means(tmp_path: Path) -> Callable[..., Path]:
    """Call with a margin, and changes of the header: the demo's herd with that margin."""

    def make(margin: float = 0.05, **changes: object) -> Path:
        herd = load_means(DEMO / "means.npz")
        header = msgspec.structs.replace(herd.header, **changes)
        path = tmp_path / f"means-{margin}.npz"
        save_means(replace(herd, margin=margin, header=header), path)
        return path

    return make
