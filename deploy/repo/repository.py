"""A farm's repository of releases: what an operator can do to it.

repository.json  root.json      the operator's: settings, and the root that devices begin with
keys/                           the operator's, sealed; or elsewhere
public/metadata  public/targets for a web server, a stick, the broker: nothing in it is secret
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from deploy.repo.change import Change
from deploy.repo.checking import checked_bundle, checked_means
from deploy.repo.copying import copy_repository, current_files, tidy
from deploy.repo.keys import KeyRing
from deploy.repo.state import EVERY_ROLE, RepositoryDamagedError, State, read_state
from edge.durable import write_durably
from edge.errors import UsageError
from edge.release.manifest import MANIFEST_NAME
from edge.release.targets import (
    FLEET,
    MAX_SEQ,
    Assigned,
    Fleet,
    assigned,
    is_scope,
    means_target,
    model_target,
    scopes_of,
    write_fleet,
)

ROOT = "root.json"
_SHORTEST_ID = 6
_SETTINGS, _LOCK = "repository.json", ".lock"

Whole = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
Days = Annotated[int, msgspec.Meta(ge=1, le=20 * 365)]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """repository.json. counter: of assignments and means. published: the timestamp's version."""

    schema: Annotated[int, msgspec.Meta(ge=1, le=1)] = 1
    days: dict[str, Days]
    counter: Whole = 0
    published: Whole = 0

    def __post_init__(self) -> None:
        if set(self.days) != set(EVERY_ROLE):
            raise ValueError(f"days must name {', '.join(EVERY_ROLE)}")


def write_settings(folder: Path, settings: Settings) -> None:
    """Write repository.json."""
    data = msgspec.json.format(msgspec.json.encode(settings), indent=1)
    write_durably(folder / _SETTINGS, data + b"\n")


