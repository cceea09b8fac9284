"""Where each animal was last seen, from sightings in their order: the retained `up/animal/<id>`."""

from __future__ import annotations

from edge.messaging.events import SCHEMA, LastSeen, Sighting


class AnimalBoard:
    """Turns sightings into what is retained for each animal they concern.

    An animal that two cameras see stays present until the last of its sightings ended, and one
    whose track turned out to be somebody else is present no longer. Neither is one whose end may be
    among events that nobody will ever see, until it is heard of again.

    boot: of this run. Nobody follows the tracks of an earlier one any more, so they hold nobody.
    """

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self._stream = ""
        self._seq = 0
        self._open: dict[tuple[str, int], Sighting] = {}

    def observe(self, event: Sighting) -> list[LastSeen]:
        """Return what changes with the next event; nothing with one that was observed before."""
        if event.stream == self._stream and event.seq <= self._seq:
            return []
        changes = self.passed(event.stream, event.seq - 1)
        self._seq = event.seq
        key = (event.camera, event.track)
        before = self._open.pop(key, None)
        if event.type != "end" and event.boot == self._boot:
            self._open[key] = event
        if before is not None and before.animal not in (None, event.animal):
            changes.append(self._last_seen(str(before.animal), before))
        if event.animal is not None:
            changes.append(self._last_seen(event.animal, event))
        return changes

    def passed(self, stream: str, seq: int) -> list[LastSeen]:
        """Note that nothing up to `seq` will come any more; return who is not known to be there.

        Numbers that were not observed were dropped or set aside, and any of them may have been an
        end. So it is with the rest of a stream when another one begins.
        """
        if stream == self._stream and seq <= self._seq:
            return []
        self._stream, self._seq = stream, seq
        doubtful = sorted(self._open.values(), key=lambda event: event.seq)
        self._open.clear()
        newest = {event.animal: event for event in doubtful if event.animal is not None}
        return [self._last_seen(animal, event) for animal, event in newest.items()]

    def _last_seen(self, animal: str, event: Sighting) -> LastSeen:
        present = [other for other in self._open.values() if other.animal == animal]
        newest = max(present, key=lambda other: other.seq, default=event)
        return LastSeen(
            schema=SCHEMA,
            device=newest.device,
            animal=animal,
            camera=newest.camera,
            track=newest.track,
            present=bool(present),
            confidence=newest.confidence,
            box=newest.box,
            last_seen=newest.last_seen,
            clock=newest.clock,
            boot=newest.boot,
            monotonic=newest.monotonic,
            stream=newest.stream,
            seq=newest.seq,
        )
