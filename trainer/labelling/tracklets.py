"""`tracklets.json`: what was proposed, for the page, for `crops name` and for other programs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec

from edge.errors import DataError

SCHEMA = 1
TRACKLETS_NAME = "tracklets.json"
TRACKLETS_FOLDER = "tracklets"
_MOST_BYTES = 1 << 30

# A part of a path: these names come back from a file.
Name = Annotated[str, msgspec.Meta(pattern=r"^[\w+-][\w.+-]{0,199}$(?!\n)")]
Whole = Annotated[int, msgspec.Meta(ge=0)]
Box = tuple[float, float, float, float]


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every struct here: immutable, unknown fields refused."""


class ProposedCrop(_Strict, frozen=True):
    """A crop of a tracklet. file: in the tracklet's folder. box: pixels of the frame.

    sharpness: Laplacian variance at 128 pixels. covered: share of the box under another one.
    """

    file: Name
    frame: Whole
    box: Box
    sharpness: float
    covered: float


class Suggestion(_Strict, frozen=True):
    """The animal of the bundle's class means that is nearest, near enough to be named."""

    animal: str
    distance: float


class Tracklet(_Strict, frozen=True):
    """One animal for some time, as far as the tracker can tell.

    session: the camera's stretch of time. track: number within the session; parts of one track are
    most likely, but not surely, one animal. first_s, last_s: seconds on the source's clock;
    first_time, last_time: ISO 8601 in UTC, of live cameras. frames: in how many it was seen. path:
    some of its boxes, with their frames. together: tracklets seen in one frame with this one, which
    so are other animals. alike: tracklets that look like it, nearest first, by cosine distance.
    """

    name: Name
    session: Name
    camera: str
    source: str
    track: Whole
    first_frame: Whole
    last_frame: Whole
    first_s: float
    last_s: float
    first_time: str | None
    last_time: str | None
    frames: Whole
    width: Whole
    height: Whole
    crops: list[ProposedCrop]
    path: list[tuple[Whole, float, float, float, float]]
    together: list[str]
    suggestion: Suggestion | None = None
    alike: list[tuple[str, float]] = []

    def folder(self, root: Path) -> Path:
        """Return where its crops lie below the proposal's folder."""
        return root / TRACKLETS_FOLDER / self.name


class Proposal(_Strict, frozen=True):
    """The whole of `tracklets.json`. id: of this proposal. bundle: id of the bundle, if any."""

    schema: int
    id: str
    created: str
    bundle: str | None
    every: Whole
    tracklets: list[Tracklet]

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema} is not {SCHEMA}")
        if len({tracklet.name for tracklet in self.tracklets}) < len(self.tracklets):
            raise ValueError("two tracklets have one name")


def save_proposal(proposal: Proposal, folder: Path) -> None:
    """Write `tracklets.json` into a folder that is still being made."""
    data = msgspec.json.format(msgspec.json.encode(proposal), indent=1)
    (folder / TRACKLETS_NAME).write_bytes(data + b"\n")


def load_proposal(folder: Path) -> Proposal:
    """Read the proposal of a folder; DataError, one line, for anything that is none."""
    path = folder / TRACKLETS_NAME
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise DataError(f"{path}: larger than any list of tracklets should be")
        return msgspec.json.decode(path.read_bytes(), type=Proposal)
    except FileNotFoundError as error:
        raise DataError(f"{path}: missing; is {folder} what `crops propose` made?") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: not a list of tracklets: {error}") from error


def clashes(proposal: Proposal, names: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """Return pairs of tracklets that were seen together and have one name, with that name.

    names: the animal of each tracklet that has one; marks left out.
    """
    pairs = {
        (min(tracklet.name, other), max(tracklet.name, other))
        for tracklet in proposal.tracklets
        for other in tracklet.together
        if tracklet.name in names and names.get(other) == names[tracklet.name]
    }
    return [(one, other, names[one]) for one, other in sorted(pairs)]
