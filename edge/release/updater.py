"""The updater's state machine: from what the repository wants to what the device runs.

Where it stands is in the journal, written before each act; `step` does the next thing, whatever
process did the one before. Everything outside the store is done through `World`.

    idle → checking → downloading → verifying → staged → trial → committing → idle
    rolled_back, rejected, deferred: as idle, and `reason` says why nothing was installed
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from edge.durable import DurableError
from edge.errors import BundleError, EarmarkError
from edge.messaging.retry import Backoff
from edge.release import install
from edge.release.asking import ask, in_order
from edge.release.channels import Channel, ChannelError
from edge.release.gate import Request
from edge.release.manifest import MANIFEST_NAME, MEANS_NAME
from edge.release.plan import Plan, differs_by_means_alone
from edge.release.recent import recent_path
from edge.release.soak import RATE_S, Readiness, Soak, SoakTerms, Verdict
from edge.release.state import (
    Floor,
    Journal,
    Phase,
    StateDamagedError,
    read_boot,
    read_floor,
    read_journal,
    write_floor,
)
from edge.release.store import DownloadError, Store
from edge.release.telling import RESTING, Teller
from edge.release.trial import TrialError
from edge.release.trust import Blob
from edge.release.world import Options, World, keep_baseline, kept_baseline

LOG = logging.getLogger("earmark.updater")
_TRIAL_LOOK_S = 0.1
_AGAIN_S = 30.0
_DAMAGED_S = 60.0
_SPARE_BYTES = 16 << 20
_PROGRESS_STEP = 0.1


class Updater:
    """Keeps the store `root` of `device` at what its repository wants. One thread calls.

    channels: ways to the repository, each asked until one has something new. Only one process at a
    time may step (see `edge.release.turn`).
    """

    def __init__(
        self,
        root: Path,
        device: str,
        channels: Sequence[Channel],
        world: World,
        options: Options,
    ) -> None:
        self._root, self._world, self._options = root, world, options
        self._channels = in_order(channels)
        self._store = Store(root)
        self._backoff = Backoff(_AGAIN_S, max(_AGAIN_S, options.every_s))
        self._begun = False
        self._due_s = float("-inf")
        self._plan: Plan | None = None
        self._soak: Soak | None = None
        self._gated = ""
        self._staged_s: float | None = None
        self._readiness = Readiness(None)
        self._untidy = True
        self._teller = Teller(root, device, world.report, world.now)

    def look(self) -> None:
        """Ask the channels as soon as nothing else is under way."""
        self._due_s = float("-inf")

    def begin_anew(self) -> None:
        """Take the store as it is now: somebody else may have worked on it."""
        self._begun = False

    @property
    def resting(self) -> bool:
        """Whether nothing is under way, and the next thing to do is another look."""
        try:
            return not self._begun or read_journal(self._root).phase in RESTING
        except StateDamagedError:
            return True

    def step(self) -> float:
        """Do the next thing; return in how many seconds there is another one to do."""
        try:
            wait_s = self._step()
            self._tell()
        except StateDamagedError as error:
            self._begun = False
            self._teller.closed(error)
            return _DAMAGED_S
        except DurableError as error:
            # What is half done is brought to an end when the disk takes it again.
            self._begun = False
            self._teller.disk(error)
            return _AGAIN_S
        return wait_s

    def _step(self) -> float:
        if not self._begun:
            self._begin()
        journal = read_journal(self._root)
        read_floor(self._root)
        if journal.phase in RESTING or journal.phase == "checking":
            wait_s = self._due_s - self._world.clock()
            return wait_s if wait_s > 0 else self._check(journal)
        if journal.phase == "trial":
            return self._judge(journal)
        if self._plan is None or journal.phase == "committing":
            self._begun = False
            return 0.0
        if journal.phase == "downloading":
            return self._download(self._plan)
        if journal.phase == "verifying":
            return self._verify(self._plan)
        return self._try_out(self._plan)

    def _begin(self) -> None:
        finished = install.finish(self._root)
        if finished.done == "closed":
            read_journal(self._root)
            read_floor(self._root)
        if finished.done != "nothing":
            LOG.warning("%s: %s %s", finished.done, finished.release or "", finished.text)
        self._begun = True
        self._plan = self._soak = None

    # -- checking ----------------------------------------------------------------------------------

    def _check(self, before: Journal) -> float:
        """Ask the channels, and begin with what is new."""
        if self._world.now() is None:
            text = "the clock is not set, so nobody knows whether signatures still hold"
            return self._rest("deferred", "clock", text, _AGAIN_S)
        self._readiness = Readiness(self._world.heartbeat())
        install.enter(self._root, "checking")
        found = ask(self._store, self._channels, self._world, before.rejected)
        plan = found.new or found.old
        self._teller.note = plan.note if plan is not None else ""
        if found.new is not None:
            self._plan, self._staged_s = found.new, None
            self._backoff.reset()
            self._enter(found.new, "downloading")
            return 0.0
        if plan is not None:
            self._plan = plan
            return self._settled(plan, before)
        if found.refused is not None:
            phase: Phase = "deferred" if found.code == "disk" else "rejected"
            wait_s = self._backoff.next_s()
            return self._rest(phase, found.code, str(found.refused), wait_s)
        if found.nothing:
            return self._leave("idle", None, None, self._options.every_s)
        # Nobody could be asked: nothing is lost but time, and what was the matter still is.
        wait_s, problem = self._backoff.next_s(), found.unread
        if problem is not None and before.phase not in ("rolled_back", "rejected"):
            return self._rest("idle", "no-channel", str(problem), wait_s)
        phase = before.phase if before.phase in RESTING else "idle"
        return self._leave(phase, before.reason, before.release, wait_s)

    def _settled(self, plan: Plan, before: Journal) -> float:
        """Nothing is to be done: it runs already, or was refused before."""
        self._backoff.reset()
        if self._untidy:
            self._tidy()
        reason = before.rejected.get(plan.name)
        if plan.name != self._current and reason is not None:
            known = before.release == plan.name and before.phase in ("rolled_back", "rejected")
            phase: Phase = before.phase if known else "rejected"
            return self._leave(phase, reason, plan.name, self._options.every_s)
        # The same content may have come under a higher seq.
        write_floor(
            self._root,
            Floor(
                assignment=plan.wanted.assignment,
                bundle=plan.wanted.bundle,
                means=plan.means_seq,
                means_sha256=plan.means_sha256,
            ),
        )
        return self._leave("idle", None, None, self._options.every_s)

    # -- downloading, verifying --------------------------------------------------------------------

    def _download(self, plan: Plan) -> float:
        """Fetch one thing that is missing."""
        blobs = list(plan.blobs())
        missing = plan.missing(self._store)
        if not missing:
            self._teller.progress = None
            self._enter(plan, "verifying")
            return 0.0
        need = sum(blob.size for blob in missing) + _SPARE_BYTES
        free = self._world.free_bytes()
        if free < need:
            text = f"{free >> 20} MiB are free, {need >> 20} MiB are needed"
            return self._rest("deferred", "disk-low", text, self._backoff.next_s(), plan.name)
        total = max(1, sum(blob.size for blob in blobs))
        here = total - sum(blob.size for blob in missing)
        return self._fetch(
            plan, missing[0], lambda size: self._advance(plan, (here + size) / total)
        )

    def _fetch(self, plan: Plan, blob: Blob, advance: Callable[[int], None]) -> float:
        others = [channel for channel in self._channels if channel is not plan.channel]
        problem: EarmarkError | None = None
        for channel in (plan.channel, *others):
            try:
                self._world.download(channel, blob, advance)
                return 0.0
            except (ChannelError, DownloadError) as error:
                LOG.info("%s", error)
                # What the first had to say is told: it is the one that has the release.
                problem = problem or error
        code = "damaged" if isinstance(problem, DownloadError) else "no-channel"
        return self._rest("deferred", code, str(problem), self._backoff.next_s(), plan.name)

    def _advance(self, plan: Plan, progress: float) -> None:
        if self._teller.progress is None or progress - self._teller.progress >= _PROGRESS_STEP:
            self._teller.progress = min(1.0, progress)
            self._enter(plan, "downloading")
            self._tell()

    def _verify(self, plan: Plan) -> float:
        """Make a release of what was fetched."""
        try:
            manifest = plan.manifest(self._store)
        except BundleError as error:
            return self._reject(plan.name, "means", str(error))
        try:
            self._store.stage(plan.name, manifest)
        except BundleError as error:
            # Content that was verified when it came is not what it was: it is fetched again.
            return self._rest("deferred", "damaged", str(error), self._backoff.next_s(), plan.name)
        self._enter(plan, "staged")
        return 0.0

    # -- trial -------------------------------------------------------------------------------------

    def _try_out(self, plan: Plan) -> float:
        """Let the gate look at the staged release, then the agent."""
        if self._gated != plan.name:
            try:
                self._world.try_out(self._request(plan.name))
            except TrialError as error:
                return self._reject(plan.name, error.code, str(error))
            self._gated = plan.name
        if self._current is None or not self._options.agent:
            # Nobody runs anything that could be worse.
            return self._commit(plan.name, plan.wanted.assignment, plan.means_seq, plan)
        now_s, terms = self._world.clock(), self._terms(plan.name)
        beat, seconds = self._world.heartbeat(), min(terms.seconds, RATE_S)
        before = self._readiness.judge(beat, self._current, now_s, seconds)
        if isinstance(before, Verdict):
            self._staged_s = now_s if self._staged_s is None else self._staged_s
            if now_s - self._staged_s < self._options.agent_s:
                return _TRIAL_LOOK_S
            return self._rest("deferred", before.code, before.text, _AGAIN_S, plan.name)
        keep_baseline(self._root, before)
        install.begin_trial(self._root, plan.name)
        self._soak = Soak(plan.name, terms, before, now_s)
        return _TRIAL_LOOK_S

    def _request(self, name: str) -> Request:
        current, recent = self._store.current(), recent_path(self._root)
        return Request(
            release=str(self._store.release(name)),
            models=not differs_by_means_alone(self._store, name),
            current=str(current / MEANS_NAME) if current is not None else "",
            recent=str(recent) if recent.exists() else "",
            threads=self._options.threads,
        )

    def _terms(self, name: str) -> SoakTerms:
        return (
            self._options.means_soak
            if differs_by_means_alone(self._store, name)
            else self._options.soak
        )

    def _judge(self, journal: Journal) -> float:
        """Look how the agent does by the release on trial."""
        name, now_s = journal.release, self._world.clock()
        assert name is not None
        if self._soak is None:
            self._soak = Soak(name, self._terms(name), kept_baseline(self._root), now_s)
        try:
            boot = read_boot(self._root)
        except StateDamagedError:
            self._begun = False
            return 0.0
        verdict = self._soak.judge(self._world.heartbeat(), boot, now_s)
        if verdict is None:
            return _TRIAL_LOOK_S
        self._soak = None
        return self._end_trial(journal, name, verdict)

    def _end_trial(self, journal: Journal, name: str, verdict: Verdict) -> float:
        if verdict.outcome == "passed":
            return self._commit(name, journal.assignment, journal.means, self._plan)
        if verdict.outcome == "failed":
            install.roll_back(self._root, f"{verdict.code}: {verdict.text}")
            self._untidy = True
            return self._after(self._options.every_s)
        wait_s = self._rest("deferred", verdict.code, verdict.text, self._backoff.next_s(), name)
        install.finish(self._root)  # takes it back from the agent, and lets it be tried again
        return wait_s

    def _commit(self, name: str, assignment: int, means: int, plan: Plan | None) -> float:
        known = plan if plan is not None and plan.name == name else None
        try:
            install.commit(
                self._root,
                name,
                assignment,
                means,
                bundle="" if known is None else known.wanted.bundle,
                means_sha256="" if known is None else known.means_sha256,
            )
        except BundleError as error:
            return self._reject(name, "older", str(error))
        self._untidy = True
        # Something newer may have come meanwhile, and what lies about is put away.
        return self._after(0.0)

    # -- ends --------------------------------------------------------------------------------------

    def _reject(self, name: str, code: str, text: str) -> float:
        install.reject(self._root, name, f"{code}: {text}")
        self._untidy = True
        return self._after(self._options.every_s)

    def _rest(
        self, phase: Phase, code: str, text: str, wait_s: float, release: str | None = None
    ) -> float:
        return self._leave(phase, f"{code}: {text}", release, wait_s)

    def _leave(self, phase: Phase, reason: str | None, release: str | None, wait_s: float) -> float:
        reason = reason[:500] if reason is not None else None
        journal = read_journal(self._root)
        # What stays as it is costs no write, however often it is looked at.
        if (journal.phase, journal.reason, journal.release) != (phase, reason, release):
            install.enter(self._root, phase, reason=reason, release=release)
        return self._after(wait_s)

    def _after(self, wait_s: float) -> float:
        self._teller.progress = None
        self._due_s = self._world.clock() + wait_s
        return wait_s

    def _enter(self, plan: Plan, phase: Phase) -> None:
        install.enter(
            self._root,
            phase,
            release=plan.name,
            assignment=plan.wanted.assignment,
            means=plan.means_seq,
            reason=None,
        )

    def _tidy(self) -> None:
        """Remove what neither runs, nor ran before, nor is wanted."""
        assert self._plan is not None
        heartbeat = self._world.heartbeat()
        keep = [read_journal(self._root).previous, heartbeat.release if heartbeat else None]
        # Without the manifest as it was signed, class means could not come by themselves.
        manifest = self._plan.wanted.files[MANIFEST_NAME].sha256
        self._store.clean([name for name in keep if name], [manifest])
        self._untidy = False

    @property
    def _current(self) -> str | None:
        current = self._store.current()
        return None if current is None else current.name

    def _tell(self) -> None:
        self._teller.tell(None if self._plan is None else self._plan.channel.name)
