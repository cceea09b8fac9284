"""What a repository of releases holds: the names of its targets, and what is signed about them.

models/<id>/<file>          a bundle's files, its manifest.json too; id: content id, 64 hex
means/all.npz               class means for everybody
means/group-<g>.npz         for a group's devices
means/device-<d>.npz        for one device
assignments/fleet.json      who runs which bundle

Devices read this, and `earmark-deploy repo` writes it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec

from edge.release.manifest import Sha256

SCHEMA = 1
FLEET = "assignments/fleet.json"
EVERYBODY = "all"
# Delegated roles, each with the paths that it may sign and no others.
ROLES = {
    "models": ("models/*/*",),
    "means": ("means/*",),
    "assignments": ("assignments/*",),
}
MAX_FLEET_BYTES = 1 << 20
MAX_MEANS_BYTES = 64 << 20
MAX_BUNDLE_FILES = 64
MAX_BUNDLE_BYTES = 2 << 30
# Beyond this nothing was counted, somebody made it up. No more than `edge.release.state` can keep:
# what was believed and cannot be kept would end the updater, again and again.
MAX_SEQ = 10**15 - 1

Seq = Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQ)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9-]{1,47}$(?!\n)")]
Scope = Annotated[
    str, msgspec.Meta(pattern=r"^(?:all|(?:group|device)/[a-z0-9][a-z0-9-]{1,47})$(?!\n)")
]

_SCOPE = re.compile(r"all|(?:group|device)/[a-z0-9][a-z0-9-]{1,47}")
_ID = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_PATH = re.compile(
    r"metadata/(?:[1-9][0-9]{0,15}\.)?[a-z]{1,32}\.json"
    r"|targets/(?:models/[0-9a-f]{64}|means|assignments)/[0-9a-f]{64}\.[A-Za-z0-9_][A-Za-z0-9._-]{0,63}"
)


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Immutable, unknown fields refused."""


class Assigned(_Strict, frozen=True, kw_only=True):
    """A bundle, and the repository's counter when it was assigned: going back also counts up."""

    bundle: Sha256
    seq: Seq


class Fleet(_Strict, frozen=True, kw_only=True):
    """`assignments/fleet.json`. seq: the repository's counter when it was written.

    groups: the devices of each. releases: what runs where, by scope: `all`, `group/<g>` or
    `device/<d>`. moved: the counter when a device came to be served by another, perhaps older,
    scope, so that its own count rises all the same.
    """

    schema: int = SCHEMA
    seq: Seq
    groups: dict[Name, list[Name]] = {}
    releases: dict[Scope, Assigned] = {}
    moved: dict[Name, Seq] = {}


class MeansTerms(_Strict, frozen=True, kw_only=True):
    """What is signed about class means (a target's `custom`)."""

    seq: Seq
    embedder_sha256: Sha256


class _SchemaOnly(msgspec.Struct):
    schema: int


def read_fleet(data: bytes) -> Fleet:
    """Read `assignments/fleet.json`; ValueError, one line, for anything that is not one."""
    if len(data) > MAX_FLEET_BYTES:
        raise ValueError(f"{FLEET}: larger than any fleet's should be")
    try:
        schema = msgspec.json.decode(data, type=_SchemaOnly).schema
        if schema != SCHEMA:
            raise ValueError(
                f"{FLEET}: schema {schema} is not {SCHEMA}; update earmark on the device first"
            )
        return msgspec.json.decode(data, type=Fleet)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{FLEET}: {error}") from error


def write_fleet(fleet: Fleet) -> bytes:
    """Return a fleet as JSON, bytes, names sorted."""
    return msgspec.json.format(msgspec.json.encode(fleet, order="sorted"), indent=1) + b"\n"


def read_terms(custom: Any) -> MeansTerms:
    """Read the `custom` of a target that is class means; ValueError for anything else."""
    try:
        return msgspec.convert(custom, MeansTerms)
    except msgspec.ValidationError as error:
        raise ValueError(f"what is signed about it: {error}") from error


def is_scope(text: str) -> bool:
    """Return whether a text is `all`, `group/<g>` or `device/<d>`."""
    return _SCOPE.fullmatch(text) is not None


def groups_of(fleet: Fleet, device: str) -> list[str]:
    """Return the groups that a device is in, in the order in which they are asked."""
    return sorted(group for group, devices in fleet.groups.items() if device in devices)


def scopes_of(fleet: Fleet, device: str) -> Iterator[str]:
    """Yield where to look for what a device runs, first find wins: itself, its groups, all."""
    yield f"device/{device}"
    for group in groups_of(fleet, device):
        yield f"group/{group}"
    yield EVERYBODY


def assigned(fleet: Fleet, device: str) -> Assigned | None:
    """Return what a device runs, its seq not below the counter when the device was moved."""
    for scope in scopes_of(fleet, device):
        if (found := fleet.releases.get(scope)) is not None:
            return Assigned(bundle=found.bundle, seq=max(found.seq, moved_at(fleet, device)))
    return None


def moved_at(fleet: Fleet, device: str) -> int:
    """Return the counter when a device came to be served by another scope; 0 if it never was."""
    return fleet.moved.get(device, 0)


def model_target(bundle: str, file: str) -> str:
    """Return the name of a bundle's file; ValueError for names that cannot be one."""
    if not _ID.fullmatch(bundle) or not _FILE.fullmatch(file):
        raise ValueError(f"models/{bundle}/{file}: not the name of a bundle's file")
    return f"models/{bundle}/{file}"


def means_target(scope: str) -> str:
    """Return the name of the class means of a scope; ValueError for what is no scope."""
    if not is_scope(scope):
        raise ValueError(f"{scope!r}: not all, group/NAME or device/NAME")
    return f"means/{scope.replace('/', '-', 1)}.npz"


def content_path(target: str, sha256: str) -> str:
    """Return where a target's content lies in the repository's folder."""
    folder, _, file = target.rpartition("/")
    return f"targets/{folder}/{sha256}.{file}"


def is_repository_path(path: str) -> bool:
    """Return whether a path can be one of the repository's files: nothing else is ever fetched."""
    return _PATH.fullmatch(path) is not None
