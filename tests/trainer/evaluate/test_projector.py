from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer.evaluate.answers import AnsweredCrops
from trainer.evaluate.projector import sprite, write_projector

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200)]


def answered(animals: tuple[str, ...], verdicts: tuple[str, ...]) -> AnsweredCrops:
    count = len(animals)
    return AnsweredCrops(
        tuple(Path(f"{animal}/t1_{row}.jpg") for row, animal in enumerate(animals)),
        animals,
        ("t1",) * count,
        ("query",) * count,
        np.eye(count, 4, dtype=np.float32),
        ("a", "a", "unsure")[:count],
        ("a",) * count,
        np.zeros(count, np.float32),
        np.full(count, np.inf, np.float32),
        verdicts,
    )


def write(folder: Path, animals: tuple[str, ...] = ("a", "b", "c")) -> Path:
    tiles = np.stack([np.full((64, 64, 3), colour, np.uint8) for colour in COLOURS])
    prototypes = np.eye(4, dtype=np.float32)[2:]
    write_projector(
        folder / "p",
        answered(animals, ("right", "wrong", "refused")),
        tiles,
        prototypes,
        ["a", "outliers"],
    )
    return folder / "p"


def test_vectors_and_metadata_stand_row_for_row(tmp_path: Path) -> None:
    folder = write(tmp_path)
    vectors = np.loadtxt(folder / "tensors.tsv", delimiter="\t")
    np.testing.assert_array_equal(vectors, np.concatenate([np.eye(4)[:3], np.eye(4)[2:]]))
    lines = (folder / "metadata.tsv").read_text().splitlines()
    assert [line.split("\t") for line in lines] == [
        ["animal", "session", "split", "answer", "right"],
        ["a", "t1", "query", "a", "yes"],
        ["b", "t1", "query", "a", "no"],
        ["c", "t1", "query", "unsure", "refused"],
        ["a", "", "prototype", "", ""],
        ["outliers", "", "prototype", "", ""],
    ]


def test_a_name_cannot_break_the_table(tmp_path: Path) -> None:
    folder = write(tmp_path, ("a\tb", "c\nd", "e\udcff"))
    lines = (folder / "metadata.tsv").read_text().split("\n")
    assert len(lines) == 1 + 3 + 2 + 1
    assert {line.count("\t") for line in lines[:-1]} == {4}
    assert lines[1].startswith("a b\t")


def test_the_sprite_is_a_square_of_tiles_row_after_row(tmp_path: Path) -> None:
    picture = cv2.imread(str(write(tmp_path) / "sprite.png"))[..., ::-1]
    # Five points: three columns, three rows, 48 pixels each.
    assert picture.shape == (144, 144, 3)
    for column, colour in enumerate(COLOURS):
        assert tuple(picture[24, 48 * column + 24]) == colour
    assert picture[48:].min() == 255
    four = sprite([np.full((2, 2, 3), value, np.uint8) for value in (1, 2, 3, 4)])
    assert four[::2, ::2, 0].tolist() == [[1, 2], [3, 4]]


def test_tensorboard_reads_the_configuration(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from google.protobuf import text_format
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    folder = write(tmp_path)
    config = ProjectorConfig()
    text_format.Parse((folder / "projector_config.pbtxt").read_text(), config)
    (embedding,) = config.embeddings
    for path in (embedding.tensor_path, embedding.metadata_path, embedding.sprite.image_path):
        assert (folder / path).is_file()
    assert list(embedding.sprite.single_image_dim) == [48, 48]
