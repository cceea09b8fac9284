"""What a store remembers: how far an update is, what may no longer be installed, what is tried.

Three files of JSON in `state/`, each written durably and read strictly. One that cannot be
believed is never guessed at: StateDamagedError, and nothing is installed until somebody repairs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from edge.durable import locked, make_folder, remove_unfinished, write_durably
from edge.errors import EarmarkError

SCHEMA = 1
# How often a release may be started before it has proven itself.
MOST_TRIES = 2
RELEASE_PATTERN = r"^[0-9a-f]{12}-[0-9]{1,15}$(?!\n)"
_FOLDER = "state"
_BORN = ".born"
_MAX_BYTES = 64 << 10
_MOST_REJECTED = 32

Phase = Literal[
    "idle",
    "checking",
    "downloading",
    "verifying",
    "staged",
    "trial",
    "committing",
    "rolled_back",
    "rejected",
    "deferred",
]
ReleaseName = Annotated[str, msgspec.Meta(pattern=RELEASE_PATTERN)]
# 15 digits are more than any counter reaches, and exact in every reader of JSON.
Count = Annotated[int, msgspec.Meta(ge=0, lt=10**15)]
Schema = Annotated[int, msgspec.Meta(ge=SCHEMA, le=SCHEMA)]
Text = Annotated[str, msgspec.Meta(max_length=500)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{64})?$(?!\n)")]


class StateDamagedError(EarmarkError):
    """A state file that is missing, torn or not ours: `path`, and `why` in a few words."""

    def __init__(self, path: Path, why: str) -> None:
        self.path, self.why = path, why
        super().__init__(
            f"{path}: {why}; nothing is installed until `earmark-edge update repair` has run"
        )


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the state files: immutable, unknown fields refused."""

    schema: Schema = SCHEMA


class Floor(_State, frozen=True, kw_only=True):
    """The highest that was ever committed here; what is lower is not installed. Never falls.

    assignment, means: seqs. bundle: the bundle's id that `assignment` stood for, means_sha256: the
    content of `means`, empty if unknown; the same seq with other content is a forgery. root,
    timestamp, snapshot: versions of the trusted metadata.
    """

    assignment: Count = 0
    means: Count = 0
    root: Count = 0
    timestamp: Count = 0
    snapshot: Count = 0
    bundle: Sha256 = ""
    means_sha256: Sha256 = ""

    def raised(self, other: Floor) -> Floor:
        """Return the higher of both, number for number.

        Versions of timestamp and snapshot are those of the newer root where there is one: it may
        have given their roles new keys, which count anew (edge.release.trust has seen to it).
        """
        assignment = max(self, other, key=lambda one: (one.assignment, bool(one.bundle)))
        means = max(self, other, key=lambda one: (one.means, bool(one.means_sha256)))
        root = max(self.root, other.root)
        # 0: who counted only something else.
        newest = [one for one in (self, other) if one.root in (0, root)]
        return Floor(
            assignment=assignment.assignment,
            bundle=assignment.bundle,
            means=means.means,
            means_sha256=means.means_sha256,
            root=root,
            timestamp=max(one.timestamp for one in newest),
            snapshot=max(one.snapshot for one in newest),
        )


class Journal(_State, frozen=True, kw_only=True):
    """How far the update is, written before each act.

    release: what is being installed, assignment and means: its seqs. reason: why it was not
    installed. rev: rises with every change. rejected: releases that are not tried again, with the
    reason. previous: what ran before `current`.
    """

    phase: Phase = "idle"
    release: ReleaseName | None = None
    assignment: Count = 0
    means: Count = 0
    reason: Text | None = None
    rev: Count = 0
    rejected: dict[ReleaseName, Text] = {}
    previous: ReleaseName | None = None

    def __post_init__(self) -> None:
        if self.phase in ("trial", "committing") and self.release is None:
            raise ValueError(f"{self.phase} of no release")

    def rejecting(self, release: str, reason: str) -> dict[str, str]:
        """Return `rejected` with one more; only the last of them are kept."""
        known = {name: why for name, why in self.rejected.items() if name != release}
        newest = [*known.items(), (release, reason[:200])][-_MOST_REJECTED:]
        return dict(newest)


