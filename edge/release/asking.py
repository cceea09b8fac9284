"""Every way to the repository, asked until one has something new for this device."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from edge.errors import BundleError, EarmarkError, TrustError
from edge.release.channels import Channel, ChannelError, ChannelMissingError
from edge.release.manifest import MANIFEST_NAME
from edge.release.plan import Plan, make_plan
from edge.release.state import Floor, read_floor, write_floor
from edge.release.store import DownloadError, Store
from edge.release.trust import Wanted
from edge.release.world import World

LOG = logging.getLogger("earmark.updater")
_NEAR = ("mqtt:", "file:")


@dataclass(slots=True)
class Found:
    """What the channels had to say.

    new: a plan for something that neither runs nor was refused before. old: one that does or was.
    refused, unread: what was wrong with a repository, or with the way to it. nothing: a repository
    has nothing for this device.
    """

    new: Plan | None = None
    old: Plan | None = None
    refused: EarmarkError | None = None
    unread: ChannelError | None = None
    nothing: bool = False

    @property
    def code(self) -> str:
        """Why a repository was refused, a word."""
        if isinstance(self.refused, TrustError):
            return self.refused.reason
        return "damaged" if isinstance(self.refused, DownloadError) else "altered"


def in_order(channels: Sequence[Channel]) -> list[Channel]:
    """Return channels with the cheapest first: what came over the broker, folders, the network."""

    def cost(channel: Channel) -> int:
        return next((n for n, near in enumerate(_NEAR) if channel.name.startswith(near)), 9)

    return sorted(channels, key=cost)


def ask(
    store: Store, channels: Sequence[Channel], world: World, rejected: Collection[str]
) -> Found:
    """Ask one channel after the other until one has something new.

    Raises DurableError, StateDamagedError.
    """
    found = Found()
    for channel in channels:
        try:
            wanted = world.refresh(channel, read_floor(store.root))
            if wanted is None:
                found.nothing = True
                continue
            write_floor(store.root, _versions(wanted))
            plan = _planned(store, channel, world, wanted)
        except ChannelMissingError as error:
            LOG.debug("%s", error)
            found.unread = found.unread or error
        except ChannelError as error:
            LOG.info("%s", error)
            found.unread = error
        except (TrustError, BundleError, DownloadError) as error:
            LOG.warning("%s", error)
            found.refused = error
        else:
            current = store.current()
            if plan.name not in rejected and (current is None or current.name != plan.name):
                found.new = plan
                return found
            found.old = plan
    return found


def _planned(store: Store, channel: Channel, world: World, wanted: Wanted) -> Plan:
    manifest = wanted.files[MANIFEST_NAME]
    if not store.has_blob(manifest.sha256):
        world.download(channel, manifest, lambda size: None)
    return make_plan(wanted, channel, store)


def _versions(wanted: Wanted) -> Floor:
    seen = wanted.versions
    return Floor(root=seen.root, timestamp=seen.timestamp, snapshot=seen.snapshot)
