"""`earmark-deploy flash`: a repository's releases onto devices, over SSH."""

from __future__ import annotations

import posixpath
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.table import Table

from deploy.fleet.inventory import Device
from deploy.fleet.pace import Pace
from deploy.fleet.progress import Shown
from deploy.fleet.repository import Content, Repository, RepositoryError, Wanted
from deploy.fleet.rollout import Rolled, Terms, roll_out
from deploy.fleet.ssh import DeviceError, Keyring, Session
from deploy.fleet.target import Target
from deploy.fleet.updates import Status, apply_repository, ask_status
from deploy.fleet.upload import Upload, Uploader
from edge.console import in_one_line
from edge.errors import EarmarkError

State = Literal["updated", "unchanged", "failed", "would be updated"]

# Room for the release beside what is copied, and something over.
_SPARE_BYTES = 64 << 20
_LIST_S = 300.0
# Prints `sha256  path` of what was copied before, `blob sha256` of what the store has, and
# `free bytes`.
_LOOK = """
cd -- "$1" || exit 1
store=$2
shift 2
find . -type f ! -name '*.part' -exec sha256sum -- {} +
for sha in "$@"; do
    [ ! -f "$store/blobs/sha256/$(printf %.2s "$sha")/$sha" ] || echo "blob $sha"
done
echo "free $(($(stat -f -c '%a * %S' -- .)))"
"""
# Removes every file below `targets` and `metadata` that is not named.
_PRUNE = """
cd -- "$1" || exit 1
shift
find metadata targets -type f 2>/dev/null | while IFS= read -r path; do
    keep=
    for one in "$@"; do [ "$one" != "$path" ] || keep=1; done
    [ -n "$keep" ] || rm -f -- "$path"
done
find targets -mindepth 1 -type d -empty -delete 2>/dev/null || true
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went with one device. before, after: the release that it ran; sent: bytes copied."""

    state: State
    before: str | None = None
    after: str | None = None
    means: int = 0
    sent: int = 0
    took_s: float = 0.0
    reason: str = ""


