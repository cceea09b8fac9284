"""The shadow check: what class means would change of the names that a device gave lately.

Pure. New class means that are whole and well signed can still be wrong: of another herd, of crops
under the wrong names, with thresholds that nobody passes. The last embeddings tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shadow:
    """What happens to recent crops that have a name whose animal stays in the herd.

    crops: how many there are. lost: of these, nobody's by the new class means. flipped: some other
    animal's, which was in the herd before.
    """

    crops: int
    lost: int
    flipped: int

    @property
    def lost_share(self) -> float:
        """Share of crops that lose their name, 0..1."""
        return self.lost / self.crops if self.crops else 0.0

    @property
    def flipped_share(self) -> float:
        """Share of crops that get another's name, 0..1."""
        return self.flipped / self.crops if self.crops else 0.0


@dataclass(frozen=True, slots=True)
class ShadowBounds:
    """What class means may change. least_crops: of fewer nothing is concluded.

    Shares of the crops that `Shadow` counts, 0..1.
    """

    least_crops: int = 20
    most_lost: float = 0.3
    most_flipped: float = 0.1


def shadow(
    before: Sequence[str], after: Sequence[str], herd: Sequence[str], new_herd: Sequence[str]
) -> Shadow:
    """Count what changes between the names (N,) by class means that run and by new ones.

    Names are empty for nobody. Not counted, as somebody meant it: crops of an animal that left the
    herd, and crops that turn out to be a newcomer's.
    """
    stay, known = set(new_herd), set(herd)
    crops = lost = flipped = 0
    for old, new in zip(before, after, strict=True):
        if not old or old not in stay:
            continue
        crops += 1
        lost += not new
        flipped += bool(new) and new != old and new in known
    return Shadow(crops, lost, flipped)


def objection(found: Shadow, bounds: ShadowBounds) -> str | None:
    """Return what speaks against the new class means in one line, None when nothing does."""
    if found.crops < bounds.least_crops:
        return None
    if found.flipped_share > bounds.most_flipped:
        return (
            f"{found.flipped} of {found.crops} recent crops would get another animal's name, at "
            f"most {bounds.most_flipped:.0%} may"
        )
    if found.lost_share > bounds.most_lost:
        return (
            f"{found.lost} of {found.crops} recent crops would lose their name, at most "
            f"{bounds.most_lost:.0%} may"
        )
    return None
