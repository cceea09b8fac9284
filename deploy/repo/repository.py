"""A farm's repository of releases: what an operator can do to it.

repository.json  root.json      the operator's: settings, and the root that devices begin with
keys/                           the operator's, sealed; or elsewhere
public/metadata  public/targets for a web server, a stick, the broker: nothing in it is secret
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
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
from deploy.repo.checking import checked_bundle, checked_means
from deploy.repo.keys import KeyRing
from deploy.repo.state import EVERY_ROLE, TOP, RepositoryDamagedError, State, read_state
from edge.durable import write_durably
from edge.errors import UsageError
from edge.files import new_directory
from edge.release.manifest import MANIFEST_NAME
from edge.release.targets import (
    EVERYBODY,
    FLEET,
    MAX_SEQ,
    ROLES,
    Assigned,
    Fleet,
    is_scope,
    means_target,
    model_target,
    write_fleet,
)

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
_SETTINGS, _ROOT, _LOCK = "repository.json", "root.json", ".lock"

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
        state = read_state(self.public, (self.folder / _ROOT).read_bytes())
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
            if target not in state.roles["means"].targets:
                raise UsageError(f"{scope}: has no class means of its own")
            change.remove("means", target)
            fleet = _fleet(state)
            self._put(change, _moved(fleet, _devices(fleet, scope), self._count()))

    def assign(self, scope: str, bundle: str | None) -> int:
        """Let a scope run a published bundle, None: what the next wider scope runs; return the seq.

        bundle: an id, or the beginning of one. Old bundles are assigned like new ones.
        """
        with self._change() as (state, change):
            self._check_scope(state, scope)
            fleet = _fleet(state)
            seq = self._count()
            releases = dict(fleet.releases)
            if bundle is not None:
                releases[scope] = Assigned(bundle=whole_id(state.bundles(), bundle), seq=seq)
            elif releases.pop(scope, None) is None:
                raise UsageError(f"{scope}: has no bundle of its own")
            else:
                fleet = _moved(fleet, _devices(fleet, scope), seq)
            self._put(change, msgspec.structs.replace(fleet, seq=seq, releases=releases))
        return seq

    def regroup(self, group: str, add: Iterable[str] = (), remove: Iterable[str] = ()) -> list[str]:
        """Put devices into a group and take others out of it; return who is in it.

        A group that nobody is in any more is gone, with its bundle.
        """
        with self._change() as (state, change):
            for name in (group, *add, *remove):
                if not is_scope(f"device/{name}"):
                    raise UsageError(f"{name!r}: use 2 to 48 of a-z, 0-9 and '-'")
            fleet = _fleet(state)
            before = set(fleet.groups.get(group, ()))
            after = (before | set(add)) - set(remove)
            groups = {**fleet.groups, group: sorted(after)}
            releases = dict(fleet.releases)
            if not after:
                del groups[group]
                releases.pop(f"group/{group}", None)
            fleet = _moved(fleet, before ^ after, self._count())
            self._put(
                change,
                msgspec.structs.replace(
                    fleet, seq=self.settings.counter, groups=groups, releases=releases
                ),
            )
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

        beyond: versions and counter are this high at least. For a repository that was restored
        from an old copy: devices refuse what is older than what they have seen.
        """
        if not 0 <= beyond < MAX_SEQ // 2:
            raise UsageError(f"{beyond}: no version gets that high")
        with self._change(beyond) as (_, change):
            self._save(counter=max(self.settings.counter, beyond))
            change.renew(roles)

    @contextmanager
    def _change(self, beyond: int = 0) -> Iterator[tuple[State, Change]]:
        """Hold the lock, read what is published, and publish what the block has changed."""
        with _locked(self.folder):
            self.settings = self._read_settings()
            state = self.state()
            change = Change(state, self.ring, self.settings.days, self._clock(), beyond=beyond)
            yield state, change
            change.write()
            self._save(published=state.timestamp.version)

    def _put(self, change: Change, fleet: Fleet) -> None:
        change.put("assignments", FLEET, write_fleet(fleet))

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
        data = msgspec.json.format(msgspec.json.encode(self.settings), indent=1)
        write_durably(self.folder / _SETTINGS, data + b"\n")

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


def create_repository(
    folder: Path,
    ring: KeyRing,
    *,
    days: Mapping[str, int] = {},
    root_keys: int = 1,
    root_threshold: int = 1,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Repository:
    """Make a new repository at `folder`, whole or not at all, with new keys in the ring's folder.

    days: how long signatures are good for, by role. root_keys, root_threshold: how many keys the
    root has, and how many of them have to sign.
    """
    if folder.exists():
        raise UsageError(f"{folder}: is there already; keys are never overwritten, name another")
    if not 1 <= root_threshold <= root_keys <= 9:
        raise UsageError("the root has 1 to 9 keys, and no more of them can have to sign")
    now = clock()
    settings = Settings(days={**DAYS, **days})
    keys = ring.folders[0].resolve()
    with new_directory(folder) as made:
        within = keys.is_relative_to(folder.resolve())
        place = made / keys.relative_to(folder.resolve()) if within else keys
        with _undone_on_error(place):
            state = _unsigned(made / "public", ring.at(place), root_keys, root_threshold, now)
            change = Change(state, ring.at(place), settings.days, now)
            change.renew(EVERY_ROLE)
            change.write()
            shutil.copy(made / "public" / "metadata" / "1.root.json", made / _ROOT)
            published = msgspec.structs.replace(settings, published=1)
            data = msgspec.json.format(msgspec.json.encode(published), indent=1)
            write_durably(made / _SETTINGS, data + b"\n")
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


def whole_id(bundles: Iterable[str], beginning: str) -> str:
    """Return the one published bundle whose id begins so."""
    found = [one for one in bundles if one.startswith(beginning)]
    if len(beginning) < 6 or len(found) != 1:
        what = "is published" if found else "published has such an id"
        raise UsageError(
            f"{beginning!r}: {'more than one bundle' if found else 'no bundle'} {what}; "
            "earmark-deploy repo status lists them"
        )
    return found[0]


def _unsigned(
    public: Path, ring: KeyRing, root_keys: int, root_threshold: int, now: datetime
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
        Metadata(root),
        Timestamp(expires=now),
        Snapshot(expires=now),
        targets,
        {role: Targets(expires=now) for role in ROLES},
    )
    for role in EVERY_ROLE:
        state.signed(role).version = 0
    return state


def _fleet(state: State) -> Fleet:
    return state.fleet() or Fleet(seq=1)


def _devices(fleet: Fleet, scope: str) -> list[str]:
    """Return who was served by a scope and is known by name; nobody counts down with `all`."""
    kind, _, name = scope.partition("/")
    if kind == EVERYBODY:
        return []
    return [name] if kind == "device" else fleet.groups.get(name, [])


def _moved(fleet: Fleet, devices: Iterable[str], seq: int) -> Fleet:
    """Return the fleet with devices that another scope may serve from now on."""
    moved = {**fleet.moved, **dict.fromkeys(devices, seq)}
    return msgspec.structs.replace(fleet, seq=seq, moved=moved)


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
