"""Which event a broker hangs up on: it would be sent for ever, and nothing behind it would go."""

from __future__ import annotations

from collections.abc import Mapping

from edge.messaging.rows import Row

# MQTT 5 reason codes that no later attempt will change: topic name invalid, packet too large,
# payload format invalid.
NEVER = frozenset({0x90, 0x95, 0x99})
# MQTT 3.1.1 hangs up without a word. A bad line does so too, so that only an event that is larger
# than any line's packets can be meant, after so many connections in a row, some with it alone.
_LARGE_BYTES = 4096
_CAREFUL_AFTER = 4
_CULPRIT_AFTER = 8


class Suspects:
    """Narrows it down to one event, by sending one at a time; never blames one that may be good."""

    def __init__(self) -> None:
        self._careful_until = 0
        self._first: int | None = None
        self._times = 0

    def careful(self, cursor: int) -> bool:
        """Whether only one event may be on its way, having come to `cursor`."""
        return cursor < self._careful_until

    def lost(self, unanswered: Mapping[int, Row], code: int | None) -> Row | None:
        """Note that the connection is lost, with the broker's reason; return the culprit if known.

        unanswered: what was on its way, by number.
        """
        if not unanswered:
            return None
        first = min(unanswered)
        self._times = self._times + 1 if first == self._first else 1
        self._first = first
        told = code in NEVER
        alone = len(unanswered) == 1
        large = len(unanswered[first].payload) >= _LARGE_BYTES
        if alone and (told or (large and self._times >= _CULPRIT_AFTER)):
            return unanswered[first]
        if told or self._times >= _CAREFUL_AFTER:
            self._careful_until = max(self._careful_until, *unanswered)
        return None
