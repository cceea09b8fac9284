"""What of a repository a device needs to take over class means, as messages for the broker.

Signatures make them trustworthy, not the broker: whoever may publish there can delay a device's
update and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from deploy.repo.state import State
from edge.errors import UsageError
from edge.release.inbox import MESSAGE_LIMIT_BYTES
from edge.release.manifest import MANIFEST_NAME
from edge.release.targets import (
    FLEET,
    Fleet,
    assigned,
    content_path,
    means_target,
    model_target,
    scopes_of,
)

# The topic and what else is in a packet.
_OVERHEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class Letter:
    """One retained message: the file's path in the repository, below `down/repo/`, and content."""

    path: str
    data: bytes


def devices_of(fleet: Fleet, scope: str) -> list[str]:
    """Return the devices that a scope names; for `all`, those that the repository knows by name."""
    kind, _, name = scope.partition("/")
    if kind == "device":
        return [name]
    if kind == "group":
        return sorted(fleet.groups.get(name, ()))
    named = {one.partition("/")[2] for one in fleet.releases if one.startswith("device/")}
    return sorted(named.union(*fleet.groups.values()))


def scope_that_serves(state: State, fleet: Fleet, device: str) -> str | None:
    """Return whose class means a device takes, None when there are none for it."""
    published = state.roles["means"].targets
    return next((s for s in scopes_of(fleet, device) if means_target(s) in published), None)


def letters_for(state: State, device: str) -> list[Letter]:
    """Return a device's messages in the order in which they are to be sent, the timestamp last.

    UsageError when nothing is assigned to the device, or when one is too large for a broker.
    """
    fleet = state.fleet()
    runs = None if fleet is None else assigned(fleet, device)
    if fleet is None or runs is None:
        raise UsageError(
            f"{device}: no bundle is assigned to it; earmark-deploy repo assign BUNDLE --device "
            f"{device}"
        )
    letters = [
        Letter(path, (state.public / path).read_bytes())
        for path in _paths(state, fleet, device, runs.bundle)
    ]
    for letter in letters:
        if len(letter.data) + _OVERHEAD_BYTES > MESSAGE_LIMIT_BYTES:
            raise UsageError(
                f"{letter.path}: {len(letter.data)} bytes are too many for a broker; let devices "
                "fetch it by https:// or bring it on a stick (docs/releases.md)"
            )
    return letters


def _paths(state: State, fleet: Fleet, device: str, bundle: str) -> Iterator[str]:
    """Yield what must be there, content before what refers to it."""
    # Without the manifest a device that got its bundle some other way knows no base.
    manifest = model_target(bundle, MANIFEST_NAME)
    yield _content(state, "models", manifest)
    scope = scope_that_serves(state, fleet, device)
    if scope is not None:
        yield _content(state, "means", means_target(scope))
    yield _content(state, "assignments", FLEET)
    for version in range(2, state.root.signed.version + 1):
        yield f"metadata/{version}.root.json"
    for name, meta in state.snapshot.meta.items():
        yield f"metadata/{meta.version}.{name}"
    yield f"metadata/{state.timestamp.snapshot_meta.version}.snapshot.json"
    yield "metadata/timestamp.json"


def _content(state: State, role: str, target: str) -> str:
    return content_path(target, state.roles[role].targets[target].hashes["sha256"])
