"""A farm of one device: repository, broker, agent and updater, all of them real."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from deploy.repo.creating import create_repository
from deploy.repo.keys import KeyRing
from deploy.repo.passphrases import GivenPassphrases
from deploy.repo.repository import Repository
from edge.agent import Agent
from edge.config import (
    AgentConfig,
    BrokerConfig,
    CameraConfig,
    CommandsConfig,
    UpdatesConfig,
)
from edge.errors import EarmarkError
from edge.files import sha256_file
from edge.identity.means import ClassMeans, load_means, save_means
from edge.pipeline import FrameResult
from edge.release.manifest import content_id, decode_manifest, encode_manifest
from edge.vision.types import Frame
from trainer.means.edit import remove

DEMO = Path(__file__).parents[3] / "models" / "demo"
PASSPHRASE = "hay and straw and oats"
ENTRY = "from edge.cli import entry; entry()"


def sign_again(bundle: Path) -> None:
    """Make the manifest agree with the files."""
    path = bundle / "manifest.json"
    raw = json.loads(path.read_bytes())
    for name, entry in raw["files"].items():
        entry["sha256"] = sha256_file(bundle / name)
        entry["size"] = (bundle / name).stat().st_size
    raw["means"]["animals"] = len(load_means(bundle / "means.npz").animals)
    raw["id"] = content_id(decode_manifest(json.dumps(raw).encode(), "test").files)
    path.write_bytes(encode_manifest(decode_manifest(json.dumps(raw).encode(), "test")))


def bundle_without(animal: str, folder: Path) -> Path:
    """Return the demo's bundle as it was before an animal came."""
    shutil.copytree(DEMO / "bundle", folder)
    means = load_means(folder / "means.npz")
    save_means(remove(means, [animal]), folder / "means.npz")
    sign_again(folder)
    return folder


def renewed(means: ClassMeans, seq: int) -> ClassMeans:
    """Return class means with another seq, and so of another content."""
    return replace(means, header=msgspec.structs.replace(means.header, seq=seq))


class Farm:
    """Everything but the broker, below `folder`. device: its id."""

    device = "barn-7"

    def __init__(self, folder: Path, bundle: Path, broker: str, **updates: object) -> None:
        self.folder = folder
        self.store = folder / "store"
        ring = KeyRing([folder / "repo" / "keys"], GivenPassphrases(PASSPHRASE))
        self.repository = create_repository(folder / "repo", ring)
        self.bundle = self.repository.publish(bundle)
        self.repository.assign("all", self.bundle)
        (folder / "passphrase").write_text(f"{PASSPHRASE}\n")
        (self.store / "trust").mkdir(parents=True)
        shutil.copy(folder / "repo" / "root.json", self.store / "trust" / "root.json")
        clip = CameraConfig(name="pen", source=str(DEMO / "pen.mp4"), realtime=True, loop=True)
        self.config = AgentConfig(
            bundle=str(self.store / "current"),
            cameras=[clip],
            device=self.device,
            state_dir=str(folder / "state"),
            threads=1,
            clock="system",
            broker=BrokerConfig(url=broker),
            commands=CommandsConfig(enabled=True),
            updates=UpdatesConfig(
                store=str(self.store),
                channels=("mqtt:",),
                **updates,  # type: ignore[arg-type]
            ),
        )
        self.config_file = folder / "agent.yaml"
        self.config_file.write_bytes(msgspec.yaml.encode(self.config))

    @property
    def public(self) -> str:
        """The repository as a channel."""
        return (self.folder / "repo" / "public").as_uri()

    def edge(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command of earmark-edge to its end."""
        return subprocess.run(
            [sys.executable, "-c", ENTRY, *arguments, "--config", str(self.config_file)],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def start_updater(self) -> subprocess.Popen[str]:
        """Start the updater's daemon."""
        return subprocess.Popen(
            [sys.executable, "-c", ENTRY, "updater", "--config", str(self.config_file)],
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def current(self) -> str:
        """The name of the current release."""
        return (self.store / "current").resolve().name


class Running:
    """An agent in a thread, and every frame's result with the release that it ran by."""

    def __init__(self, config: AgentConfig) -> None:
        self.results: list[tuple[int, str, FrameResult]] = []
        self.errors: list[EarmarkError] = []
        self.said: list[str] = []
        self.restart = False
        self.agent = Agent(config, observers=[self._look], say=self.said.append)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _look(self, frame: Frame, result: FrameResult) -> None:
        release = self.agent._served.release.bundle
        self.results.append((frame.index, release, result))

    def _run(self) -> None:
        try:
            self.restart = self.agent.run().restart
        except EarmarkError as error:
            self.errors.append(error)

    @property
    def release(self) -> str:
        """The beginning of the id of what runs, empty before the first frame."""
        return self.results[-1][1] if self.results else ""

    def names(self, since: int = 0) -> set[str]:
        """Return whom it has named in the frames from a place in `results` on."""
        tracks = [track for _, _, result in self.results[since:] for track in result.tracks]
        return {track.animal for track in tracks if track.animal is not None}

    def stop(self) -> None:
        """End it."""
        self.agent.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()


def open_again(folder: Path) -> Repository:
    """Return the repository of a folder as an operator's next command would."""
    ring = KeyRing([folder / "keys"], GivenPassphrases(PASSPHRASE))
    return Repository(folder, ring)


def indices(results: Sequence[tuple[int, str, FrameResult]]) -> list[int]:
    """Return the numbers of the frames."""
    return [index for index, _, _ in results]
