"""`earmark-deploy provision`: from a host with SSH and Python to a device, and back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from deploy.fleet.inventory import Device
from deploy.fleet.pace import Pace
from deploy.fleet.plan import Plan
from deploy.fleet.progress import Shown
from deploy.fleet.requirements import Machine
from deploy.fleet.rollout import Rolled, Terms, roll_out
from deploy.fleet.ssh import Keyring
from deploy.fleet.steps import STEPS, Step, Work
from deploy.fleet.target import Target
from deploy.fleet.wheelhouse import Sources, Wheelhouse, gather
from edge.console import in_one_line
from edge.errors import EarmarkError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Options:
    """uninstall: take everything away, purge: what was gathered too. dry: only tell."""

    uninstall: bool = False
    purge: bool = False
    dry: bool = False


@dataclass(slots=True)
class Outcome:
    """How it went with one device: what each step changed, or would; why it failed."""

    steps: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failure: str | None = None

    @property
    def changed(self) -> bool:
        """Whether anything was, or would be, different from before."""
        return any(self.steps.values())

    def in_words(self, *, dry: bool) -> str:
        """Return one line."""
        if self.failure is not None:
            return f"failed: {self.failure}"
        if not self.changed:
            return "unchanged"
        count = sum(len(changes) for changes in self.steps.values())
        return f"{count} changes to be made" if dry else f"{count} changes made"


class Provisioner:
    """Works on devices. plans: by name; none is needed to uninstall."""

    def __init__(
        self,
        devices: Mapping[str, Device],
        plans: Mapping[str, Plan],
        keyring: Keyring,
        options: Options,
        shown: Shown,
        *,
        sources: Sources | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._devices = devices
        self._plans = plans
        self._keyring = keyring
        self._options = options
        self._shown = shown
        self._sources = sources
        self._pace = pace or Pace(None)
        self._houses: dict[tuple[Machine, tuple[str, ...]], asyncio.Task[Wheelhouse]] = {}

    async def run(self, terms: Terms) -> Rolled[Outcome]:
        """Work on all of them; a device that fails keeps none of the others from finishing."""
        return await roll_out(
            list(self._devices), self._one, lambda outcome: outcome.failure is not None, terms
        )

    async def _one(self, name: str) -> Outcome:
        outcome = Outcome()
        device = self._devices[name]
        try:
            self._shown.says(name, "connecting")
            async with self._keyring.connect(name, device) as session:
                target = Target(session, name, device, dry=self._options.dry)
                if self._options.uninstall:
                    await self._remove(target, outcome)
                else:
                    await self._apply(target, outcome)
        except (EarmarkError, OSError) as error:
            outcome.failure = in_one_line(error)[0]
        self._shown.ends(name, outcome.in_words(dry=self._options.dry))
        return outcome

    async def _apply(self, target: Target, outcome: Outcome) -> None:
        work = Work(
            plan=self._plans[target.name],
            gather=self._gather,
            pace=self._pace,
            told=lambda size: self._shown.sent(target.name, size),
            total=lambda size: self._shown.total(target.name, size),
        )
        for step in STEPS:
            with _recorded(step, target, outcome):
                self._shown.says(target.name, step.name)
                await step.apply(target, work)
        outcome.notes += work.notes

    async def _remove(self, target: Target, outcome: Outcome) -> None:
        for step in reversed(STEPS):
            with _recorded(step, target, outcome):
                self._shown.says(target.name, step.name)
                await step.remove(target, self._options.purge)

    async def _gather(self, machine: Machine, extras: Sequence[str]) -> Wheelhouse:
        """Gather packages once for all devices of a kind, beside the event loop."""
        assert self._sources is not None
        key = (machine, tuple(sorted(extras)))
        if key not in self._houses:
            self._houses[key] = asyncio.create_task(
                asyncio.to_thread(gather, self._sources, machine, key[1])
            )
        return await asyncio.shield(self._houses[key])


@contextmanager
def _recorded(step: Step, target: Target, outcome: Outcome) -> Iterator[None]:
    """Note what a step has changed, also when it fails half-way."""
    target.changes = outcome.steps.setdefault(step.name, [])
    try:
        yield
    finally:
        target.changes = []


def report(rolled: Rolled[Outcome], names: Sequence[str], *, dry: bool) -> list[str]:
    """Return what was done, a line a step, for people."""
    lines = []
    for name in names:
        outcome = rolled.results.get(name)
        if outcome is None:
            lines.append(f"{name}: not begun: {rolled.stopped}")
            continue
        lines.append(f"{name}: {outcome.in_words(dry=dry)}")
        for step, changes in outcome.steps.items():
            lines += [f"  {step}: {change}" for change in changes] or [f"  {step}: unchanged"]
        lines += [f"  note: {note}" for note in outcome.notes]
    return lines
