"""Which format a path is in, and that frames go from format to format unchanged."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import DataError, UsageError
from trainer.data.annotations import Format, read_frames, write_frames
from trainer.data.annotations.formats import WRITABLE, detect, image_names
from trainer.data.annotations.split import write_split
from trainer.data.crops import session_of
from trainer.data.frames import FrameSet
from trainer.data.herd import HerdOptions, simulate

WIDTH, HEIGHT = 200, 120


def by_name(frames: FrameSet) -> dict[str, tuple[Any, ...]]:
    """What is known of each frame; classes by name, since VOC knows no order of them."""
    return {
        path.name: (
            boxes.tobytes(),
            [frames.class_names[label] for label in labels],
            session,
            animals,
        )
        for path, boxes, labels, session, animals in zip(
            frames.paths,
            frames.boxes,
            frames.classes,
            frames.sessions,
            frames.animals,
            strict=True,
        )
    }


def without_animals(known: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    return {name: values[:3] for name, values in known.items()}


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> FrameSet:
    """A simulated herd whose boxes have been moved off the whole pixels."""
    root = tmp_path_factory.mktemp("herd") / "herd"
    simulate(root, HerdOptions(animals=4, frames=3, seed=1, video=False, frame_every=1))
    frames = read_frames(root / "annotations.json")
    rng = np.random.default_rng(0)
    boxes = tuple(
        (rows + rng.uniform(-0.4, 0.4, rows.shape).astype(np.float32)).clip(
            0, [1280, 720, 1280, 720]
        )
        for rows in frames.boxes
    )
    return FrameSet(
        frames.paths,
        tuple(rows.astype(np.float32) for rows in boxes),
        frames.classes,
        frames.sessions,
        frames.class_names,
        frames.animals,
    )


def test_a_herd_is_the_same_in_four_formats(herd: FrameSet, tmp_path: Path) -> None:
    assert len(herd) == 18
    assert sum(map(len, herd.boxes)) > 60
    read = {}
    for format in WRITABLE:
        notes = write_frames(herd, tmp_path / format, format)  # type: ignore[arg-type]
        assert bool(notes) == (format == "yolo")
        read[format] = by_name(read_frames(tmp_path / format))
    names = image_names(herd)
    for name, rows, path in zip(names, herd.boxes, herd.paths, strict=True):
        assert read["coco"][name][0] == rows.tobytes()
        assert (tmp_path / "voc" / "images" / name).read_bytes() == path.read_bytes()
    assert read["coco"] == read["voc"] == read["cvat"]
    assert without_animals(read["yolo"]) == without_animals(read["coco"])
    assert {values[3][0] for values in read["coco"].values()} <= {f"pig{n:02}" for n in range(1, 5)}


@pytest.mark.parametrize(
    ("first", "second"), [pair for pair in itertools.permutations(WRITABLE, 2) if pair[0] != "yolo"]
)
def test_from_every_format_to_every_other(
    herd: FrameSet, tmp_path: Path, first: Format, second: Format
) -> None:
    write_frames(herd.select([0, 7]), tmp_path / "a", first, link=True)
    once = read_frames(tmp_path / "a")
    write_frames(once, tmp_path / "b", second, link=True)
    twice = by_name(read_frames(tmp_path / "b"))
    if second == "yolo":
        assert without_animals(twice) == without_animals(by_name(once))
    else:
        assert twice == by_name(once)


# Coordinates of 0, or of at least some thousandths of a pixel; all that float32 can hold besides.
edges = st.one_of(st.just(0.0), st.floats(2**-9, 100, width=32), st.integers(0, 100).map(float))
boxes = st.tuples(edges, edges, edges, edges).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]), max(c[1], c[3]))
)
ids = st.one_of(
    st.none(), st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1)
).map(lambda text: text and (text.strip() or None))
# With spaces in and around them, which none of the formats can be trusted with.
classes = st.lists(
    st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1).filter(str.strip),
    min_size=1,
    max_size=4,
    unique_by=str.strip,
)


@pytest.mark.parametrize("format", WRITABLE)
@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(boxes.filter(lambda c: c[0] < c[2] and c[1] < c[3]), ids), max_size=5),
    names=classes,
    seed=st.integers(0, 99),
)
def test_what_is_written_reads_back_to_the_last_bit(
    format: Format, rows: list[Any], names: list[str], seed: int
) -> None:
    import cv2

    labels = np.random.default_rng(seed).integers(0, len(names), len(rows)).astype(np.int32)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pen-1_3.png"
        cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        frames = FrameSet(
            (path,),
            (np.array([row for row, _ in rows], np.float32).reshape(-1, 4),),
            (labels,),
            ("pen-1",),
            tuple(names),
            (tuple(animal for _, animal in rows),),
        )
        notes = write_frames(frames, Path(folder) / "out", format)
        read = read_frames(Path(folder) / "out")
    plain = replace(frames, class_names=tuple(name.strip() for name in names))
    if format == "yolo":
        assert without_animals(by_name(read)) == without_animals(by_name(plain))
    else:
        assert by_name(read) == by_name(plain)
    if format != "voc":
        assert read.class_names == plain.class_names
    else:
        # What is lost is told.
        lost = set(plain.class_names) - set(read.class_names)
        assert lost == set(plain.class_names) - {plain.class_names[label] for label in labels}
        assert bool(notes) == bool(lost)


def test_frames_without_a_class_are_written_where_none_need_be_listed(
    tmp_path: Path, picture: Any
) -> None:
    picture(tmp_path / "a_1.png")
    (tmp_path / "a_1.xml").write_text("<annotation><filename>a_1.png</filename></annotation>")
    frames = read_frames(tmp_path, "voc")
    assert frames.class_names == ()
    assert write_frames(frames, tmp_path / "voc", "voc") == ()
    assert len(read_frames(tmp_path / "voc")) == 1
    for format in ("coco", "yolo", "cvat"):
        with pytest.raises(DataError, match=r"name no class, and .* must list one.*or write voc"):
            write_frames(frames, tmp_path / format, format)  # type: ignore[arg-type]
        assert not (tmp_path / format).exists()
    with pytest.raises(DataError, match="name no class"):
        write_split(frames, frames, tmp_path, tmp_path / "split")


def frame_set(paths: list[Path], sessions: list[str]) -> FrameSet:
    none = tuple(np.zeros((0, 4), np.float32) for _ in paths)
    labels = tuple(np.zeros(0, np.int32) for _ in paths)
    return FrameSet(tuple(paths), none, labels, tuple(sessions), ("pig",))


def test_names_of_images_tell_their_sessions_and_are_unique() -> None:
    frames = frame_set(
        [
            Path("a/000.jpg"),
            Path("b/000.JPG"),
            Path("c/s1_7.png"),
            Path("d/s1_7.jpg"),
            Path("é ?.png"),
        ],
        ["day 1/cam2", "cam_3", "s1", "s1", "é ?"],
    )
    names = image_names(frames)
    # A name that gives its session already is only made safe.
    assert names == ("day-1-cam2_000.jpg", "cam_3_000.jpg", "s1_7.png", "s1_7-2.jpg", "é-.png")
    assert [session_of(Path(name)) for name in names[:4]] == ["day-1-cam2", "cam_3", "s1", "s1"]
    assert len({Path(name).stem for name in names}) == 5


def test_nothing_is_overwritten_or_left_behind(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "a.png")
    frames = frame_set([tmp_path / "a.png"], ["a"])
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="exists already"):
        write_frames(frames, tmp_path / "out", "coco")
    with pytest.raises(UsageError, match="psrg cannot be written"):
        write_frames(frames, tmp_path / "new", "psrg")
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a\.png: not an image"):
        write_frames(frames, tmp_path / "new", "coco")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "out"]


def test_text_that_a_format_cannot_hold_is_told(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "a.png")
    frames = frame_set([tmp_path / "a.png"], ["bell\x07"])
    for format in ("voc", "cvat"):
        with pytest.raises(DataError, match="holds a character that XML cannot"):
            write_frames(frames, tmp_path / format, format)  # type: ignore[arg-type]
        assert not (tmp_path / format).exists()


def test_an_image_smaller_than_its_boxes_is_told(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "a.png")
    frames = FrameSet(
        (tmp_path / "a.png",),
        (np.array([[0, 0, 41, 20]], np.float32),),
        (np.zeros(1, np.int32),),
        ("a",),
        ("pig",),
    )
    with pytest.raises(DataError, match="has 40x20 pixels and boxes outside"):
        write_frames(frames, tmp_path / "out", "coco")


def test_links_share_the_file(tmp_path: Path, picture: Any) -> None:
    image = picture(tmp_path / "a.png")
    write_frames(frame_set([image], ["a"]), tmp_path / "out", "yolo", link=True)
    assert (tmp_path / "out" / "images" / "a.png").samefile(image)


def test_formats_are_told_by_files_and_by_folders(tmp_path: Path, picture: Any) -> None:
    picture(tmp_path / "a.png")
    frames = frame_set([tmp_path / "a.png"], ["a"])
    for format in WRITABLE:
        write_frames(frames, tmp_path / format, format)  # type: ignore[arg-type]
        assert detect(tmp_path / format) == format
    assert detect(tmp_path / "coco" / "annotations.json") == "coco"
    assert detect(tmp_path / "yolo" / "data.yaml") == "yolo"
    assert detect(tmp_path / "yolo" / "data.yaml#train") == "yolo"
    assert detect(tmp_path / "cvat" / "annotations.xml") == "cvat"
    assert detect(tmp_path / "voc" / "annotations") == "voc"
    with pytest.raises(UsageError, match="is one Pascal VOC file"):
        detect(tmp_path / "voc" / "annotations" / "a.xml")
    # A hash mark may be part of a name.
    shutil.copytree(tmp_path / "coco", tmp_path / "pens#2")
    assert detect(tmp_path / "pens#2") == "coco"
    assert len(read_frames(tmp_path / "pens#2")) == 1
    shutil.copy(tmp_path / "coco" / "annotations.json", tmp_path / "coco" / "a#b.json")
    assert len(read_frames(tmp_path / "coco" / "a#b.json")) == 1
    (tmp_path / "x.mat").touch()
    assert detect(tmp_path / "x.mat") == "psrg"
    with pytest.raises(UsageError, match="not known as annotations by its name"):
        detect(tmp_path / "a.png")
    with pytest.raises(UsageError, match="no annotations that are known"):
        detect(tmp_path / "coco" / "images")
    with pytest.raises(DataError, match="no such file or folder"):
        detect(tmp_path / "none")
    shutil.copy(tmp_path / "yolo" / "data.yaml", tmp_path / "coco")
    with pytest.raises(UsageError, match="holds annotations as yolo and coco"):
        detect(tmp_path / "coco")
    with pytest.raises(UsageError, match=r"only a YOLO data\.yaml has parts"):
        read_frames(tmp_path / "cvat" / "annotations.xml#train")
