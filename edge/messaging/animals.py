"""Where each animal was last seen, from sightings in their order: the retained `up/animal/<id>`."""

from __future__ import annotations

from edge.messaging.events import SCHEMA, LastSeen, Sighting


class AnimalBoard:
    """Turns sightings into what is retained for each animal they concern.

    An animal that two cameras see stays present until the last of its sightings ended, and one
    whose track turned out to be somebody else is present no longer.
    """

    def __init__(self) -> None:
        self._boot = ""
        self._open: dict[tuple[str, int], Sighting] = {}

    def observe(self, event: Sighting) -> list[LastSeen]:
        """Return what changes with the next event, at most two animals."""
        if event.boot != self._boot:
            # Nobody follows the tracks of an earlier run any more.
            self._boot = event.boot
            self._open.clear()
        key = (event.camera, event.track)
        before = self._open.pop(key, None)
        if event.type != "end":
            self._open[key] = event
        changes = []
        if before is not None and before.animal not in (None, event.animal):
            changes.append(self._last_seen(str(before.animal), before))
        if event.animal is not None:
            changes.append(self._last_seen(event.animal, event))
        return changes

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
