"""The updater of a device, asked over its command line."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from deploy.fleet.ssh import Answer, DeviceError
from deploy.fleet.target import Target

_STATUS_S = 60.0


class Status(msgspec.Struct):
    """What `earmark-edge update status --json` says, as far as it matters here."""

    phase: str
    release: str | None
    assignment: int
    means: int
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
    """Return what a device runs; DeviceError when it is not provisioned."""
    answer = await target.as_account(_command(target, "status", "--json"), timeout_s=_STATUS_S)
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
    url = f"file://{target.places.repository}"
    return await target.as_account(
        _command(target, "--once", "--from", url), timeout_s=timeout_s, held=True
    )


def _command(target: Target, *arguments: str) -> Sequence[str]:
    places = target.places
    return [places.edge, "update", *arguments, "--config", places.settings]