class Flasher:
    """Brings to each device what is assigned to it, and lets it take that.

    wait_s: how long a device may take for its trial. dry: only tell what would be done.
    """

    def __init__(
        self,
        devices: Mapping[str, Device],
        repository: Repository,
        keyring: Keyring,
        shown: Shown,
        *,
        pace: Pace,
        wait_s: float = 1800.0,
        dry: bool = False,
    ) -> None:
        self._devices = devices
        self._repository = repository
        self._keyring = keyring
        self._shown = shown
        self._pace = pace
        self._wait_s = wait_s
        self._dry = dry
        self._wanted = {name: repository.wanted(name) for name in devices}
        repository.check(
            {
                content.path: content
                for wanted in self._wanted.values()
                if wanted is not None
                for content in wanted.files
            }
        )

    async def run(self, terms: Terms) -> Rolled[Outcome]:
        """Flash all of them; see `roll_out`."""
        return await roll_out(
            list(self._devices), self._one, lambda outcome: outcome.state == "failed", terms
        )

    async def _one(self, name: str) -> Outcome:
        begin_s = time.monotonic()
        device = self._devices[name]
        try:
            wanted = self._wanted[name]
            if wanted is None:
                raise RepositoryError(
                    f"{name}: nothing is assigned to it; earmark-deploy repo assign"
                )
            self._shown.says(name, "connecting")
            async with self._keyring.connect(name, device) as session:
                target = Target(session, name, device, dry=self._dry)
                outcome = await self._flash(target, session, wanted)
        except (EarmarkError, OSError) as error:
            outcome = Outcome("failed", reason=in_one_line(error)[0])
        took_s = time.monotonic() - begin_s
        self._shown.ends(name, f"failed: {outcome.reason}" if outcome.reason else outcome.state)
        return Outcome(
            outcome.state,
            outcome.before,
            outcome.after,
            outcome.means,
            outcome.sent,
            took_s,
            outcome.reason,
        )

    async def _flash(self, target: Target, session: Session, wanted: Wanted) -> Outcome:
        before = await ask_status(target)
        up_to_date = before.runs(wanted.assignment, wanted.means_seq)
        missing = await self._missing(target, wanted, up_to_date=up_to_date)
        size = sum(content.size for content in missing)
        if up_to_date and not missing:
            return Outcome("unchanged", before.release, before.release, before.means)
        if self._dry:
            if up_to_date:
                return Outcome("unchanged", before.release, before.release, before.means)
            return Outcome("would be updated", before.release, None, wanted.means_seq or 0, size)
        self._shown.total(target.name, size)
        sent = await self._copy(target, session, missing)
        self._shown.says(target.name, "the device tries it")
        answer = await apply_repository(target, self._wait_s)
        after = await ask_status(target)
        if not after.runs(wanted.assignment, wanted.means_seq):
            return Outcome(
                "failed",
                before.release,
                after.release,
                after.means,
                sent,
                reason=_why(after, answer.error),
            )
        await self._prune(target, wanted)
        changed = (before.release, before.means) != (after.release, after.means)
        return Outcome(
            "updated" if changed else "unchanged",
            before.release,
            after.release,
            after.means,
            sent,
        )

    async def _missing(self, target: Target, wanted: Wanted, *, up_to_date: bool) -> list[Content]:
        """Return what the device has neither copied before nor in its store, in copying order.

        What runs what it shall needs no content, only to hear that it is still so.
        """
        hashes = [content.sha256 for content in wanted.files]
        places = target.places
        answer = await target.ask(
            _LOOK, places.repository, places.store, *hashes, timeout_s=_LIST_S
        )
        if answer.code != 0:
            raise DeviceError(
                f"{target.where}: {places.repository}: {answer.error}; is it provisioned? "
                "earmark-deploy provision"
            )
        copied, blobs, free = set(), set(), 0
        for line in answer.out.decode(errors="replace").splitlines():
            first, _, rest = line.partition(" ")
            if first == "blob":
                blobs.add(rest)
            elif first == "free":
                free = int(rest) if rest.isdigit() else 0
            else:
                copied.add((first, rest.strip().removeprefix("./")))
        missing = [
            content
            for content in (*wanted.files, *self._repository.metadata)
            if not (up_to_date and content.path.startswith(("targets/models/", "targets/means/")))
            and (content.sha256, content.path) not in copied
            and not (content.sha256 in blobs and content.path.startswith("targets/"))
        ]
        needed = 2 * sum(content.size for content in missing) + _SPARE_BYTES
        if missing and free < needed:
            raise DeviceError(
                f"{target.where}: {free / 1e6:.0f} MB free, {needed / 1e6:.0f} MB are needed; make "
                "room there"
            )
        return missing

    async def _copy(self, target: Target, session: Session, missing: Sequence[Content]) -> int:
        """Copy files in their order; return how many bytes went over the line."""
        repository = target.places.repository
        folders = {posixpath.dirname(f"{repository}/{content.path}") for content in missing}
        if folders:
            made = await session.run(["mkdir", "-p", "--", *sorted(folders)])
            if made.code != 0:
                raise DeviceError(f"{target.where}: {made.error}; provision it anew")
        uploader = Uploader(
            session, target.where, self._pace, lambda size: self._shown.sent(target.name, size)
        )
        return await uploader.send(
            [
                Upload(
                    self._repository.folder / content.path,
                    f"{repository}/{content.path}",
                    content.sha256,
                    content.size,
                )
                for content in missing
            ]
        )

    async def _prune(self, target: Target, wanted: Wanted) -> None:
        """Remove copies that are of no more use: what was taken lies in the device's store."""
        kept = [content.path for content in self._repository.metadata]
        kept += [content.path for content in wanted.files if "/assignments/" in content.path]
        await target.do(_PRUNE, target.places.repository, *kept, timeout_s=_LIST_S)


def _why(status: Status, error: str) -> str:
    if status.closed:
        return f"its updates are closed: {status.text or error}; earmark-edge update repair"
    said = ": ".join(part for part in (status.reason, status.text) if part)
    return f"{status.phase}: {said}" if said else error or f"it is still {status.phase}"


def table(rolled: Rolled[Outcome], names: Sequence[str]) -> Table:
    """Draw how it went, a line a device."""
    drawn = Table(title=summary(rolled, names), title_justify="left")
    for column in ("device", "outcome", "before", "now", "means"):
        drawn.add_column(column)
    for column in ("copied", "took"):
        drawn.add_column(column, justify="right")
    drawn.add_column("why")
    for name in names:
        outcome = rolled.results.get(name)
        if outcome is None:
            drawn.add_row(name, "not begun", "", "", "", "", "", rolled.stopped)
            continue
        drawn.add_row(
            name,
            outcome.state,
            outcome.before or "–",
            outcome.after or "–",
            str(outcome.means or "–"),
            f"{outcome.sent / 1e6:.2f} MB" if outcome.sent else "–",
            f"{outcome.took_s:.0f} s",
            outcome.reason,
        )
    return drawn


def summary(rolled: Rolled[Outcome], names: Sequence[str]) -> str:
    """Return how many came out how, in one line."""
    counts: dict[str, int] = {}
    for name in names:
        outcome = rolled.results.get(name)
        state = "not begun" if outcome is None else outcome.state
        counts[state] = counts.get(state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in counts.items())