class Repository:
    """An existing repository; UsageError when the folder is none.

    Every operation is whole or has not happened, and one is under way at a time.
    """

    def __init__(
        self,
        folder: Path,
        ring: KeyRing,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.folder, self.public = folder, folder / "public"
        self.ring = ring
        self._clock = clock
        self.settings = self._read_settings()

    def state(self) -> State:
        """Return what is published, verified."""
        state = read_state(self.public, (self.folder / ROOT).read_bytes())
        if state.timestamp.version < self.settings.published:
            raise RepositoryDamagedError(
                f"{self.public}: older than what was published (version {state.timestamp.version}, "
                f"not {self.settings.published}); restore the newest copy"
            )
        return state

    def publish(self, bundle: Path) -> str:
        """Publish a bundle, checked first; return its id. What is published already stays."""
        with self._change() as (state, change):
            manifest, files = checked_bundle(bundle)
            known = state.roles["models"].targets.get(model_target(manifest.id, MANIFEST_NAME))
            if known is None:
                for name, data in files.items():
                    change.put("models", model_target(manifest.id, name), data)
            elif state.content(known) != files[MANIFEST_NAME]:
                raise UsageError(
                    f"{bundle}: {manifest.id[:12]} is published with another manifest, and its "
                    "files are the same; a manifest alone is no new bundle"
                )
        return manifest.id

    def publish_means(self, file: Path, scope: str) -> int:
        """Publish class means for a scope, checked against the bundles; return their seq."""
        with self._change() as (state, change):
            self._check_scope(state, scope)
            data, embedder = checked_means(file, state)
            seq = self._count()
            custom = {"seq": seq, "embedder_sha256": embedder}
            change.put("means", means_target(scope), data, custom)
        return seq

    def withdraw_means(self, scope: str) -> None:
        """Publish a scope's class means no more: the next wider scope's, or the bundle's, serve."""
        with self._change() as (state, change):
            target = means_target(scope)
            means = set(state.roles["means"].targets)
            if target not in means:
                raise UsageError(f"{scope}: has no class means of its own")
            change.remove("means", target)
            self._set_fleet(state, change, _fleet(state), means)

    def assign(self, scope: str, bundle: str | None) -> int:
        """Let a scope run a published bundle, None: what the next wider scope runs; return the seq.

        bundle: an id, or the beginning of one. Old bundles are assigned like new ones.
        """
        with self._change() as (state, change):
            self._check_scope(state, scope)
            fleet = _fleet(state)
            releases = dict(fleet.releases)
            if bundle is not None:
                found = whole_id(state.bundles(), bundle)
                releases[scope] = Assigned(bundle=found, seq=self.settings.counter + 1)
            elif releases.pop(scope, None) is None:
                raise UsageError(f"{scope}: has no bundle of its own")
            fleet = msgspec.structs.replace(fleet, releases=releases)
            return self._set_fleet(state, change, fleet)

    def regroup(self, group: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> list[str]:
        """Put devices into a group and take others out of it; return who is in it.

        A group that nobody is in any more is gone, with its bundle.
        """
        with self._change() as (state, change):
            for name in (group, *add, *remove):
                if not is_scope(f"device/{name}"):
                    raise UsageError(f"{name!r}: use 2 to 48 of a-z, 0-9 and '-'")
            fleet = _fleet(state)
            after = (set(fleet.groups.get(group, ())) | set(add)) - set(remove)
            groups, releases = {**fleet.groups, group: sorted(after)}, dict(fleet.releases)
            if not after:
                del groups[group]
                releases.pop(f"group/{group}", None)
            fleet = msgspec.structs.replace(fleet, groups=groups, releases=releases)
            self._set_fleet(state, change, fleet)
        return sorted(after)

    def withdraw(self, bundle: str) -> str:
        """Publish a bundle no more; UsageError while it is assigned. Its files are removed."""
        with self._change() as (state, change):
            found = whole_id(state.bundles(), bundle)
            running = [
                scope for scope, one in _fleet(state).releases.items() if one.bundle == found
            ]
            if running:
                raise UsageError(
                    f"{found[:12]}: {', '.join(running)} runs it; assign another first"
                )
            for target in list(state.roles["models"].targets):
                if target.startswith(f"models/{found}/"):
                    change.remove("models", target)
        shutil.rmtree(self.public / "targets" / "models" / found, ignore_errors=True)
        return found

    def rotate(self, role: str) -> list[str]:
        """Give a role new keys; return the ids of those that are worth nothing any more."""
        with self._change() as (_, change):
            return change.replace_keys(role)

    def renew(self, roles: Iterable[str], *, beyond: int = 0) -> None:
        """Sign roles anew, good for as long as on the first day.

        beyond: all roles but the root are signed anew, and versions and counter are this high at
        least. For a repository that was restored from an old copy: devices refuse what is older
        than what they have seen. Assign, and publish class means, again afterwards.
        """
        check_beyond(beyond)
        with self._change(beyond) as (_, change):
            self._save(counter=max(self.settings.counter, beyond))
            every = set(EVERY_ROLE) - {"root"} if beyond else set()
            change.renew({*roles, *every})

    def copy(self, target: Path, *, assigned: bool = False) -> int:
        """Copy the public folder to where devices read it; return how many files were copied.

        assigned: only the bundles that somebody runs. Nobody can change the repository meanwhile:
        a timestamp would be copied that speaks of what was not.
        """
        with _locked(self.folder):
            self.settings = self._read_settings()
            state = self.state()
            only = {run.bundle for run in _fleet(state).releases.values()} if assigned else None
            return copy_repository(state, target, only)

    @contextmanager
    def _change(self, beyond: int = 0) -> Iterator[tuple[State, Change]]:
        """Hold the lock, read what is published, and publish what the block has changed."""
        with _locked(self.folder):
            self.settings = self._read_settings()
            state = self.state()
            before = current_files(state)
            change = Change(state, self.ring, self.settings.days, self._clock(), beyond=beyond)
            yield state, change
            change.write()
            self._save(published=state.timestamp.version)
            tidy(state, before, self._clock().timestamp())

    def _set_fleet(
        self, state: State, change: Change, fleet: Fleet, means: Set[str] | None = None
    ) -> int:
        """Let a fleet be what is assigned, under the next number; return that.

        means: the targets of class means as they were, if they are others now. Devices that an
        older number serves from now on, because another scope does, count on from this one.
        """
        before, seq = _fleet(state), self._count()
        now = set(state.roles["means"].targets)
        earlier = now if means is None else means
        moved = dict(fleet.moved)
        for device in _named(before, earlier) | _named(fleet, now):
            runs, has = assigned(fleet, device), _means(fleet, device, now)
            other_bundle = runs is not None and runs != assigned(before, device)
            other_means = has is not None and has != _means(before, device, earlier)
            if other_means or (runs is not None and other_bundle and runs.seq < seq):
                moved[device] = seq
        fleet = msgspec.structs.replace(fleet, seq=seq, moved=moved)
        change.put("assignments", FLEET, write_fleet(fleet))
        return seq

    def _check_scope(self, state: State, scope: str) -> None:
        if not is_scope(scope):
            raise UsageError(f"{scope!r}: write all, group/NAME or device/NAME")
        kind, _, name = scope.partition("/")
        if kind == "group" and name not in _fleet(state).groups:
            raise UsageError(
                f"{name}: no such group; say who is in it: earmark-deploy repo group {name} --add "
                "DEVICE"
            )

    def _count(self) -> int:
        # Kept before anything is published under it: no number is ever used twice.
        self._save(counter=self.settings.counter + 1)
        return self.settings.counter

    def _save(self, **changes: int) -> None:
        self.settings = msgspec.structs.replace(self.settings, **changes)
        write_settings(self.folder, self.settings)

    def _read_settings(self) -> Settings:
        path = self.folder / _SETTINGS
        try:
            return msgspec.json.decode(path.read_bytes(), type=Settings)
        except FileNotFoundError as error:
            raise UsageError(
                f"{self.folder}: no repository; make one: earmark-deploy repo init {self.folder}"
            ) from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: {error}") from error


def check_beyond(version: int) -> None:
    """Raise UsageError for a version that leaves no room to count on from."""
    if not 0 <= version < MAX_SEQ // 2:
        raise UsageError(f"{version}: write a version from 0 to {MAX_SEQ // 2 - 1}")


def whole_id(bundles: Iterable[str], beginning: str) -> str:
    """Return the one published bundle whose id begins so."""
    if len(beginning) < _SHORTEST_ID:
        raise UsageError(
            f"{beginning!r}: write at least {_SHORTEST_ID} characters of a bundle's id"
        )
    found = [one for one in bundles if one.startswith(beginning)]
    if len(found) == 1:
        return found[0]
    what = "several published bundles begin so" if found else "no published bundle has such an id"
    raise UsageError(f"{beginning!r}: {what}; earmark-deploy repo status lists them")


def _fleet(state: State) -> Fleet:
    return state.fleet() or Fleet(seq=1)


def _named(fleet: Fleet, means: Set[str]) -> set[str]:
    """Return the devices that are named somewhere; everybody else is served by `all` alone."""
    devices = {one for members in fleet.groups.values() for one in members}
    scopes = {scope.partition("/")[2] for scope in fleet.releases if scope.startswith("device/")}
    start, end = "means/device-", ".npz"
    targets = {one[len(start) : -len(end)] for one in means if one.startswith(start)}
    return devices | scopes | targets | set(fleet.moved)


def _means(fleet: Fleet, device: str, means: Set[str]) -> str | None:
    """Return the name of the class means that serve a device."""
    targets = (means_target(scope) for scope in scopes_of(fleet, device))
    return next((one for one in targets if one in means), None)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep a second operator out for a block; UsageError when there is a first."""
    handle = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"{folder}: somebody else is changing it; try again later") from error
        yield
    finally:
        os.close(handle)
