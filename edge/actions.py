"""What the commands do to a running agent. Each returns what became of it; EarmarkError: failed."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.camera_watch import CameraWatch
from edge.config import AgentConfig
from edge.draw import jpeg_still
from edge.messaging import check_animals
from edge.messaging.commands import LevelArguments, Order, Outcome, SnapshotArguments
from edge.release.bundle import Bundle, with_other_means
from edge.release.manifest import MEANS_NAME

# Base64 makes a third more of it, and the whole reply must pass brokers that take 256 kB.
STILL_LIMIT_BYTES = 96 * 1024
# As much, once it is base64.
MEANS_LIMIT_BYTES = 72 * 1024
# What of agent.yaml a running agent can take over; `log` in part.
_RELOADABLE = frozenset({"bundle", "naming", "sightings", "log"})

Watches = Mapping[str, CameraWatch]


def identify(watches: Watches) -> Outcome:
    """Publish every open sighting of every camera again, at once."""
    count = sum(watch.retell() for watch in watches.values())
    animals: set[str] = set()
    for watch in watches.values():
        animals |= watch.animals
    return Outcome(
        text=f"{count} sightings told again, {len(animals)} animals by name",
        result={"sightings": count, "animals": len(animals)},
    )


def set_log_level(order: Order) -> Outcome:
    """Write log lines from another level on, until the next restart."""
    assert isinstance(order.arguments, LevelArguments)
    apply_log_level(order.arguments.level)
    return Outcome(text=f"log level {order.arguments.level} until the next restart")


def apply_log_level(level: str) -> None:
    """Set the level of everything that is logged."""
    logging.getLogger().setLevel(level.upper())


def snapshot(watches: Watches, order: Order) -> Outcome:
    """Return the last frame of a camera with names drawn, a JPEG of at most 96 kB as base64."""
    asked = order.arguments
    assert isinstance(asked, SnapshotArguments)
    names = ", ".join(sorted(watches))
    if asked.camera is None and len(watches) > 1:
        return Outcome("bad-arguments", f"name one of the cameras {names}")
    camera = asked.camera or next(iter(watches))
    if camera not in watches:
        return Outcome("bad-arguments", f"no camera {camera} here; there are {names}")
    last = watches[camera].last
    if last is None:
        return Outcome("failed", f"camera {camera} has given no frame yet")
    frame, result = last
    still = jpeg_still(frame.image, result.tracks, asked.width, STILL_LIMIT_BYTES)
    taken = frame.wall_time
    return Outcome(
        text=f"camera {camera}, {len(still.data) // 1024} kB",
        result={
            "camera": camera,
            "width": still.width,
            "height": still.height,
            "at": None if taken is None else taken.isoformat(timespec="milliseconds"),
            "jpeg": base64.b64encode(still.data).decode(),
        },
    )


def give_means(bundle: Bundle) -> Outcome:
    """Return the class means that name the animals now: `means.npz` as base64, at most 96 kB."""
    path, entry = bundle.directory / MEANS_NAME, bundle.manifest.files[MEANS_NAME]
    with path.open("rb") as stream:
        data = stream.read(MEANS_LIMIT_BYTES + 1)
    if len(data) > MEANS_LIMIT_BYTES:
        return Outcome(
            "failed",
            f"the class means are larger than a reply may be ({entry.size} bytes, "
            f"{MEANS_LIMIT_BYTES} fit); copy {path} over SSH",
        )
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        return Outcome("failed", f"{path}: was replaced meanwhile; send reload, then ask again")
    return Outcome(
        text=f"{len(bundle.means.animals)} animals, {len(data)} bytes",
        result={
            "release": bundle.manifest.id[:12],
            "means_seq": bundle.means.header.seq,
            "animals": len(bundle.means.animals),
            "digest": entry.sha256,
            "npz": base64.b64encode(data).decode(),
        },
    )


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload asks for: settings, and the bundle that names from now on."""

    config: AgentConfig
    bundle: Bundle
    changed: tuple[str, ...]


def plan_reload(
    old: AgentConfig, new: AgentConfig, running: Bundle, directory: Path | None = None
) -> Reloaded | Outcome:
    """Return what can be taken over while running, or the refusal: then nothing is to change.

    Class means are read again from the bundle of `new`, or from `directory` where a store says
    which release runs, verified as at the start; its models must be those that run. Raises
    BundleError for a bundle that must not run.
    """
    changed = [
        field
        for field in AgentConfig.__struct_fields__
        if getattr(old, field) != getattr(new, field)
    ]
    fixed = [field for field in changed if field not in _RELOADABLE]
    if old.log.format != new.log.format:
        fixed.append("log.format")
    if fixed:
        names = ", ".join(fixed)
        return Outcome("needs-restart", f"{names} changed in agent.yaml; send restart")
    bundle = with_other_means(directory or Path(new.bundle), running)
    if bundle is None:
        return Outcome("needs-restart", "the bundle has other models; send restart")
    check_animals(bundle.means.animals)
    if bundle.manifest.id != running.manifest.id and "bundle" not in changed:
        changed.append("bundle")
    return Reloaded(new, bundle, tuple(changed))


def carry_out(reload: Reloaded, watches: Watches) -> Outcome:
    """Let every camera go on by other class means and settings, between two of its frames.

    EarmarkError when a camera is stuck: those before it have gone on already, and the same reload
    may be asked for again.
    """
    bundle, config = reload.bundle, reload.config
    release = bundle.manifest.id[:12]
    for watch in watches.values():
        watch.replace_means(bundle.means, release)
        watch.replace_settings(config.naming, config.sightings)
    if "log" in reload.changed:
        apply_log_level(config.log.level)
    what = ", ".join(reload.changed) or "nothing had changed"
    return Outcome(
        text=f"reloaded: {what}",
        result={
            "changed": list(reload.changed),
            "release": release,
            "means_seq": bundle.means.header.seq,
        },
    )
