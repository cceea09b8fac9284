"""What an updater says of itself: the journal, for people and for `up/update`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from edge.durable import DurableError
from edge.messaging.events import SCHEMA, UpdateReport, timestamp
from edge.release.state import Floor, Journal, Phase, StateDamagedError, read_floor, read_journal
from edge.release.store import Store

LOG = logging.getLogger("earmark.updater")
RESTING: frozenset[Phase] = frozenset({"idle", "rolled_back", "rejected", "deferred"})


_CODE = re.compile(r"[a-z][a-z-]{0,30}")


class Teller:
    """Reports the journal of the store `root`, each of its revisions once.

    send: what a report is given to. now: the time of day, None while it cannot be believed. note:
    what people should know although all is well. progress: how much of a release is here.
    """

    def __init__(
        self,
        root: Path,
        device: str,
        send: Callable[[UpdateReport], None],
        now: Callable[[], datetime | None],
    ) -> None:
        self._root, self._device, self._send, self._now = root, device, send, now
        self._store = Store(root)
        self._told: tuple[int, str] | None = None
        self.note = ""
        self.progress: float | None = None

    def tell(self, channel: str | None = None) -> None:
        """Report where the journal stands. channel: what the release comes from."""
        journal = read_journal(self._root)
        if self._told != (journal.rev, ""):
            self._told = (journal.rev, "")
            self._report(journal, channel=channel)

    def closed(self, error: StateDamagedError) -> None:
        """Report that nothing can be installed until somebody repairs the store."""
        if self._told is not None and self._told[1] == str(error):
            return
        LOG.error("%s", error)
        last = self._told[0] if self._told is not None else 0
        self._told = (last + 1, str(error))
        self._report(Journal(rev=last + 1), closed=str(error))

    def disk(self, error: DurableError) -> None:
        """Report that the disk did not take what had to be kept."""
        LOG.warning("%s", error)
        try:
            journal = read_journal(self._root)
        except StateDamagedError:
            return
        reason = f"{'disk-full' if error.full else 'disk-failing'}: {error}"[:500]
        self._told = (journal.rev, reason)
        self._report(
            msgspec.structs.replace(journal, phase="deferred", reason=reason, rev=journal.rev + 1)
        )

    def _report(self, journal: Journal, *, channel: str | None = None, closed: str = "") -> None:
        code, text = _split(journal)
        now, floor, current = self._now(), self._floor(), self._store.current()
        report = UpdateReport(
            schema=SCHEMA,
            device=self._device,
            rev=journal.rev,
            phase=journal.phase,
            release=None if current is None else current.name,
            assignment=floor.assignment,
            means=floor.means,
            candidate=journal.release if journal.phase != "idle" else None,
            progress=self.progress,
            channel=channel[:500] if channel and journal.phase not in RESTING else None,
            reason=code or None,
            text=(closed or text or self.note)[:500],
            closed=bool(closed),
            at=timestamp(now),
            clock="unsynced" if now is None else "synced",
        )
        self._send(report)

    def _floor(self) -> Floor:
        try:
            return read_floor(self._root)
        except StateDamagedError:
            return Floor()


def report_now(root: Path, device: str, now: Callable[[], datetime | None]) -> UpdateReport:
    """Return what there is to say of a store, whether or not an updater runs there."""
    told: list[UpdateReport] = []
    teller = Teller(root, device, told.append, now)
    try:
        read_floor(root)
        teller.tell()
    except StateDamagedError as error:
        teller.closed(error)
    return told[-1]


def _split(journal: Journal) -> tuple[str, str]:
    """Return a journal's reason as a word and as text; what `install.finish` found has no word."""
    reason = journal.reason or ""
    code, colon, text = reason.partition(": ")
    if not reason or (colon and _CODE.fullmatch(code)):
        return code, text
    return "dies" if journal.phase == "rolled_back" else "state", reason
