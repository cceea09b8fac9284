"""The few errors that reach a person. Each message says what was wrong, where, and what to do."""

from __future__ import annotations


class EarmarkError(Exception):
    """A failure that is reported to the user as one line; the process ends with `exit_code`."""

    exit_code = 1


class UsageError(EarmarkError):
    """The user asked for something that cannot be: a missing file, a bad option or config."""

    exit_code = 2


class DataError(UsageError):
    """Training data that cannot be used as given."""


class BundleError(EarmarkError):
    """A bundle that is incomplete, altered, or made for another version."""


class SelfTestError(BundleError):
    """A bundle whose golden answers this machine does not give: its runtime answers wrongly."""


class SourceError(EarmarkError):
    """A camera, video or folder that cannot be read."""


class BrokerError(EarmarkError):
    """An MQTT broker that cannot be reached or refuses us."""


class AcceleratorError(EarmarkError):
    """An accelerator that is not there, refuses us, or fails: the CPU may do instead."""


class TrustError(EarmarkError):
    """A repository of releases that is refused; `reason` is one word for machines.

    `root` (this device has no usable trust/root.json), `signature`, `expired`, `older` (than what
    ran here), `altered` (parts that do not belong together), `format`, or `disk`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
