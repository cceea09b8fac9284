"""What a running agent has to do with releases: it follows its store, and speaks for the updater.

The updater is a process of its own, without a connection to the broker. What the broker has for it
the agent puts on the disk, and what it has to say the agent publishes.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from edge.actions import Reloaded, Watches, carry_out
from edge.config import AgentConfig
from edge.errors import EarmarkError
from edge.identity.matching import Matcher
from edge.messaging import Messenger, Topics, check_animals
from edge.messaging.connection import Message, OnMessage
from edge.messaging.events import UpdateReport, encode
from edge.messaging.retry import Rate
from edge.release.bundle import Bundle
from edge.release.follow import Follower, Restart, only_agent
from edge.release.inbox import Inbox, wake_updater
from edge.release.recent import RecentRing, RememberingEmbedder, recent_path, write_recent
from edge.release.report import read_report, report_path
from edge.served import Served
from edge.vision.look import CropEmbedder

LOG = logging.getLogger("earmark.releases")
_RECENT_EVERY_S = 30.0
# Files that the broker may have for the updater: a burst when connected, few afterwards.
_FILES_PER_S, _FILES_AT_ONCE = 0.2, 64


class Releases:
    """The releases of one agent, below the store `root`. boot: the id of this start of the agent.

    spool: whether what the broker has of the repository is taken in. say: one line each for people.
    `handlers` are called in the network thread, the rest by the agent's own loop.
    """

    def __init__(
        self,
        root: Path,
        device: str,
        boot: str,
        say: Callable[[str], None],
        *,
        spool: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root, self._topics, self._say, self._clock = root, Topics(device), say, clock
        self._spool = spool
        self._follower = Follower(root, boot, clock)
        self._inbox = Inbox(root / "inbox")
        self._rate = Rate(_FILES_PER_S, clock, burst=_FILES_AT_ONCE)
        self._ring = RecentRing()
        self._recent_from_s, self._recent_added = 0.0, 0
        self._reported: object = None
        self.observe = self._follower.count

    def alone(self) -> contextlib.AbstractContextManager[None]:
        """Be the only agent of the store for a block."""
        return only_agent(self._root)

    def start(self, served: Served) -> Bundle:
        """Load the release that is selected; see `Follower.start`."""
        return self._follower.start(served.load)

    @property
    def directory(self) -> Path:
        """The folder of the release that runs."""
        return self._follower.directory

    def remembering(self, embedder: CropEmbedder) -> CropEmbedder:
        """Return an embedder whose last embeddings are kept."""
        return RememberingEmbedder(embedder, self._ring)

    @property
    def handlers(self) -> Mapping[str, OnMessage]:
        """What the updater wants to hear of, by topic."""
        wanted: dict[str, OnMessage] = {self._topics.hint: lambda message: wake_updater(self._root)}
        if self._spool:
            wanted[f"{self._topics.repo}/#"] = self._take_in
        return wanted

    def check_update(self) -> str:
        """Make the updater look; return what it said last, for people."""
        wake_updater(self._root)
        report = read_report(self._root)
        last = (
            "nothing yet" if report is None else f"{report.phase}, {report.text or 'all is well'}"
        )
        return f"the updater was told; its last word: {last}"[:500]

    def changed(self) -> bool:
        """Say whether `follow` or `tick` may have something to do; costs next to nothing."""
        return self._follower.changed() or self._report_signature() != self._reported

    def follow(
        self, config: AgentConfig, served: Served, watches: Watches
    ) -> Bundle | Restart | None:
        """Go on by other class means when the store says so, between two frames; return the bundle.

        None when nothing changed, "restart" when what is to run has other models.
        """
        found = self._follower.look(served.bundle)
        if found is None or found == "restart":
            return found
        try:
            check_animals(found.means.animals)
        except EarmarkError as error:
            self._follower.refuse(error)
            return None
        try:
            carry_out(Reloaded(config, found, ("bundle",)), watches)
        except EarmarkError as error:
            self._say(f"release {found.directory.name}: {error}")
            return None
        served.take(found)
        self._follower.took()
        return found

    def tick(self, messenger: Messenger, served: Served) -> None:
        """Tell the updater how the agent is, and the broker how the updater is."""
        self._follower.beat(backend=served.backend, degraded=served.degraded)
        self._keep_recent(served.bundle)
        self._publish(messenger)

    def _take_in(self, message: Message) -> None:
        if not self._rate.allowed():
            return
        self._rate.use(1)
        path = message.topic.removeprefix(f"{self._topics.repo}/")
        if self._inbox.put(path, message.payload):
            wake_updater(self._root)

    def _keep_recent(self, bundle: Bundle) -> None:
        now_s = self._clock()
        if self._ring.added == self._recent_added or now_s < self._recent_from_s:
            return
        self._recent_added, self._recent_from_s = self._ring.added, now_s + _RECENT_EVERY_S
        recent = self._ring.named(Matcher(bundle.means), bundle.manifest.embedder.sha256)
        try:
            write_recent(recent, recent_path(self._root))
        except OSError as error:
            LOG.debug("recent embeddings: %s", error)

    def _publish(self, messenger: Messenger) -> None:
        """Publish the updater's report when it is another one than before."""
        signature = self._report_signature()
        if signature == self._reported:
            return
        self._reported = signature
        report = read_report(self._root)
        if report is None or report.device != self._topics.device:
            return
        messenger.set_notice(self._topics.update, encode(report))
        self._raise_alarm(messenger, report)

    def _report_signature(self) -> object:
        try:
            found = report_path(self._root).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def _raise_alarm(self, messenger: Messenger, report: UpdateReport) -> None:
        """Raise an alarm for an update that failed, once, also when the agent was restarted."""
        told = self._root / "run" / "alarmed"
        if report.closed:
            kind, about = "updates-closed", ""
        elif report.phase in ("rejected", "rolled_back"):
            kind, about = "update-failed", f"{report.candidate or ''} {report.reason or ''}"
        else:
            with contextlib.suppress(OSError):
                told.unlink(missing_ok=True)
            return
        word = f"{kind} {about}".encode()
        with contextlib.suppress(OSError):
            if told.exists() and told.read_bytes() == word:
                return
            told.write_bytes(word)
        messenger.alarm(kind, report.text[:500])
