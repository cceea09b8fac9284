from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from trainer.checkpoint import Checkpoint, load_checkpoint, save_checkpoint


def test_a_checkpoint_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "state" / "x.checkpoint"
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7, np.int64), np.zeros(0)]
    record = {"step": 40, "history": [[40, 0.1 + 0.2, None]]}
    save_checkpoint(path, "key", Checkpoint(arrays, record))
    found = load_checkpoint(path, "key")
    assert found is not None
    assert found.record == record
    assert len(found.arrays) == 3
    for array, expected in zip(found.arrays, arrays, strict=True):
        assert array.dtype == expected.dtype
        assert (array == expected).all()


def test_another_key_is_another_training(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x", "old", Checkpoint([np.zeros(2)], {}))
    assert load_checkpoint(tmp_path / "x", "new") is None


@pytest.mark.parametrize("cut", [0, 10, 200, -1])
def test_a_broken_checkpoint_is_none(tmp_path: Path, cut: int) -> None:
    save_checkpoint(tmp_path / "x", "key", Checkpoint([np.zeros(50)], {"a": 1}))
    data = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(data[:cut])
    assert load_checkpoint(tmp_path / "x", "key") is None
    assert load_checkpoint(tmp_path / "absent", "key") is None
