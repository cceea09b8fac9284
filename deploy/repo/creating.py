"""Make a new repository, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    Root,
    Snapshot,
    Targets,
    Timestamp,
)

from deploy.repo.change import Change
from deploy.repo.keys import KeyRing
from deploy.repo.repository import ROOT, Repository, Settings, check_beyond, write_settings
from deploy.repo.state import EVERY_ROLE, TOP, State
from edge.errors import UsageError
from edge.files import new_directory
from edge.release.targets import ROLES

# What is re-signed with every publication is good for a quarter: devices install nothing once it
# is over, and a server that hides new releases from them can do so for as long. Keys that lie in a
# drawer are fetched once in three years.
DAYS = {
    "timestamp": 90,
    "snapshot": 90,
    "means": 365,
    "assignments": 365,
    "models": 3 * 365,
    "targets": 3 * 365,
    "root": 3 * 365,
}


def create_repository(
    folder: Path,
    ring: KeyRing,
    *,
    days: Mapping[str, int] = {},
    root_keys: int = 1,
    root_threshold: int = 1,
    beyond: int = 0,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Repository:
    """Make a new repository at `folder`, whole or not at all, with new keys in the ring's folder.

    days: how long signatures are good for, by role. root_keys, root_threshold: how many keys the
    root has, and how many of them have to sign. beyond: every version and number is higher. For a
    repository in the place of another one: devices refuse what is older than what they have seen.
    """
    if folder.exists():
        raise UsageError(f"{folder}: is there already; keys are never overwritten, name another")
    if not 1 <= root_threshold <= root_keys <= 9:
        raise UsageError("the root has 1 to 9 keys, and no more of them can have to sign")
    check_beyond(beyond)
    now = clock()
    settings = Settings(days={**DAYS, **days}, counter=beyond, published=beyond + 1)
    keys = ring.folders[0].resolve()
    with new_directory(folder) as made:
        within = keys.is_relative_to(folder.resolve())
        place = made / keys.relative_to(folder.resolve()) if within else keys
        with _undone_on_error(place):
            state = _unsigned(
                made / "public", ring.at(place), root_keys, root_threshold, now, beyond
            )
            change = Change(state, ring.at(place), settings.days, now)
            change.renew(EVERY_ROLE)
            change.write()
            shutil.copy(made / "public" / "metadata" / f"{state.first}.root.json", made / ROOT)
            write_settings(made, settings)
    return Repository(folder, ring, clock)


@contextmanager
def _undone_on_error(keys: Path) -> Iterator[None]:
    """Remove the keys that a failed block has made: nobody will ever need them."""
    before = set(keys.glob("*")) if keys.is_dir() else set()
    try:
        yield
    except BaseException:
        for path in set(keys.glob("*")) - before:
            path.unlink()
        raise


def _unsigned(
    public: Path,
    ring: KeyRing,
    root_keys: int,
    root_threshold: int,
    now: datetime,
    beyond: int,
) -> State:
    """Return a state with new keys that nobody has signed yet."""
    root = Root(expires=now, consistent_snapshot=True)
    for role in TOP:
        for _ in range(root_keys if role == "root" else 1):
            root.add_key(ring.make(role).public_key, role)
    root.roles["root"].threshold = root_threshold
    targets = Targets(expires=now)
    delegated = {
        role: DelegatedRole(role, [], 1, False, paths=list(paths)) for role, paths in ROLES.items()
    }
    targets.delegations = Delegations({}, delegated)
    for role in ROLES:
        targets.add_key(ring.make(role).public_key, role)
    state = State(
        public,
        beyond + 1,
        Metadata(root),
        Timestamp(expires=now),
        Snapshot(expires=now),
        targets,
        {role: Targets(expires=now) for role in ROLES},
    )
    for role in EVERY_ROLE:
        state.signed(role).version = beyond
    return state
