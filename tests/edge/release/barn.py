"""A device for the updater's tests: its store, its clock, its repository, and an agent that acts.

Time goes by as fast as the steps are done. The gate is a double; the rest is what devices run.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import msgspec
import numpy as np

from edge.errors import BundleError
from edge.identity.means import MeansHeader
from edge.messaging.events import UpdateReport, decode, encode
from edge.release.channels import Channel
from edge.release.download import download
from edge.release.gate import Answer, Request
from edge.release.heartbeat import Heartbeat, read_heartbeat, write_heartbeat
from edge.release.manifest import encode_manifest
from edge.release.selection import Selected, peek, select
from edge.release.soak import SoakTerms
from edge.release.state import Floor, read_floor, read_journal
from edge.release.store import Store
from edge.release.trust import Blob, Trust
from edge.release.updater import Updater
from edge.release.world import Options, World
from tests.edge.release import acts
from tests.edge.release.repository import NOW, Repository

SOAK = SoakTerms(30.0, 50)
MEANS_SOAK = SoakTerms(0.0, 5, least_rate=0.0)
FPS = 5.0
_LOADING_S = 3.0
_DIMENSION = 64


def means_npz(embedder_sha256: str, *animals: str) -> bytes:
    """Return class means of an embedder, other ones for other animals."""
    rows = np.eye(_DIMENSION, dtype=np.float32)[[sum(name.encode()) % 60 for name in animals]]
    buffer = io.BytesIO()
    header = MeansHeader(embedder_sha256=embedder_sha256)
    np.savez_compressed(
        buffer,
        animals=np.array(animals),
        prototypes=rows,
        owner=np.arange(len(animals), dtype=np.int32),
        sums=rows.astype(np.float64),
        counts=np.ones(len(animals), np.int64),
        threshold=np.full(len(animals), 0.3, np.float32),
        margin=np.float32(0.05),
        header=np.array(msgspec.json.encode(header).decode()),
    )
    return buffer.getvalue()


def bundle_files(embedder: str, *animals: str) -> tuple[dict[str, bytes], str]:
    """Return a bundle's files, its manifest too, and the SHA-256 of its embedder."""
    files = acts.bundle(embedder=embedder, means="")
    sha256 = acts.manifest_of(files).embedder.sha256
    files["means.npz"] = means_npz(sha256, *animals)
    manifest = acts.manifest_of(files)
    return {**files, "manifest.json": encode_manifest(manifest)}, sha256


class Farm(Repository):
    """A repository with bundles that devices can make releases of. embedders: by bundle id.

    first, first_seq: the bundle that everybody runs at first.
    """

    def __init__(self, days: int = 30) -> None:
        super().__init__(days)
        self.embedders: dict[str, str] = {}
        self.first, self.first_seq = "", 0

    def bundle(self, embedder: str, *animals: str) -> str:
        """Publish a bundle and return its id."""
        files, sha256 = bundle_files(embedder, *animals)
        bundle = acts.manifest_of({n: d for n, d in files.items() if n != "manifest.json"}).id
        for name, data in files.items():
            self.put("models", f"models/{bundle}/{name}", data)
        self.publish()
        self.embedders[bundle] = sha256
        return bundle

    def means(self, bundle: str, *animals: str, scope: str = "all") -> int:
        """Publish class means that a bundle's embedder made; return their seq."""
        embedder = self.embedders[bundle]
        return self.publish_means(means_npz(embedder, *animals), scope, embedder)


