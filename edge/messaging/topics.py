"""Topic names, and the ids that may stand in them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from edge.errors import UsageError

ROOT = "earmark/v1"
# What devices say. What is said to them is theirs to read.
EVERYTHING_SAID = f"{ROOT}/+/up/#"
# `$` alone also matches before a final newline in Python; this form means the same to JSON Schema.
ID_PATTERN = r"^[a-z0-9][a-z0-9-]{1,47}$(?!\n)"
# What a track's votes and reasons are called when nobody is named.
RESERVED_ANIMALS = frozenset({"unknown", "unsure", "crowded"})
# Leaves below `up/` with one payload each; `animal` has an id behind it.
KINDS = ("availability", "sighting", "animal", "state", "alarm", "update", "reply")

_ID = re.compile(ID_PATTERN)


def check_id(what: str, value: str) -> str:
    """Return `value` if it may stand in a topic, else UsageError; `what` names it (`device`)."""
    if not _ID.search(value):
        raise UsageError(
            f"{what} id {value!r}: use 2 to 48 of a-z, 0-9 and '-', not beginning with '-'"
        )
    return value


def check_animals(animals: Iterable[str]) -> None:
    """Check the ids of a herd (UsageError names the first that cannot be published)."""
    for animal in animals:
        if check_id("animal", animal) in RESERVED_ANIMALS:
            raise UsageError(f"animal id {animal!r} has a meaning of its own; rename the animal")


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device, below `earmark/v1/<device>/`."""

    device: str

    def __post_init__(self) -> None:
        check_id("device", self.device)

    @property
    def availability(self) -> str:
        """Retained, and the Will: `online`, `offline`, `stopped`."""
        return self._up("availability")

    @property
    def sighting(self) -> str:
        """One event each, never retained."""
        return self._up("sighting")

    @property
    def state(self) -> str:
        """Retained: how the device is."""
        return self._up("state")

    @property
    def alarm(self) -> str:
        """What somebody should look at, never retained."""
        return self._up("alarm")

    @property
    def update(self) -> str:
        """Retained: how far an update of what the device runs is."""
        return self._up("update")

    @property
    def doctor(self) -> str:
        """Where `earmark-edge doctor` tries whether this device may publish; nobody reads it."""
        return self._up("doctor")

    @property
    def reply(self) -> str:
        """An answer to a command, never retained."""
        return self._up("reply")

    @property
    def command(self) -> str:
        """Where the device is told to do something; a retained message there is ignored."""
        return self._down("command")

    @property
    def hint(self) -> str:
        """Retained: the repository of releases has changed. Trusted for nothing."""
        return self._down("hint")

    @property
    def repo(self) -> str:
        """Retained, below it: files of the repository of releases by their paths, as untrusted."""
        return self._down("repo")

    @property
    def ingest(self) -> str:
        """Retained: up to which event an ingest service has stored everything for good."""
        return self._down("ingest")

    @property
    def everything_said(self) -> str:
        """The filter that matches all that this device says."""
        return self._up("#")

    def animal(self, animal: str) -> str:
        """Retained: where `animal` was last seen. UsageError when its id is not allowed."""
        return self._up(f"animal/{check_id('animal', animal)}")

    def _up(self, leaf: str) -> str:
        return f"{ROOT}/{self.device}/up/{leaf}"

    def _down(self, leaf: str) -> str:
        return f"{ROOT}/{self.device}/down/{leaf}"


@dataclass(frozen=True, slots=True)
class Address:
    """What a topic says: device, kind (one of KINDS), and the animal for kind `animal`."""

    device: str
    kind: str
    animal: str | None = None


def is_doctors(topic: str) -> bool:
    """Return whether a topic is where some device's doctor tries to publish."""
    device = topic.removeprefix(f"{ROOT}/").partition("/")[0]
    return bool(_ID.search(device)) and topic == Topics(device).doctor


def parse_topic(topic: str) -> Address | None:
    """Read a topic as a subscriber meets it; None when it is not one that a device publishes."""
    head, _, rest = topic.partition(f"{ROOT}/")
    parts = rest.split("/")
    if head or len(parts) < 3 or not _ID.search(parts[0]) or parts[1] != "up":
        return None
    kind = parts[2]
    if kind == "animal" and len(parts) == 4 and _ID.search(parts[3]):
        return Address(parts[0], kind, parts[3])
    if kind != "animal" and kind in KINDS and len(parts) == 3:
        return Address(parts[0], kind)
    return None
