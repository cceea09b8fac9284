"""What provisioning does, in its order. A step compares first, and changes what differs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from deploy.fleet.steps import account, environment, files, services
from deploy.fleet.steps.work import Work
from deploy.fleet.target import Target

__all__ = ["STEPS", "Step", "Work"]


@dataclass(frozen=True, slots=True)
class Step:
    """apply: make it so. remove: take it away again; `purge` takes what was gathered there too."""

    name: str
    apply: Callable[[Target, Work], Awaitable[None]]
    remove: Callable[[Target, bool], Awaitable[None]]


STEPS: tuple[Step, ...] = (
    Step("account", account.apply, account.remove),
    Step("folders", files.apply_folders, files.remove_folders),
    Step("environment", environment.apply, environment.remove),
    Step("trust", files.apply_trust, files.leave),
    Step("settings", files.apply_settings, files.leave),
    Step("services", services.apply, services.remove),
)
