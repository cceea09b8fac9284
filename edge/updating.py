"""An updater wired to a device: its settings, its channels, its clock and its agent."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from edge.capture.clock import wall_time
from edge.config import AgentConfig
from edge.errors import UsageError
from edge.messaging.events import UpdateReport
from edge.release.channels import Channel, open_channel
from edge.release.download import download
from edge.release.heartbeat import read_heartbeat
from edge.release.report import write_report
from edge.release.soak import SoakTerms
from edge.release.store import Store
from edge.release.trial import check_release
from edge.release.trust import Trust
from edge.release.updater import Updater
from edge.release.world import Options, World

LOG = logging.getLogger("earmark.updater")


class _Lively:
    """A channel by which whoever waits hears that something still comes, however slowly."""

    def __init__(self, channel: Channel, alive: Callable[[], object]) -> None:
        self.name, self._channel, self._alive = channel.name, channel, alive

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        """Yield a file's content, see `Channel.fetch`."""
        for chunk in self._channel.fetch(path, offset=offset, limit=limit):
            self._alive()
            yield chunk


def new_updater(
    config: AgentConfig,
    root: Path,
    urls: Sequence[str],
    *,
    agent: bool = True,
    alive: Callable[[], object] = lambda: None,
    told: Callable[[UpdateReport], object] = lambda report: None,
) -> Updater:
    """Return an updater of the store `root` that asks the channels `urls`.

    agent: whether one runs here that tries releases. alive: called now and then while something
    takes long. told: gets every report. UsageError for a URL that is no channel, or none.
    """
    if not urls:
        raise UsageError("no channel: set updates.channels in agent.yaml, or give --from URL")
    ca_file = None if config.updates.ca_file is None else Path(config.updates.ca_file)
    channels = [
        _Lively(open_channel(url, inbox=root / "inbox", ca_file=ca_file), alive) for url in urls
    ]
    world = _world(config, root, alive, told)
    return Updater(root, config.device_id(), channels, world, _options(config, agent=agent))


def _options(config: AgentConfig, *, agent: bool) -> Options:
    wanted = config.updates
    return Options(
        every_s=wanted.every_s,
        soak=SoakTerms(wanted.soak_s, wanted.soak_frames),
        means_soak=SoakTerms(0.0, wanted.means_soak_frames, least_rate=0.0),
        threads=config.threads,
        agent=agent,
    )


def _world(
    config: AgentConfig,
    root: Path,
    alive: Callable[[], object],
    told: Callable[[UpdateReport], object],
) -> World:
    store, limit = Store(root), config.updates.limit_kib_s * 1024 or None
    trust = Trust(
        root / "trust", config.device_id(), clock=lambda: wall_time() or datetime.now(UTC)
    )

    def report(one: UpdateReport) -> None:
        told(one)
        try:
            write_report(root, one)
        except OSError as error:
            LOG.warning("%s", error)

    return World(
        clock=time.monotonic,
        now=wall_time,
        refresh=trust.refresh,
        download=lambda channel, blob, tell: download(
            channel, blob, store, limit_bytes_s=limit, on_progress=tell
        ),
        try_out=lambda request: check_release(request, alive=alive),
        heartbeat=lambda: read_heartbeat(root),
        report=report,
        free_bytes=lambda: shutil.disk_usage(root).free,
    )
