"""One colour and one shape for each animal, the same on every map.

Six colours of Okabe & Ito's palette, which the colour-blind tell apart, times seven shapes: 42
animals before a pair comes again.
"""

from __future__ import annotations

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SHAPES = ("circle", "square", "triangle", "diamond", "inverted", "plus", "star")


def mark(index: int) -> tuple[str, str]:
    """Return the colour `#rrggbb` and the shape of the animal with this index."""
    return COLOURS[index % len(COLOURS)], SHAPES[index // len(COLOURS) % len(SHAPES)]
