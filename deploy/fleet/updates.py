"""The updater of a device, asked over its command line."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from deploy.fleet.ssh import Answer, DeviceError
from deploy.fleet.target import Target

_STATUS_S = 120.0
# What it ends with when no updater has ever run there.
_NOTHING_YET = 1
# Whether an agent runs by a store: it holds this lock.
_AGENT_RUNS = """
[ -e "$1/run/agent.lock" ] && ! flock --nonblock "$1/run/agent.lock" true
"""


class Status(msgspec.Struct):
    """What `earmark-edge update status --json` says, as far as it matters here."""

    phase: str = "idle"
    release: str | None = None
    assignment: int = 0
    means: int = 0
    candidate: str | None = None
    reason: str | None = None
    text: str = ""
    closed: bool = False

    def runs(self, assignment: int, means: int | None) -> bool:
        """Whether the device runs what it shall, and nothing is under way. means: None for any."""
        return (
            self.release is not None
            and not self.closed
            and self.phase == "idle"
            and self.assignment == assignment
            and means in (None, self.means)
        )


async def ask_status(target: Target) -> Status:
    """Return what a device runs, nothing on a new one; DeviceError when it is not provisioned."""
    if not await target.exists(target.places.settings):
        raise DeviceError(
            f"{target.where}: {target.places.settings}: not there; is it provisioned? "
            "earmark-deploy provision"
        )
    answer = await target.as_account(_command(target, "status", "--json"), timeout_s=_STATUS_S)
    if answer.code == _NOTHING_YET:
        return Status()
    if answer.code != 0:
        raise DeviceError(
            f"{target.where}: its updater does not answer ({answer.error or answer.code}); is it "
            "provisioned? earmark-deploy provision"
        )
    try:
        return msgspec.json.decode(answer.out, type=Status)
    except msgspec.DecodeError as error:
        raise DeviceError(
            f"{target.where}: its updater answers in words that are not known here; provision it "
            "anew"
        ) from error


async def apply_repository(target: Target, timeout_s: float) -> Answer:
    """Let a device's updater take the repository that was copied to it, and wait for its end."""
    places = target.places
    url = f"file://{places.repository}"
    # A device that is only for trying out has no agent, unless somebody has started one.
    alone = not places.real and (await target.ask(_AGENT_RUNS, places.store)).code != 0
    how = ("--once", "--from", url, *(["--without-agent"] if alone else []))
    return await target.as_account(_command(target, *how), timeout_s=timeout_s, held=True)


def _command(target: Target, *arguments: str) -> Sequence[str]:
    places = target.places
    return [places.edge, "update", *arguments, "--config", places.settings]
