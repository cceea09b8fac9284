"""What the subscriber heard, held against the truth."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge.demo.truth import TruthIndex
from edge.identity.types import Track
from edge.messaging import Sighting


@dataclass(slots=True)
class Score:
    """Counts right and wrong names: of sightings as they are heard, of boxes frame by frame.

    A sighting is right when its animal is the one whose true box it shows, at the frame its
    `monotonic` names. One without a name, or with a box that shows nobody, is not right.
    """

    truth: TruthIndex
    sightings: int = 0
    with_name: int = 0
    right: int = 0
    found: set[str] = field(default_factory=set)
    boxes: int = 0
    boxes_right: int = 0
    mistakes: list[str] = field(default_factory=list)

    def hear(self, event: Sighting) -> bool:
        """Count one sighting; return whether it carries the true name."""
        frame = round(event.monotonic * self.truth.truth.fps)
        true = self.truth.animal_at(frame, event.box)
        right = event.animal is not None and event.animal == true
        self.sightings += 1
        self.with_name += event.animal is not None
        self.right += right
        if right and true is not None:
            self.found.add(true)
        else:
            self.mistakes.append(
                f"{event.type} of track {event.track} at {event.monotonic:.1f} s: "
                f"{event.animal or event.reason}, truth {true or 'nobody'}"
            )
        return right

    def look(self, frame: int, tracks: tuple[Track, ...]) -> int:
        """Count the boxes of one frame that were seen and have settled.

        Return how good the frame is to look at: right names less twice the wrong or missing ones.
        """
        size = (self.truth.truth.width, self.truth.truth.height) * 2
        worth = 0
        for track in tracks:
            if track.seen and track.settled:
                x1, y1, x2, y2 = (float(v) / side for v, side in zip(track.box, size, strict=True))
                true = self.truth.animal_at(frame, (x1, y1, x2, y2))
                right = track.animal is not None and track.animal == true
                self.boxes += 1
                self.boxes_right += right
                worth += 1 if right else -2
        return worth

    def summary(self) -> dict[str, int | float | None]:
        """Return the figures, fractions in 0..1; None where there was nothing to judge."""
        return {
            "animals_total": len(self.truth.truth.animals),
            "animals_named": len(self.found),
            "sightings": self.sightings,
            "name_accuracy": _share(self.right, self.sightings),
            "named_accuracy": _share(self.right, self.with_name),
            "frame_accuracy": _share(self.boxes_right, self.boxes),
        }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
