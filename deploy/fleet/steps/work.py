"""What the steps of one device share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from deploy.fleet.pace import Pace
from deploy.fleet.plan import Plan
from deploy.fleet.requirements import Machine
from deploy.fleet.wheelhouse import Wheelhouse

Gather = Callable[[Machine, Sequence[str]], Awaitable[Wheelhouse]]


@dataclass(slots=True)
class Work:
    """plan: what the device shall be. gather: makes a wheelhouse, once for all devices alike.

    told: called with bytes that have arrived, total: with how many there will be.
    restart: whether something changed that the services must be restarted for.
    """

    plan: Plan
    gather: Gather
    pace: Pace
    told: Callable[[int], None]
    total: Callable[[int], None]
    notes: list[str] = field(default_factory=list)
    restart: bool = False