class Boot(_State, frozen=True, kw_only=True):
    """What is started next: trial, a release that has not proven itself yet, started `tries` times.

    None: `current`.
    """

    trial: ReleaseName | None = None
    tries: Count = 0


S = TypeVar("S", bound=_State)


def prepare(root: Path) -> None:
    """Make the folders and files of a store that has none; the mark that it was born comes last.

    From then on a missing file is damage. So it is where a release runs already: a floor of nought
    would let any old one in.
    """
    folder = root / _FOLDER
    make_folder(folder)
    if not _was_born(root):
        for state in (Floor(), Journal(), Boot()):
            if not _path(root, type(state)).exists():
                _write(root, state)
        write_durably(folder / _BORN, b"")


def mark_born(root: Path) -> None:
    """Mark a store whose files are all there again. For a repair only."""
    if not (root / _FOLDER / _BORN).exists():
        write_durably(root / _FOLDER / _BORN, b"")


def read_floor(root: Path) -> Floor:
    """Return the floor; StateDamagedError when it cannot be believed."""
    return _read(root, Floor)


def read_journal(root: Path) -> Journal:
    """Return the journal; StateDamagedError when it cannot be believed."""
    return _read(root, Journal)


def read_boot(root: Path) -> Boot:
    """Return what is started next; StateDamagedError when it cannot be believed."""
    return _read(root, Boot)


def write_floor(root: Path, floor: Floor) -> Floor:
    """Raise the floor, number for number, to at least `floor`; return what it is now.

    StateDamagedError when the present one cannot be believed: only a repair replaces it.
    """
    present = read_floor(root)
    raised = present.raised(floor)
    if raised != present or not _path(root, Floor).exists():
        _write(root, raised)
    return raised


def write_journal(root: Path, journal: Journal) -> None:
    """Replace the journal; DurableError when it cannot be kept for good."""
    _write(root, journal)


def write_boot(root: Path, boot: Boot) -> None:
    """Replace what is started next; within `boot_locked` where it depends on what was read."""
    _write(root, boot)


def replace_floor(root: Path, floor: Floor) -> None:
    """Put a floor in the place of one that is damaged. For a repair only."""
    _write(root, floor)


@contextmanager
def boot_locked(root: Path) -> Iterator[None]:
    """Keep others from `boot.json` for a block: agent and updater both write it."""
    with locked(root / _FOLDER / ".boot.lock"):
        yield


def sweep(root: Path) -> None:
    """Remove what a kill left half written."""
    with boot_locked(root):
        remove_unfinished(root / _FOLDER)


def _was_born(root: Path) -> bool:
    return (root / _FOLDER / _BORN).exists() or (root / "current").is_symlink()


def _path(root: Path, kind: type[_State]) -> Path:
    return root / _FOLDER / f"{kind.__name__.lower()}.json"


def _write(root: Path, state: _State) -> None:
    data = msgspec.json.format(msgspec.json.encode(state), indent=1) + b"\n"
    # What could not be read again would close the store.
    msgspec.json.decode(data, type=type(state))
    write_durably(_path(root, type(state)), data)


def _read(root: Path, kind: type[S]) -> S:
    path = _path(root, kind)
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except FileNotFoundError as error:
        if _was_born(root):
            raise StateDamagedError(path, "missing") from error
        return kind()
    except OSError as error:
        raise StateDamagedError(path, f"cannot be read: {error.strerror}") from error
    if len(data) > _MAX_BYTES:
        raise StateDamagedError(path, "larger than it ever is")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StateDamagedError(path, f"damaged: {error}") from error
