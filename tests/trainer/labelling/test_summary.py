from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np

from trainer.data.crops import CropSet
from trainer.labelling.summary import describe, describe_skipped


def test_what_a_crops_folder_lacks_is_told() -> None:
    sessions = ["a"] * 6 + ["b"] * 6 + ["a"] * 11 + ["b"]
    labels = [0] * 12 + [1] * 11 + [2]
    paths = tuple(Path(f"{number}.jpg") for number in range(24))
    crops = CropSet(paths, ("x1", "x2", "x3"), np.array(labels, np.int32), tuple(sessions))
    assert describe(crops) == [
        "24 crops of 3 animals in 2 sessions",
        "in a single session, so never held out: x2, x3",
        "fewer than 10 crops: x3 (1)",
    ]


def test_what_was_left_out_is_told_by_reason() -> None:
    assert describe_skipped(Counter({"too small": 2, "crowded": 5})) == (
        "left out: 5 crowded, 2 too small"
    )
    assert describe_skipped(Counter()) == ""
