"""Named tracklets become a folder of crops, new or added to one that exists."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.errors import DataError, UsageError
from edge.files import new_directory
from trainer.data.crops import SUFFIXES
from trainer.labelling.files import crop_name, put
from trainer.labelling.tracklets import Proposal
from trainer.progress import Report, silent

_MOST_COPIES = 1000


@dataclass(frozen=True, slots=True)
class Named:
    """How many crops were written, and how many lay there already, the same to the last byte."""

    written: int
    there: int


def name_crops(
    proposal: Proposal,
    root: Path,
    animals: Mapping[str, str],
    out: Path,
    *,
    merge: bool = False,
    link: bool = False,
    report: Report = silent,
) -> Named:
    """Write the crops of tracklets that have an animal to `<out>/<animal>/<session>_<frame>.jpg`.

    root: the proposal's folder. link: hard links instead of copies. merge: `out` may exist; no
    file in it is touched, and a crop that lies there already stays single. A new `out` appears
    whole or not at all. Raises UsageError where `out` exists, DataError for a crop that is gone,
    or that lies under another animal already.
    """
    crops = _wanted(proposal, root, animals)
    if not crops:
        raise DataError(f"{root}: no tracklet has an animal's name, so there is nothing to write")
    if merge and out.is_dir():
        _check_elsewhere(crops, out)
        # Staged on the same disk: what cannot be read is told before anything is added.
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.resolve().parent) as part:
            staged = Path(part)
            _write(crops, staged, link, report)
            return _add(staged, out)
    if out.exists() or out.is_symlink():
        raise UsageError(f"{out}: exists already; choose another --out, or --merge to add to it")
    with new_directory(out) as folder:
        return Named(_write(crops, folder, link, report), 0)


def _wanted(
    proposal: Proposal, root: Path, animals: Mapping[str, str]
) -> list[tuple[Path, str, str, int]]:
    """Return file, animal, session and frame of each crop; DataError for one that is gone."""
    crops = [
        (tracklet.folder(root) / crop.file, animals[tracklet.name], tracklet.session, crop.frame)
        for tracklet in proposal.tracklets
        if tracklet.name in animals
        for crop in tracklet.crops
    ]
    for source, *_ in crops:
        if not source.is_file():
            raise DataError(f"{source}: missing; propose again, or leave its tracklet unnamed")
    return crops


def _write(
    crops: list[tuple[Path, str, str, int]], folder: Path, link: bool, report: Report
) -> int:
    for done, (source, animal, session, frame) in enumerate(crops, 1):
        place = folder / animal
        place.mkdir(exist_ok=True)
        for copy in range(1, _MOST_COPIES):
            target = place / crop_name(session, frame, copy)
            if not target.exists():
                put(source, target, link=link)
                break
        report(done, len(crops))
    return len(crops)


def _add(staged: Path, out: Path) -> Named:
    """Move staged crops to where nothing is."""
    written = there = 0
    for source in sorted(staged.glob("*/*")):
        place = out / source.parent.name
        place.mkdir(exist_ok=True)
        stem, data = source.stem, source.read_bytes()
        for copy in range(1, _MOST_COPIES):
            target = place / f"{stem}{'' if copy == 1 else f'-{copy}'}{source.suffix}"
            if not target.exists():
                put(source, target, link=True)
                written += 1
                break
            if target.read_bytes() == data:
                there += 1
                break
    return Named(written, there)


def _check_elsewhere(crops: list[tuple[Path, str, str, int]], out: Path) -> None:
    """Raise DataError for a crop that is another animal's already: named anew, or by mistake."""
    existing: dict[str, list[Path]] = {}
    for path in out.glob("*/*"):
        if path.suffix.lower() in SUFFIXES and not path.parent.name.startswith("."):
            existing.setdefault(path.name, []).append(path)
    for source, animal, session, frame in crops:
        for path in existing.get(crop_name(session, frame), []):
            if path.parent.name != animal and path.read_bytes() == source.read_bytes():
                raise DataError(
                    f"{path}: is the same crop as one that is now {animal!r}; take it away there, "
                    "or correct the name"
                )