@dataclass
class Agent:
    """What a device's agent does with releases, every second. A supervisor starts it again.

    dies, errs, silent, degraded, slow, deaf: names of releases by which it dies at once, cannot be
    loaded, sees no frame, has no accelerator, sees a fifth of the frames, or hangs. away: nobody
    starts it. starts: the releases that were started.
    """

    root: Path
    away: bool = False
    dies: set[str] = field(default_factory=set)
    errs: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    degraded: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    deaf: set[str] = field(default_factory=set)
    starts: list[str] = field(default_factory=list)
    running: Selected | None = None
    _since_s: float = 0.0
    _frames: float = 0.0
    _at_s: float = 0.0
    _ready_s: float = 0.0
    _error: str | None = None
    _boots: int = 0
    _next_s: float = 0.0

    def live(self, now_s: float) -> None:
        """Do what there is to do at this time, at most twice a second."""
        if now_s < self._next_s:
            return
        self._next_s = now_s + 0.5
        if self.away:
            self.running = None
            return
        if self.running is None:
            self._start(now_s)
        if self.running is None or now_s < self._ready_s:
            return
        wanted = peek(self.root, self.running.release)
        refused = self._error is not None and self._error.startswith(wanted.release)
        if wanted.release != self.running.release and not refused:
            if self._same_models(wanted):
                self._run(select(self.root) if wanted.trial else wanted, now_s, self._ready_s)
            else:
                self._start(now_s)
                return
        elif wanted.release == self.running.release:
            self.running = wanted
        self._work(now_s)

    def _start(self, now_s: float) -> None:
        self.running = None
        try:
            selected = select(self.root)
        except BundleError:
            return
        self._boots += 1
        self._error = None
        self.starts.append(selected.release)
        if selected.release in self.dies:
            return
        if selected.trial and selected.release in self.errs:
            self._error = f"{selected.release}: no such accelerator"
            current = Store(self.root).current()
            assert current is not None
            selected = Selected(current, current.name, False)
        self._run(selected, now_s, now_s + _LOADING_S)

    def _run(self, selected: Selected, now_s: float, ready_s: float) -> None:
        self.running, self._ready_s = selected, ready_s
        self._since_s = self._at_s = max(now_s, ready_s)
        self._frames = 0.0

    def _same_models(self, other: Selected) -> bool:
        store = Store(self.root)
        assert self.running is not None
        ours, theirs = store.verify(self.running.release), store.verify(other.release)
        return ours.embedder.sha256 == theirs.embedder.sha256

    def _work(self, now_s: float) -> None:
        assert self.running is not None
        name = self.running.release
        if name in self.deaf:
            return
        rate = 0.0 if name in self.silent else FPS / 5 if name in self.slow else FPS
        self._frames += rate * (now_s - self._at_s)
        self._at_s = now_s
        degraded = name in self.degraded
        heartbeat = Heartbeat(
            pid=1,
            boot=f"boot-{self._boots}",
            release=name,
            trial=self.running.trial,
            since_s=now_s - self._since_s,
            frames=int(self._frames),
            named=0,
            unknown=0,
            backend="cpu" if degraded else "edgetpu",
            degraded=degraded,
            error=self._error,
            at_monotonic_s=now_s,
        )
        write_heartbeat(self.root, heartbeat)


class Barn:
    """One device, and time. refuse: what the gate says of a release, by its name, if not yes."""

    def __init__(self, root: Path, farm: Farm) -> None:
        self.root, self.farm = root, farm
        (root / "trust").mkdir(parents=True)
        (root / "trust" / "root.json").write_bytes(farm.root)
        self.now_s = 1000.0
        self.wall: datetime | None = NOW
        self.free_bytes = 1 << 30
        self.agent = Agent(root)
        self.channels: list[Channel] = [farm]
        self.reports: list[UpdateReport] = []
        self.gate: Callable[[Request], Answer] = lambda request: Answer()
        self.asked: list[Request] = []
        self.with_agent = True
        self.updater = self.start_updater()

    def start_updater(self) -> Updater:
        """Start the updater, anew where there was one: nothing but the store is remembered."""
        store = Store(self.root)
        trust = Trust(self.root / "trust", "barn-7", clock=lambda: self.wall or NOW)

        def try_out(request: Request) -> Answer:
            self.asked.append(request)
            return self.gate(request)

        def fetch(channel: Channel, blob: Blob, tell: Callable[[int], None]) -> Path:
            return download(channel, blob, store, limit_bytes_s=None, on_progress=tell)

        world = World(
            clock=lambda: self.now_s,
            now=lambda: self.wall,
            refresh=trust.refresh,
            download=fetch,
            try_out=try_out,
            heartbeat=lambda: read_heartbeat(self.root),
            report=lambda report: self.reports.append(decode(encode(report), UpdateReport)),
            free_bytes=lambda: self.free_bytes,
        )
        options = Options(900.0, SOAK, MEANS_SOAK, agent=self.with_agent)
        self.updater = Updater(self.root, "barn-7", self.channels, world, options)
        return self.updater

    def settle(self, limit_s: float = 3000.0) -> UpdateReport:
        """Let time go by until the updater rests for some while; return its last word."""
        end_s = self.now_s + limit_s
        while self.now_s < end_s:
            wait_s = self.updater.step()
            if self.updater.resting and wait_s > 0:
                return self.reports[-1]
            self.spend(min(wait_s, 1.0))
        raise AssertionError(f"still {self.reports[-1]} after {limit_s} s")

    def look(self) -> UpdateReport:
        """Have it look now, and settle."""
        self.updater.look()
        return self.settle()

    def spend(self, seconds: float) -> None:
        """Let time go by for the agent, in steps of at most a second."""
        end_s = self.now_s + seconds
        self.agent.live(self.now_s)
        while self.now_s < end_s:
            self.now_s = min(end_s, self.now_s + 1.0)
            self.agent.live(self.now_s)

    @property
    def current(self) -> str | None:
        """The current release's name, after it was verified."""
        folder = Store(self.root).current()
        if folder is None:
            return None
        Store(self.root).verify(folder.name)
        return folder.name

    @property
    def floor(self) -> Floor:
        return read_floor(self.root)

    @property
    def phases(self) -> list[str]:
        """The phases that were reported, repetitions left out."""
        phases = [report.phase for report in self.reports]
        return [phase for n, phase in enumerate(phases) if n == 0 or phases[n - 1] != phase]

    @property
    def rejected(self) -> dict[str, str]:
        return read_journal(self.root).rejected
