from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

from edge.errors import UsageError
from trainer.detection.weights import save_weights, start_from


def network(outputs: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((3,)),
            keras.layers.Dense(4, name="body"),
            keras.layers.BatchNormalization(name="body_bn"),
            keras.layers.Dense(outputs, name="head"),
        ]
    )


def test_all_layers_come_back(tmp_path: Path) -> None:
    one, other = network(2, 0), network(2, 1)
    save_weights(one, tmp_path / "w.npz")
    assert start_from(other, tmp_path / "w.npz") == ()
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_head_of_another_shape_begins_anew(tmp_path: Path) -> None:
    one, other = network(2, 0), network(5, 1)
    before = other.get_layer("head").get_weights()
    save_weights(one, tmp_path / "w.npz")
    assert start_from(other, tmp_path / "w.npz") == ("head",)
    np.testing.assert_array_equal(
        other.get_layer("body").get_weights()[0], one.get_layer("body").get_weights()[0]
    )
    np.testing.assert_array_equal(other.get_layer("head").get_weights()[0], before[0])


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(40)])
def test_what_is_no_weights_file_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.npz"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not a detector's weights") as caught:
        start_from(network(2, 0), path)
    assert "\n" not in str(caught.value)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(UsageError, match="fits no layer"):
        start_from(network(2, 0), path)
