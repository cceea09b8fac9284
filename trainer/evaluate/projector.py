"""Files for TensorBoard's projector: `tensorboard --logdir <folder>` shows them, with pictures."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.vision.types import Floats, Image
from trainer.evaluate.answers import AnsweredCrops

PROTOTYPE = "prototype"
_COLUMNS = ("animal", "session", "split", "answer", "right")
_TILE = 48
_RIGHT = {"right": "yes", "wrong": "no", "refused": "refused"}


def write_projector(
    folder: Path,
    crops: AnsweredCrops,
    tiles: NDArray[np.uint8],
    prototypes: Floats,
    owners: list[str],
) -> None:
    """Write tensors.tsv, metadata.tsv, sprite.png and projector_config.pbtxt into a new folder.

    tiles: uint8 (N, S, S, 3), a picture of each of the N crops. prototypes: (P, D), which follow
    the crops as points of the split `prototype`, with a white picture; owners: whose they are.
    """
    folder.mkdir(parents=True)
    vectors = np.concatenate([crops.embeddings, prototypes])
    rows = "".join("\t".join(f"{value:.6g}" for value in row) + "\n" for row in vectors)
    (folder / "tensors.tsv").write_text(rows, encoding="utf-8")
    lines = [_COLUMNS]
    lines += [
        (animal, session, split, answer, _RIGHT[verdict])
        for animal, session, split, answer, verdict in zip(
            crops.animals,
            crops.sessions,
            crops.splits,
            crops.answers,
            crops.verdicts,
            strict=True,
        )
    ]
    lines += [(owner, "", PROTOTYPE, "", "") for owner in owners]
    table = "".join("\t".join(_cell(value) for value in line) + "\n" for line in lines)
    # Names of files may hold bytes that are no text.
    (folder / "metadata.tsv").write_text(table, encoding="utf-8", errors="replace")
    blank = np.full((len(prototypes), _TILE, _TILE, 3), 255, np.uint8)
    sheet = sprite([*shrunk_tiles(tiles, _TILE), *blank])
    cv2.imwrite(str(folder / "sprite.png"), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    (folder / "projector_config.pbtxt").write_text(
        "embeddings {\n"
        '  tensor_name: "crops and class means"\n'
        '  tensor_path: "tensors.tsv"\n'
        '  metadata_path: "metadata.tsv"\n'
        "  sprite {\n"
        '    image_path: "sprite.png"\n'
        f"    single_image_dim: {_TILE}\n"
        f"    single_image_dim: {_TILE}\n"
        "  }\n"
        "}\n",
        encoding="utf-8",
    )


def sprite(tiles: list[Image]) -> Image:
    """Return one square picture of tiles (S, S, 3) uint8, row after row, white where none is."""
    side = tiles[0].shape[0]
    columns = int(np.ceil(np.sqrt(len(tiles))))
    sheet = np.full((columns * side, columns * side, 3), 255, np.uint8)
    for number, tile in enumerate(tiles):
        y, x = number // columns * side, number % columns * side
        sheet[y : y + side, x : x + side] = tile
    return sheet


def shrunk_tiles(tiles: NDArray[np.uint8], side: int) -> list[Image]:
    """Return tiles (N, S, S, 3) as N pictures (side, side, 3)."""
    return [
        np.asarray(cv2.resize(tile, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        for tile in tiles
    ]


def _cell(value: str) -> str:
    """Return a value in which nothing ends a column or a line."""
    return " ".join(value.split())
