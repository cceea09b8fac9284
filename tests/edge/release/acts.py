"""What the fault tests do to a store, and what must hold whatever happened to it meanwhile.

As a program: reads lines of JSON, does each act in a process of its own, and answers with the
points that were passed, or that it died at the one it was told to die at.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge import durable
from edge.release import install, state
from edge.release.manifest import FileEntry, Manifest, content_id, decode_manifest
from edge.release.selection import select
from edge.release.state import Floor
from edge.release.store import Store, release_name

KIB = 1024


def content(what: str, size: int) -> bytes:
    """Return bytes that are always the same for the same name."""
    return random.Random(what).randbytes(size)


def bundle(*, embedder: str, means: str) -> dict[str, bytes]:
    """Return the files of a bundle; all of them have the same detector."""
    return {
        "detector.tflite": content("detector", 40 * KIB),
        "embedder.tflite": content(embedder, 30 * KIB),
        "means.npz": content(means, 5 * KIB),
        "selftest.npz": content("selftest", 9 * KIB),
    }


def manifest_of(files: dict[str, bytes]) -> Manifest:
    """Return a manifest that is valid, for files that no model could be loaded from."""
    entries = {
        name: FileEntry(sha256=hashlib.sha256(data).hexdigest(), size=len(data), role="x")
        for name, data in files.items()
    }
    embedder = entries["embedder.tflite"].sha256
    fields = {
        "schema": 1,
        "id": content_id(entries),
        "seq": 1,
        "created": "2026-01-01T00:00:00Z",
        "min_agent": "0.1.0",
        "files": {
            name: {"sha256": entry.sha256, "size": entry.size, "role": entry.role}
            for name, entry in entries.items()
        },
        "detector": None,
        "embedder": {
            "sha256": embedder,
            "input_shape": [1, 96, 96, 3],
            "dtype": "int8",
            "pixel_scale": 0.0078,
            "pixel_offset": -1.0,
            "letterbox_colour": [114, 114, 114],
            "dimension": 64,
            "backbone": "b",
            "tap": "t",
        },
        "means": {"animals": 2, "dimension": 64, "embedder_sha256": embedder},
        "self_test": {"cosine_floor": 0.95},
        "training": {
            "recipe": {},
            "data_hash": "",
            "git_commit": "",
            "seed": 0,
            "packages": {},
            "metrics": {},
        },
    }
    return decode_manifest(json.dumps(fields).encode(), "test")


@dataclass(frozen=True)
class Release:
    """A bundle and the seq that it is assigned under."""

    files: dict[str, bytes]
    seq: int

    @property
    def manifest(self) -> Manifest:
        return manifest_of(self.files)

    @property
    def name(self) -> str:
        return release_name(self.manifest.id, self.seq)


OLD = Release(bundle(embedder="old", means="old"), 3)
NEW = Release(bundle(embedder="new", means="new"), 4)
OTHER = Release(bundle(embedder="new", means="other"), 5)


def fetch(root: Path, release: Release) -> None:
    """Let the content of a release arrive."""
    store = Store(root)
    for sha256, data in [(hashlib.sha256(d).hexdigest(), d) for d in release.files.values()]:
        if not store.has_blob(sha256):
            store.part(sha256).write_bytes(data)
            durable.at("fetch: arrived")
            store.adopt_part(sha256, len(data))


def stage(root: Path, release: Release) -> None:
    """Make a release of content that is there."""
    Store(root).stage(release.name, release.manifest)


def commit(root: Path, release: Release) -> None:
    """Make a release current; the seq of its means is ten times its own."""
    seen = Floor(root=release.seq, timestamp=release.seq, snapshot=release.seq)
    install.commit(root, release.name, release.seq, 10 * release.seq, seen=seen)


def install_all(root: Path, release: Release) -> None:
    """Go the whole way."""
    fetch(root, release)
    stage(root, release)
    install.begin_trial(root, release.name)
    commit(root, release)


def given_nothing(root: Path) -> None:
    """A store that holds a release which nobody has made current."""
    install.finish(root)
    fetch(root, OLD)
    stage(root, OLD)


def given_running(root: Path) -> None:
    """OLD is current."""
    given_nothing(root)
    commit(root, OLD)


def given_fetched(root: Path) -> None:
    """The content of NEW is there too."""
    given_running(root)
    fetch(root, NEW)


def given_staged(root: Path) -> None:
    """NEW is a release."""
    given_fetched(root)
    stage(root, NEW)


def given_trial(root: Path) -> None:
    """NEW is on trial."""
    given_staged(root)
    install.begin_trial(root, NEW.name)


def given_committing(root: Path) -> None:
    """NEW was about to become current, and nothing but the journal says so."""
    given_trial(root)

    def stop(point: str) -> None:
        if point == "journal: committing":
            raise InterruptedError

    durable.observer = stop
    try:
        commit(root, NEW)
    except InterruptedError:
        pass
    finally:
        durable.observer = lambda point: None


def given_updated(root: Path) -> None:
    """NEW is current, OLD ran before, OTHER was staged and refused, some content is half here."""
    given_trial(root)
    commit(root, NEW)
    fetch(root, OTHER)
    stage(root, OTHER)
    install.reject(root, OTHER.name, "no good")
    Store(root).part("ab" * 32).write_bytes(b"half")


def given_damaged(root: Path) -> None:
    """NEW is current, and floor and journal are torn."""
    given_updated(root)
    for name in ("floor", "journal"):
        path = root / "state" / f"{name}.json"
        path.write_bytes(path.read_bytes()[:40])


@dataclass(frozen=True)
class Act:
    """What is done in which state, and which releases may be current afterwards."""

    given: Callable[[Path], None]
    do: Callable[[Path], object]
    before: Release | None = OLD
    after: Release | None = OLD


ACTS = {
    "first": Act(given_nothing, lambda root: commit(root, OLD), before=None),
    "fetch": Act(given_running, lambda root: fetch(root, NEW)),
    "stage": Act(given_fetched, lambda root: stage(root, NEW)),
    "begin": Act(given_staged, lambda root: install.begin_trial(root, NEW.name)),
    "select": Act(given_trial, select),
    "commit": Act(given_trial, lambda root: commit(root, NEW), after=NEW),
    "roll_back": Act(given_trial, lambda root: install.roll_back(root, "no good")),
    "finish": Act(given_committing, install.finish, after=NEW),
    "clean": Act(given_updated, lambda root: Store(root).clean([OLD.name]), NEW, NEW),
    "return": Act(
        given_updated, lambda root: install.return_to_previous(root, "asked for"), NEW, OLD
    ),
    "repair": Act(given_damaged, install.repair, NEW, NEW),
    "replace": Act(given_staged, lambda root: _replace(root)),
}


def _replace(root: Path) -> None:
    """A staged release that is not whole any more is made again."""
    path = Store(root).release(NEW.name) / "manifest.json"
    path.unlink()
    stage(root, NEW)


def floor_of(release: Release | None) -> Floor:
    """Return the floor while this release is the highest that ran."""
    seq = 0 if release is None else release.seq
    return Floor(assignment=seq, means=10 * seq, root=seq, timestamp=seq, snapshot=seq)


def damage(root: Path, act: Act, *, told: bool = False) -> str | None:
    """Say what is wrong with a store that was left to itself during an act; None: nothing.

    Asks the agent's selection first, then lets an updater start. told: the act had returned.
    """
    store = Store(root)
    allowed = {release.name for release in (act.before, act.after) if release}
    try:
        selected = select(root)
        if not selected.trial and selected.release not in allowed:
            return f"the agent starts {selected.release}"
        if not store.whole(selected.release):
            return f"the agent starts {selected.release}, which is not whole"
    except durable.EarmarkError as error:
        if act.before is not None or told:
            return f"the agent starts nothing: {error}"
    finished = install.finish(root)
    if finished.done == "closed":
        if act.given is not given_damaged or told:
            return f"closed: {finished.text}"
        install.repair(root)
    return _damage_after(store, act, finished, told=told)


def _damage_after(store: Store, act: Act, finished: install.Finished, *, told: bool) -> str | None:
    current = store.current()
    allowed = {release.name for release in (act.before, act.after) if release}
    if current is None:
        if act.before is not None or told:
            return "nothing is current"
    else:
        if current.name not in ({act.after.name} if told and act.after else allowed):
            return f"{current.name} is current"
        try:
            store.verify(current.name)
        except durable.EarmarkError as error:
            return f"current is not whole: {error}"
    highest = max((r for r in (act.before, act.after) if r), key=lambda release: release.seq)
    new = highest if told or (current is not None and current.name == highest.name) else act.before
    floor = state.read_floor(store.root)
    if floor.raised(floor_of(new)) != floor:
        return f"the floor fell: {floor}"
    for path in (store.root / "blobs").rglob("*"):
        if len(path.name) == 64 and not path.is_dir():
            data = path.read_bytes()
            if hashlib.sha256(data).hexdigest() != path.name:
                return f"a blob of {len(data)} bytes is not what its name says"
    for name in store.releases():
        if not store.whole(name):
            return f"{name} is there, and not whole"
    if finished.done != "trial" and state.read_boot(store.root).trial is not None:
        return "a release is still on trial"
    left = [str(p) for p in store.root.rglob(".*") if p.name.endswith(durable.UNFINISHED)]
    return f"left behind: {left}" if left else None


def serve() -> None:
    """Do what the lines of standard input say, each in a process of its own."""
    for line in sys.stdin:
        wish = json.loads(line)
        child = os.fork()
        if not child:
            _be_killed(wish["act"], Path(wish["root"]), wish["die_at"])
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            print(json.dumps({"killed": os.WTERMSIG(status)}), flush=True)


def _be_killed(name: str, root: Path, die_at: int | None) -> None:
    points: list[str] = []

    def look(point: str) -> None:
        if len(points) == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        points.append(point)

    durable.observer = look
    try:
        ACTS[name].do(root)
        answer: dict[str, object] = {"points": points}
    except Exception as error:
        answer = {"error": repr(error)}
    print(json.dumps(answer), flush=True)
    os._exit(0)


if __name__ == "__main__":
    serve()
