from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import UsageError
from trainer.places import check_place


def test_nothing_goes_into_a_bundle_among_the_crops_or_below_a_file(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{}")
    (tmp_path / "crops").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "crops")
    for out, words in (
        ("bundle/out", "lies in the bundle"),
        ("bundle/deep/out", "lies in the bundle"),
        ("crops/out", "lies in the folder .*crops, which is read"),
        ("crops", "lies in the folder .*crops, which is read"),
        ("link/out", "lies in the folder .*crops, which is read"),
        ("file/out", "file is a file"),
        ("file/deep/out", "file is a file"),
    ):
        with pytest.raises(UsageError, match=words):
            check_place(tmp_path / out, [tmp_path / "crops"])
    for out in ("bundle", "out", "new/deep/out", "crops2"):
        check_place(tmp_path / out, [tmp_path / "crops"])
