"""How a repository is: what runs where, and until when its signatures are good."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from deploy.repo.repository import Repository
from deploy.repo.state import EVERY_ROLE, State
from edge.release.bundle import EMBEDDER_NAME
from edge.release.targets import (
    Fleet,
    assigned,
    groups_of,
    model_target,
    read_terms,
)

_WARN_DAYS = 30


class RoleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A role: its version, until when it is good, and its keys with where they lie (or None)."""

    role: str
    version: int
    expires: datetime
    days_left: int
    threshold: int
    keys: dict[str, str | None]


class BundleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A published bundle, and the scopes that it is assigned to with their seqs."""

    id: str
    created: str
    embedder: str
    scopes: dict[str, int]


class MeansStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Class means of a scope."""

    scope: str
    seq: int
    embedder: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. warnings: one line each, with what to do."""

    roles: list[RoleStatus]
    bundles: list[BundleStatus]
    means: list[MeansStatus]
    groups: dict[str, list[str]]
    warnings: list[str]


def read_status(repository: Repository, now: datetime) -> Status:
    """Return how a repository is at a time."""
    state = repository.state()
    fleet = state.fleet() or Fleet(seq=1)
    roles = [_role(repository, state, role, now) for role in EVERY_ROLE]
    means = list(_means(state))
    days = repository.settings.days
    warnings = [
        *(text for one in roles if (text := _warning(one, days[one.role]))),
        *_rotations(roles),
        *_several_groups(fleet),
        *_misfits(state, fleet, means),
    ]
    return Status(
        roles=roles,
        bundles=[_bundle(state, fleet, bundle) for bundle in state.bundles()],
        means=means,
        groups=dict(fleet.groups),
        warnings=warnings,
    )


def expiring(repository: Repository, now: datetime) -> list[str]:
    """Return the roles that should be signed anew by now."""
    state, days = repository.state(), repository.settings.days
    roles = [_role(repository, state, role, now) for role in EVERY_ROLE]
    return [one.role for one in roles if _warning(one, days[one.role])]


def _role(repository: Repository, state: State, role: str, now: datetime) -> RoleStatus:
    signed = state.signed(role)
    keyids, threshold = state.keys_of(role)
    places = {keyid: repository.ring.find(role, keyid) for keyid in keyids}
    return RoleStatus(
        role=role,
        version=signed.version,
        expires=signed.expires,
        days_left=(signed.expires - now) // timedelta(days=1),
        threshold=threshold,
        keys={keyid: str(path) if path else None for keyid, path in places.items()},
    )


def _warning(one: RoleStatus, days: int) -> str | None:
    if one.days_left < 0:
        return (
            f"{one.role} has expired: devices install nothing until you run earmark-deploy repo "
            f"renew {one.role}"
        )
    if one.days_left < min(_WARN_DAYS, days // 3):
        return f"{one.role} expires in {one.days_left} days: earmark-deploy repo renew {one.role}"
    return None


def _rotations(roles: list[RoleStatus]) -> Iterator[str]:
    for one in roles:
        if one.role != "root" and len(one.keys) > 1:
            yield f"{one.role} has an old key still: earmark-deploy repo rotate {one.role}"


def _several_groups(fleet: Fleet) -> Iterator[str]:
    for device in sorted({one for devices in fleet.groups.values() for one in devices}):
        groups = groups_of(fleet, device)
        if len(groups) > 1:
            yield f"{device} is in {', '.join(groups)}: {groups[0]} comes first"


def _misfits(state: State, fleet: Fleet, means: list[MeansStatus]) -> Iterator[str]:
    """Tell of class means that no device they are for can use."""
    for one in means:
        kind, _, name = one.scope.partition("/")
        if kind == "all":
            runs = [fleet.releases.get("all")]
        else:
            devices = [name] if kind == "device" else fleet.groups.get(name, [])
            runs = [assigned(fleet, device) for device in devices]
        embedders = {_embedder(state, run.bundle) for run in runs if run is not None}
        if embedders and one.embedder not in embedders:
            yield (
                f"the means of {one.scope} were made by another embedder than its bundle has; the "
                "bundle's own serve there"
            )


def _bundle(state: State, fleet: Fleet, bundle: str) -> BundleStatus:
    return BundleStatus(
        id=bundle,
        created=state.manifest(bundle).created,
        embedder=_embedder(state, bundle) or "",
        scopes={scope: run.seq for scope, run in fleet.releases.items() if run.bundle == bundle},
    )


def _embedder(state: State, bundle: str) -> str | None:
    info = state.roles["models"].targets.get(model_target(bundle, EMBEDDER_NAME))
    return info.hashes["sha256"] if info is not None else None


def _means(state: State) -> Iterator[MeansStatus]:
    for target, info in sorted(state.roles["means"].targets.items()):
        terms = read_terms(info.custom)
        scope = target.removeprefix("means/").removesuffix(".npz").replace("-", "/", 1)
        yield MeansStatus(scope=scope, seq=terms.seq, embedder=terms.embedder_sha256)
