"""Charts for reports, as PNG bytes; what needs no matplotlib is in `trainer.pictures`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from trainer.evaluate.marks import mark
from trainer.evaluate.projection import Projection

matplotlib.use("Agg")
import matplotlib.pyplot as plt

# Names of animals are folders' names: a dollar sign in one is no formula.
plt.rcParams["text.parse_math"] = False

_DPI = 110
_LABELS_UP_TO = 60
_MARKERS = {
    "circle": "o",
    "square": "s",
    "triangle": "^",
    "diamond": "D",
    "inverted": "v",
    "plus": "P",
    "star": "*",
}
_LABEL_SPOTS = (
    ((5, 0), "left", "center"),
    ((-5, 0), "right", "center"),
    ((0, 5), "center", "bottom"),
    ((0, -5), "center", "top"),
    ((5, 8), "left", "bottom"),
    ((-5, 8), "right", "bottom"),
    ((5, -8), "left", "top"),
    ((-5, -8), "right", "top"),
)


def learning_curves(
    steps: Sequence[int], left: dict[str, Sequence[float]], right: dict[str, Sequence[float | None]]
) -> bytes:
    """Return a PNG of losses (left axis) and scores 0..1 (right axis) over training steps."""
    figure, axis = plt.subplots(figsize=(6.4, 3.2))
    for name, values in left.items():
        axis.plot(steps, values, label=name, color="tab:blue")
    axis.set_xlabel("step")
    axis.set_ylabel("loss", color="tab:blue")
    twin = axis.twinx()
    for (name, scores), colour in zip(
        right.items(), ("tab:green", "tab:orange", "tab:red", "tab:purple"), strict=False
    ):
        points = [
            (step, score)
            for step, score in zip(steps, scores, strict=True)
            if score is not None and np.isfinite(score)
        ]
        if points:
            twin.plot(*zip(*points, strict=True), label=name, color=colour, marker=".")
    twin.set_ylim(0, 1.02)
    lines = [*axis.get_lines(), *twin.get_lines()]
    axis.legend(lines, [str(line.get_label()) for line in lines], fontsize=8, loc="center right")
    axis.grid(alpha=0.3)
    return png(figure)


def confusion_matrix(
    confusion: dict[str, dict[str, int]],
    animals: Sequence[str],
    strangers: dict[str, dict[str, int]] | None = None,
) -> bytes:
    """Return a PNG: one row a true animal, one column an answer, shades by share of the row.

    strangers: the same counts of animals that are not among `animals`, in rows of their own below.
    """
    strangers = strangers or {}
    columns = [*animals, "unknown"]
    rows = [animal for animal in animals if animal in confusion]
    counts = [confusion[row] for row in rows] + list(strangers.values())
    table = np.array([[row.get(column, 0) for column in columns] for row in counts], np.float64)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.24 * len(columns) + 1.5, 4, 11))
    height = side * max(len(counts), 4) / max(len(columns), 4)
    figure, axis = plt.subplots(figsize=(side, min(max(height, 2.5), 14)))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if len(columns) <= _LABELS_UP_TO:
        axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=6)
        axis.set_yticks(range(len(counts)), [*rows, *strangers], fontsize=6)
    if strangers:
        axis.axhline(len(rows) - 0.5, color="#dd0000", linewidth=1.5)
    axis.set_xlabel("answer (in % of the row)", fontsize=8)
    axis.set_ylabel("truth, strangers below the line" if strangers else "truth", fontsize=8)
    for y, x in zip(*np.nonzero(shares), strict=True):
        axis.text(
            x,
            y,
            f"{100 * shares[y, x]:.0f}",
            ha="center",
            va="center",
            fontsize=5,
            color="white" if shares[y, x] > 0.5 else "black",
        )
    return png(figure)


def coverage_curve(curve: Sequence[dict[str, float | None]], known_refused: float) -> bytes:
    """Return a PNG: accuracy, and strangers let in, over the share of known queries answered.

    curve: as trainer.evaluate.measures gives it. known_refused: where the device stands now.
    """
    coverage = [row["coverage"] for row in curve]
    accuracy = np.array([row["accuracy"] for row in curve], np.float64)
    figure, axis = plt.subplots(figsize=(5.4, 3.4))
    axis.plot(coverage, accuracy, color="#0072B2", label="named right, of those answered")
    accepted = [row["unknown_accepted"] for row in curve]
    if None not in accepted:
        axis.plot(coverage, accepted, color="#D55E00", ls="--", label="strangers given a name")
    axis.axvline(1 - known_refused, color="0.5", lw=1, ls=":", label="at the device's thresholds")
    axis.set_xlabel("coverage: share of known crops that are answered", fontsize=8)
    axis.set_ylabel("share", fontsize=8)
    axis.set_xlim(0, 1.01)
    axis.set_ylim(0, 1.02)
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, loc="center left")
    return png(figure)


def embedding_map(
    projection: Projection,
    names: Sequence[str],
    owners: Sequence[str],
    *,
    strangers: Sequence[bool] | None = None,
    wrong: Sequence[bool] | None = None,
) -> bytes:
    """Return a PNG of crops and class means on one plane.

    names: whose each point (N,) is. owners: whose each prototype (P,) is. strangers: points (N,) to
    draw hollow and grey. wrong: points (N,) to ring in red.
    """
    points = projection.points
    hollow = np.zeros(len(points), bool) if strangers is None else np.array(strangers, bool)
    figure, axis = plt.subplots(figsize=(8, 7))
    animals = _distinct([*owners, *(n for n, h in zip(names, hollow, strict=True) if not h)])
    for index, animal in enumerate(animals):
        rows = np.array([name == animal for name in names], bool) & ~hollow
        colour, shape = mark(index)
        axis.scatter(
            *points[rows].T, s=14, color=colour, marker=_MARKERS[shape], alpha=0.6, linewidths=0
        )
    if hollow.any():
        axis.scatter(*points[hollow].T, s=14, facecolors="none", edgecolors="0.45", linewidths=0.7)
    if wrong is not None and any(wrong):
        axis.scatter(
            *points[np.array(wrong, bool)].T, s=48, facecolors="none", edgecolors="#dd0000", lw=0.9
        )
    _name_means(axis, projection.prototypes, owners)
    _name_axes(axis, projection)
    return png(figure)


def mean_space(projection: Projection, owners: Sequence[str]) -> bytes:
    """Return a PNG of class means alone; several of one animal are joined by a line.

    projection: with prototypes (P, 2). owners: whose each is.
    """
    figure, axis = plt.subplots(figsize=(6.4, 5.6))
    places = projection.prototypes
    for index, animal in enumerate(_distinct(owners)):
        own = places[[owner == animal for owner in owners]]
        colour, shape = mark(index)
        axis.plot(*own.T, color=colour, lw=0.8, alpha=0.6)
        size = 80 if shape == "star" else 36
        axis.scatter(*own.T, s=size, color=colour, marker=_MARKERS[shape], linewidths=0)
    _name_means(axis, places, owners, cross=False)
    _name_axes(axis, projection)
    return png(figure)


def _distinct(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _name_means(
    axis: Any, places: NDArray[np.float64], owners: Sequence[str], cross: bool = True
) -> None:
    """Write each prototype's name beside it, where it covers the fewest names written before."""
    if cross:
        axis.scatter(*places.T, s=46, color="white", marker="x", linewidths=2.6)
        axis.scatter(*places.T, s=30, color="black", marker="x", linewidths=1.2)
    # Room for the names at the edges.
    axis.margins(0.08)
    renderer = axis.figure.canvas.get_renderer()
    taken: list[Any] = []
    for owner, place in zip(owners, places, strict=True):
        best, least = None, np.inf
        for offset, horizontal, vertical in _LABEL_SPOTS:
            text = axis.annotate(
                owner,
                tuple(place),
                fontsize=6,
                xytext=offset,
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                bbox={"boxstyle": "square,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.6},
            )
            box = text.get_window_extent(renderer)
            inside = axis.bbox.x0 <= box.x0 and box.x1 <= axis.bbox.x1
            crowd = sum(box.overlaps(other) for other in taken) + (not inside)
            if crowd < least:
                if best is not None:
                    best[0].remove()
                best, least = (text, box), crowd
            else:
                text.remove()
            if not least:
                break
        if best is not None:
            taken.append(best[1])


def _name_axes(axis: Any, projection: Projection) -> None:
    axis.set_xlabel(projection.axes[0], fontsize=8)
    axis.set_ylabel(projection.axes[1], fontsize=8)
    axis.tick_params(labelsize=7)


def png(figure: Any) -> bytes:
    """Return a matplotlib figure as PNG bytes, and close it."""
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="png", dpi=_DPI)
    plt.close(figure)
    return buffer.getvalue()
