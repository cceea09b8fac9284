"""A detector's weights as a file that another training can start from."""

from __future__ import annotations

import io
from pathlib import Path

import keras
import numpy as np

from edge.errors import UsageError
from edge.files import write_atomically

WEIGHTS_NAME = "detector_weights.npz"


def save_weights(model: keras.Model, path: Path) -> None:
    """Write all weights by rename, as arrays named `<layer>/<number>` in an .npz file."""
    arrays = {
        f"{layer.name}/{number}": weight
        for layer in model.layers
        for number, weight in enumerate(layer.get_weights())
    }
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_atomically(path, buffer.getvalue())


def start_from(model: keras.Model, path: Path) -> tuple[str, ...]:
    """Take from a file of `save_weights` what fits; return the layers that begin anew.

    Layers are found by name; one whose shapes differ (other classes, other anchors) stays as it is.
    Raises UsageError for a file that cannot be read or of which nothing fits.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such weights file (detector.start)") from error
    except Exception as error:  # zipfile, zlib and numpy's header parser have many ways to fail
        raise UsageError(
            f"{path}: not a detector's weights; give the {WEIGHTS_NAME} of a run"
        ) from error
    anew, taken = [], 0
    for layer in model.layers:
        own = layer.get_weights()
        if not own:
            continue
        new = [found.get(f"{layer.name}/{number}") for number in range(len(own))]
        if all(n is not None and n.shape == o.shape for n, o in zip(new, own, strict=True)):
            layer.set_weights(new)
            taken += 1
        else:
            anew.append(layer.name)
    if not taken:
        raise UsageError(f"{path}: fits no layer of this detector; was it another backbone?")
    return tuple(anew)
