"""The acts that change what a device runs, each in the journal before it is done.

A process that is killed, or a device whose power fails, between any two steps finds in the
journal what it was about; `finish` brings it to an end. Needs no network and no models.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from edge import durable
from edge.durable import at
from edge.errors import BundleError, UsageError
from edge.release.state import (
    MOST_TRIES,
    Boot,
    Floor,
    Journal,
    Phase,
    StateDamagedError,
    boot_locked,
    mark_born,
    prepare,
    read_boot,
    read_floor,
    read_journal,
    replace_floor,
    sweep,
    write_boot,
    write_floor,
    write_journal,
)
from edge.release.store import Store

# The floor that a release was committed with, beside its files: what a repair starts from. No file
# of a bundle can be called so.
_RECORD_NAME = ".committed.json"
_MAX_RECORD_BYTES = 64 << 10

Done = Literal["nothing", "started_anew", "trial", "committed", "rolled_back", "closed"]


@dataclass(frozen=True, slots=True)
class Finished:
    """What `finish` found to do, and in one line why; release: what it was about.

    trial: one is going on and has tries left, it is to be judged. closed: floor or journal cannot
    be believed; nothing may be installed, a trial is over, and `current` is what runs.
    """

    done: Done
    release: str | None = None
    text: str = ""


def finish(root: Path) -> Finished:
    """Bring to an end what was under way when the last process ended; do nothing otherwise.

    Called first by whoever installs. DurableError when the disk is full or failing: call it again.
    """
    try:
        prepare(root)
        journal = read_journal(root)
        read_floor(root)
    except StateDamagedError as error:
        # Nobody can judge a trial now, so nothing unproven goes on.
        _end_trial(root)
        return Finished("closed", text=str(error))
    store = Store(root)
    sweep(root)
    store.sweep()
    at("finish: swept")
    if journal.phase == "committing":
        return _finish_commit(store, journal)
    if journal.phase == "trial":
        return _finish_trial(store, journal)
    _end_trial(root)
    if journal.phase in ("idle", "rolled_back", "rejected", "deferred"):
        return Finished("nothing", journal.release)
    enter(root, "idle", reason=None)
    return Finished("started_anew", journal.release, f"was {journal.phase}")


def enter(root: Path, phase: Phase, **changes: Any) -> Journal:
    """Write a phase into the journal, with other fields of it that change; return it."""
    journal = read_journal(root)
    journal = msgspec.structs.replace(journal, phase=phase, rev=journal.rev + 1, **changes)
    write_journal(root, journal)
    at(f"journal: {phase}")
    return journal


def begin_trial(root: Path, name: str) -> None:
    """Have a staged release started by the agent.

    BundleError when it is not whole, StateDamagedError while the store is closed.
    """
    Store(root).verify(name)
    read_floor(root)
    enter(root, "trial", release=name, reason=None)
    with boot_locked(root):
        write_boot(root, Boot(trial=name))
    at("trial: begun")


def commit(
    root: Path,
    name: str,
    assignment: int,
    means: int,
    *,
    bundle: str = "",
    means_sha256: str = "",
    seen: Floor | None = None,
) -> None:
    """Make a release current for good: journal, swap, floor, no trial any more, journal.

    assignment, means: the seqs that it comes under, means 0 when it serves the bundle's own;
    bundle, means_sha256: what these stand for. seen: versions of the trusted metadata.
    BundleError before anything is changed when it is not whole, or older than what ran here.
    """
    prepare(root)
    store = Store(root)
    store.verify(name)
    floor, journal = read_floor(root), read_journal(root)
    if assignment < floor.assignment or 0 < means < floor.means:
        raise BundleError(
            f"{store.release(name)}: assignment {assignment} with means {means} is older than what "
            f"ran here ({floor.assignment} and {floor.means}); assign it again"
        )
    raised = floor.raised(
        Floor(assignment=assignment, means=means, bundle=bundle, means_sha256=means_sha256)
    ).raised(seen or Floor())
    _record(store, name, raised)
    current = store.current()
    previous = journal.previous
    if current is not None and current.name != name:
        previous = current.name
    journal = enter(
        root,
        "committing",
        release=name,
        assignment=assignment,
        means=means,
        reason=None,
        previous=previous,
    )
    _complete(store, journal)


def roll_back(root: Path, reason: str) -> None:
    """End the trial that is going on: the current release is what runs, the other is remembered."""
    journal = read_journal(root)
    if journal.phase != "trial" or journal.release is None:
        raise UsageError(f"{root}: no release is on trial")
    _give_up(root, journal.release, "rolled_back", reason)


def reject(root: Path, name: str, reason: str) -> None:
    """Remember a release that must not even be tried."""
    _give_up(root, name, "rejected", reason)


def return_to_previous(root: Path, reason: str) -> str:
    """Make the release that ran before current again, without a network; return its name.

    The one that ran is remembered, so that it is not installed again; the floor stays where it is.
    BundleError when there is none, or it is not whole any more.
    """
    store = Store(root)
    journal, current = read_journal(root), store.current()
    if journal.previous is None:
        raise BundleError(
            f"{root}: no other release ran here before; there is nothing to go back to"
        )
    store.verify(journal.previous)
    rejected = journal.rejected
    if current is not None:
        rejected = journal.rejecting(current.name, reason)
    journal = enter(
        root,
        "committing",
        release=journal.previous,
        reason=reason[:500],
        rejected=rejected,
        previous=None,
    )
    assert journal.release is not None
    _complete(store, journal)
    return journal.release


def repair(root: Path, at_least: Floor | None = None, rev: int = 0) -> Floor:
    """Replace damaged state by what is known, ending a trial; return the floor.

    The floor is the highest of what can be read of it, of what the releases here were committed
    with, and of `at_least`. rev: the highest that was ever reported.
    """
    prepare(root)
    store = Store(root)
    sweep(root)
    store.sweep()
    floor = at_least or Floor()
    current = store.current()
    if current is not None:
        floor = floor.raised(Floor(assignment=int(current.name.partition("-")[2])))
    for name in store.releases():
        floor = floor.raised(_recorded(store, name) or Floor())
    try:
        write_floor(root, floor)
    except StateDamagedError:
        replace_floor(root, floor)
    at("repair: floor")
    _end_trial(root)
    try:
        journal = read_journal(root)
    except StateDamagedError:
        journal = Journal()
    write_journal(
        root,
        msgspec.structs.replace(journal, phase="idle", reason=None, rev=max(journal.rev, rev) + 1),
    )
    mark_born(root)
    return read_floor(root)


def _finish_commit(store: Store, journal: Journal) -> Finished:
    """Go on where a commit stopped: the trial had passed."""
    name = journal.release
    assert name is not None
    try:
        _complete(store, journal)
    except BundleError as error:
        # The disk has lost what it had kept; what ran before may still be there.
        current, previous = store.current(), journal.previous
        if current is not None and current.name == name and previous and store.whole(previous):
            store.commit(previous)
        _give_up(store.root, name, "rolled_back", str(error))
        return Finished("rolled_back", name, str(error))
    return Finished("committed", name, journal.reason or "")


def _finish_trial(store: Store, journal: Journal) -> Finished:
    name = journal.release
    assert name is not None
    try:
        boot = read_boot(store.root)
    except StateDamagedError as error:
        _give_up(store.root, name, "rolled_back", f"its tries are not known: {error.why}")
        return Finished("rolled_back", name, f"{error.path.name} {error.why}")
    if boot.trial != name:
        # Nobody has started it yet.
        enter(store.root, "idle", reason=None)
        return Finished("started_anew", name, "was trial")
    if boot.tries >= MOST_TRIES:
        reason = f"started {boot.tries} times without proving itself"
    elif not store.whole(name):
        reason = "not whole any more"
    else:
        return Finished("trial", name)
    _give_up(store.root, name, "rolled_back", reason)
    return Finished("rolled_back", name, reason)


def _complete(store: Store, journal: Journal) -> None:
    """Do what a journal that says `committing` promises; each step may have been done before."""
    name = journal.release
    assert name is not None
    store.commit(name)
    at("commit: swapped")
    committed = Floor(assignment=journal.assignment, means=journal.means)
    write_floor(store.root, committed.raised(_recorded(store, name) or Floor()))
    at("commit: floor")
    _end_trial(store.root)
    at("commit: no trial")
    enter(store.root, "idle" if journal.reason is None else "rolled_back")


def _give_up(root: Path, name: str, phase: Phase, reason: str) -> None:
    rejected = read_journal(root).rejecting(name, reason)
    enter(root, phase, release=name, reason=reason[:500], rejected=rejected)
    _end_trial(root)
    at("given up")


def _end_trial(root: Path) -> None:
    with boot_locked(root):
        try:
            if read_boot(root) == Boot():
                return
        except StateDamagedError:
            pass
        write_boot(root, Boot())


def _record(store: Store, name: str, floor: Floor) -> None:
    durable.write_durably(store.release(name) / _RECORD_NAME, msgspec.json.encode(floor))


def _recorded(store: Store, name: str) -> Floor | None:
    try:
        with (store.release(name) / _RECORD_NAME).open("rb") as stream:
            return msgspec.json.decode(stream.read(_MAX_RECORD_BYTES), type=Floor)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
