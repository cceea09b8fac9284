"""Who is told how far its stream is settled, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from edge.messaging.events import Ingested

# Another ingest on the same database may have moved a watermark while ours was on its way, and
# then the older one stays retained at the broker: looked at again for so long after each event.
_LOOK_AGAIN_S = 5.0
# The retained words of a new connection follow each other closely; when none has come for so long,
# all have.
_WORDS_S = 0.5


class Acknowledger:
    """Decides which watermarks to publish, each device's at most every `every_s`.

    read: the watermarks of some devices, or of all (None), as they are in the database now.
    """

    def __init__(
        self, read: Callable[[Iterable[str] | None], list[Ingested]], every_s: float
    ) -> None:
        self._read = read
        self._every_s = every_s
        self._next_s = 0.0
        self._held_until_s = 0.0
        self._everybody = True
        self._until_s: dict[str, float] = {}
        self._asked: set[str] = set()
        self._told: dict[str, tuple[str, int]] = {}

    def connected(self, now_s: float) -> None:
        """Begin a connection: the broker may have lost what it retained, so tell everybody.

        Not before the words that it does retain have been read: a database that is new, or was
        restored, knows less than they say.
        """
        self._everybody = True
        self._told.clear()
        self._next_s = 0.0
        self._held_until_s = now_s + _WORDS_S

    def heard(self, now_s: float) -> None:
        """A retained word came; it must be in the database before `due` is asked again."""
        self._held_until_s = max(self._held_until_s, now_s + _WORDS_S)

    def note(self, devices: Iterable[str], now_s: float, *, again: bool = False) -> None:
        """Something of these devices was committed; `again`: they sent what was stored already."""
        until_s = now_s + max(_LOOK_AGAIN_S, 2 * self._every_s)
        for device in devices:
            self._until_s[device] = until_s
            if again:
                self._asked.add(device)

    def due(self, now_s: float, *, at_once: bool = False) -> list[Ingested]:
        """Return what is to be published now.

        DatabaseUnavailableError leaves everything as it was.
        """
        if now_s < self._held_until_s or (now_s < self._next_s and not at_once):
            return []
        if not (self._everybody or self._until_s):
            return []
        found = self._read(None if self._everybody else self._until_s)
        due = [
            each
            for each in found
            # Nothing is settled: no device needs to know, and it must not take the place of a word
            # that the broker withholds from us.
            if each.seq > 0
            and (
                self._told.get(each.device) != (each.stream, each.seq) or each.device in self._asked
            )
        ]
        self._told.update({each.device: (each.stream, each.seq) for each in due})
        self._everybody = False
        self._asked.clear()
        self._until_s = {name: at for name, at in self._until_s.items() if at > now_s}
        self._next_s = now_s + self._every_s
        return due
