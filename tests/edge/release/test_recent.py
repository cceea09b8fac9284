"""Recent embeddings, and what class means would change of the names that they got."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.identity.matching import Matcher
from edge.identity.means import ClassMeans
from edge.release.recent import (
    Recent,
    RecentError,
    RecentRing,
    RememberingEmbedder,
    read_recent,
    write_recent,
)
from edge.release.shadow import Shadow, ShadowBounds, objection, shadow

SHA = "c" * 64
RED, GREEN, BLUE = np.eye(3, dtype=np.float32)


class Colours:
    """Embeds a crop by its first pixel."""

    size, dimension, letterbox_colour = 32, 3, (114, 114, 114)

    def embed(self, crops: np.ndarray) -> np.ndarray:
        return np.stack([np.eye(3, dtype=np.float32)[crop[0, 0, 0]] for crop in crops])


def test_embeddings_that_pass_are_kept_with_the_names_they_get(herd_means: ClassMeans) -> None:
    ring = RecentRing(kept=3)
    embedder: Any = Colours()
    remembering = RememberingEmbedder(embedder, ring)
    assert (remembering.size, remembering.dimension) == (32, 3)
    crops = np.zeros((4, 32, 32, 3), np.uint8)
    crops[1:, 0, 0, 0] = 1, 2, 0
    np.testing.assert_array_equal(remembering.embed(crops), [RED, GREEN, BLUE, RED])
    assert ring.added == 4
    recent = ring.named(Matcher(herd_means), SHA)
    np.testing.assert_array_equal(recent.embeddings, [GREEN, BLUE, RED])
    assert recent.names == ("pig02", "", "pig01")


def test_they_come_back_from_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "recent.npz"
    assert read_recent(path) is None
    write_recent(Recent(np.stack([RED, BLUE]), ("pig01", ""), SHA), path)
    back = read_recent(path)
    assert back is not None
    np.testing.assert_array_equal(back.embeddings, [RED, BLUE])
    assert (back.names, back.embedder_sha256) == (("pig01", ""), SHA)


def test_an_empty_ring_is_written_and_read(tmp_path: Path, herd_means: ClassMeans) -> None:
    write_recent(RecentRing().named(Matcher(herd_means), SHA), tmp_path / "recent.npz")
    back = read_recent(tmp_path / "recent.npz")
    assert back is not None
    assert back.embeddings.shape == (0, 3)


@pytest.mark.parametrize(
    "arrays",
    [
        {"embeddings": np.zeros((2, 3)), "names": np.array(["a", "b"]), "embedder": np.array(SHA)},
        {"embeddings": np.zeros((2, 3), np.float32), "names": np.array(["a"]), "embedder": SHA},
        {"embeddings": np.zeros(3, np.float32), "names": np.array(["a"] * 3), "embedder": SHA},
        {
            "embeddings": np.full((1, 3), np.nan, np.float32),
            "names": np.array(["a"]),
            "embedder": SHA,
        },
        {"names": np.array(["a"]), "embedder": SHA},
        {"embeddings": np.array([None]), "names": np.array(["a"]), "embedder": SHA},
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    np.savez(tmp_path / "recent.npz", **arrays)
    with pytest.raises(RecentError, match=r"recent\.npz"):
        read_recent(tmp_path / "recent.npz")


def test_what_is_torn_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recent.npz"
    write_recent(Recent(np.stack([RED] * 50), ("pig01",) * 50, SHA), path)
    data = path.read_bytes()
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        with pytest.raises(RecentError):
            read_recent(path)


# -- the shadow check ------------------------------------------------------------------------------

HERD = ("a", "b", "c")


@pytest.mark.parametrize(
    ("before", "after", "new_herd", "found"),
    [
        ("aab", "aab", HERD, Shadow(3, 0, 0)),
        ("aab", "ab-", HERD, Shadow(3, 1, 1)),
        ("--a", "abc", HERD, Shadow(1, 0, 1)),  # who had no name may get any
        ("aab", "ddb", (*HERD, "d"), Shadow(3, 0, 0)),  # it was the newcomer all the time
        ("aab", "--b", ("b", "c"), Shadow(1, 0, 0)),  # a has left the herd
        ("", "", HERD, Shadow(0, 0, 0)),
    ],
)
def test_what_counts_as_lost_and_as_flipped(
    before: str, after: str, new_herd: tuple[str, ...], found: Shadow
) -> None:
    names = [[one.replace("-", "") for one in text] for text in (before, after)]
    assert shadow(names[0], names[1], HERD, new_herd) == found


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (Shadow(19, 19, 0), None),  # too few to say
        (Shadow(20, 6, 2), None),
        (Shadow(20, 7, 0), "7 of 20 recent crops would lose their name"),
        (Shadow(20, 0, 3), "3 of 20 recent crops would get another animal's name"),
    ],
)
def test_where_the_bounds_are(found: Shadow, told: str | None) -> None:
    said = objection(found, ShadowBounds())
    assert said is None if told is None else said is not None and said.startswith(told)
