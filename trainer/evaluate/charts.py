"""Pictures for reports, as encoded image bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import cv2
import matplotlib
import numpy as np

from edge.vision.types import Floats, Image

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_DPI = 110
_LABELS_UP_TO = 40


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
    return _png(figure)


def confusion_matrix(confusion: dict[str, dict[str, int]], animals: Sequence[str]) -> bytes:
    """Return a PNG: one row a true animal, one column an answer, shades by share of the row."""
    columns = [*animals, "unknown"]
    rows = [animal for animal in animals if animal in confusion]
    table = np.array(
        [[confusion[row].get(column, 0) for column in columns] for row in rows], np.float64
    )
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = float(np.clip(0.24 * len(columns) + 1.5, 4, 11))
    figure, axis = plt.subplots(figsize=(side, side * max(len(rows), 4) / max(len(columns), 4)))
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if len(columns) <= _LABELS_UP_TO:
        axis.set_xticks(range(len(columns)), columns, rotation=90, fontsize=6)
        axis.set_yticks(range(len(rows)), rows, fontsize=6)
    axis.set_xlabel("answer")
    axis.set_ylabel("truth")
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
    return _png(figure)


def embedding_map(
    embeddings: Floats, names: Sequence[str], prototypes: Floats, owners: Sequence[str]
) -> bytes:
    """Return a PNG of embeddings (N, D) and prototypes (P, D) on their two principal axes."""
    centre = embeddings.mean(axis=0)
    _, sizes, axes = np.linalg.svd(embeddings - centre, full_matrices=False)
    points, means = ((values - centre) @ axes[:2].T for values in (embeddings, prototypes))
    spread = sizes**2 / np.sum(sizes**2)
    figure, axis = plt.subplots(figsize=(6.4, 5.2))
    animals = sorted(set(names))
    colours = plt.get_cmap("hsv")(np.linspace(0, 0.95, len(animals)))
    for animal, colour in zip(animals, colours, strict=True):
        rows = np.array([name == animal for name in names])
        axis.scatter(*points[rows].T, s=7, color=colour, alpha=0.55, linewidths=0)
    for owner, point in zip(owners, means, strict=True):
        axis.plot(*point, "k+", markersize=7)
        axis.annotate(owner, tuple(point), fontsize=6, xytext=(3, 3), textcoords="offset points")
    axis.set_xlabel(f"first principal axis ({100 * spread[0]:.0f} % of the variance)", fontsize=8)
    axis.set_ylabel(f"second ({100 * spread[1]:.0f} %)", fontsize=8)
    axis.tick_params(labelsize=7)
    return _png(figure)


def contact_sheet(
    tiles: Sequence[Image], captions: Sequence[str], tile: int = 96, columns: int = 10
) -> bytes:
    """Return a JPEG of square tiles (S, S, 3) RGB with a caption under each."""
    if not tiles:
        raise ValueError("a contact sheet needs at least one tile")
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    strip = 15
    sheet = np.full((rows * (tile + strip), columns * tile, 3), 255, np.uint8)
    for number, (image, caption) in enumerate(zip(tiles, captions, strict=True)):
        y, x = number // columns * (tile + strip), number % columns * tile
        sheet[y : y + tile, x : x + tile] = cv2.resize(
            image, (tile, tile), interpolation=cv2.INTER_AREA
        )
        cv2.putText(
            sheet,
            caption,
            (x + 2, y + tile + 11),
            cv2.FONT_HERSHEY_SIMPLEX,
            0.35,
            (20, 20, 20),
            1,
            cv2.LINE_AA,
        )
    return jpeg(sheet)


def boxed(image: Image, boxes: Floats, truth: Floats, width: int = 720) -> bytes:
    """Return a JPEG of a frame (H, W, 3): true boxes (M, 4) thin white, found (N, 4) green."""
    canvas = image.copy()
    for box in truth.astype(int):
        cv2.rectangle(canvas, box[:2].tolist(), box[2:].tolist(), (255, 255, 255), 1)
    for box in boxes.astype(int):
        cv2.rectangle(canvas, box[:2].tolist(), box[2:].tolist(), (40, 220, 80), 2)
    return jpeg(shrunk(canvas, width))


def shrunk(image: Image, width: int) -> Image:
    """Return an image (H, W, 3) at most `width` pixels wide."""
    scale = min(1.0, width / image.shape[1])
    size = (round(image.shape[1] * scale), round(image.shape[0] * scale))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def jpeg(image: Image, quality: int = 82) -> bytes:
    """Return an image (H, W, 3) RGB as JPEG bytes."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"an image of shape {image.shape} cannot be encoded")
    return bytes(data)


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="png", dpi=_DPI)
    plt.close(figure)
    return buffer.getvalue()
