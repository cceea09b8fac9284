"""`earmark-trainer means …` on a copy of the demo bundle, with crops from its own self-test."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge.errors import BundleError, DataError, UsageError
from edge.identity.means import OUTLIERS, load_means
from edge.release.bundle import load_bundle
from trainer.cli import main

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "bundle"))


@pytest.fixture(scope="module")
def coats() -> np.ndarray:
    """Six pictures that the embedder tells apart, uint8 (6, S, S, 3) RGB."""
    with np.load(DEMO / "selftest.npz") as archive:
        return np.asarray(archive["crops"])


def draw(folder: Path, coat: np.ndarray, count: int = 6, sessions: int = 2) -> Path:
    """Write `count` crops of one animal: its picture, a little lighter or darker each time."""
    folder.mkdir(parents=True)
    for number in range(count):
        image = np.clip(coat.astype(int) + 7 * number, 0, 255).astype(np.uint8)
        path = folder / f"t{number % sessions}_{number:03}.png"
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return folder


def run(*arguments: object) -> int:
    return main(["means", *map(str, arguments)])


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_add_enrols_each_folder_and_the_bundle_still_loads(
    bundle: Path, tmp_path: Path, coats: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    herd = len(load_bundle(bundle).means.animals)
    for n, name in enumerate(("calf-1", "calf-2")):
        draw(tmp_path / "new" / name, coats[n])
    assert run("add", "--bundle", bundle, "--crops", tmp_path / "new") == 0
    means = load_bundle(bundle).means
    assert means.animals[herd:] == ("calf-1", "calf-2")
    assert means.counts[herd:].tolist() == [6, 6]
    assert f"{herd + 2} animals, means seq 2" in capsys.readouterr().out


def test_add_json_tells_machines_and_warnings_go_to_stderr(
    bundle: Path, tmp_path: Path, coats: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in (0, 2, 3):
        draw(tmp_path / "herd" / f"cow{n}", coats[n])
    run("build", "--bundle", bundle, "--crops", tmp_path / "herd")
    draw(tmp_path / "one", coats[1])
    draw(tmp_path / "two", coats[1], count=3)
    capsys.readouterr()
    add = ("add", "--bundle", bundle, "--json")
    assert run(*add, "--crops", tmp_path / "one", "--animal", "calf-1") == 0
    first = capsys.readouterr()
    assert "warning" not in first.err
    assert run(*add, "--crops", tmp_path / "two", "--animal", "calf-2") == 0
    second = capsys.readouterr()
    (calf,) = json.loads(second.out)["animals"]
    assert (calf["animal"], calf["nearest"], calf["crops"]) == ("calf-2", "calf-1", 3)
    assert len(calf["warnings"]) == 2
    assert second.err.count("earmark-trainer: warning: ") == 2
    assert "the same animal under another name?" in second.err
    assert json.loads(second.out)["means_seq"] == 4


def test_more_crops_of_an_animal_are_asked_for(
    bundle: Path, tmp_path: Path, coats: np.ndarray
) -> None:
    draw(tmp_path / "one", coats[0])
    add = ("add", "--bundle", bundle, "--crops", tmp_path / "one", "--animal")
    with pytest.raises(UsageError, match="'calf-1' is not in the class means"):
        run(*add, "calf-1", "--more")
    run(*add, "calf-1")
    before = state(bundle)
    with pytest.raises(UsageError, match="'calf-1' is in the class means already"):
        run(*add, "calf-1")
    assert state(bundle) == before
    run(*add, "calf-1", "--more")
    assert load_bundle(bundle).means.counts[-1] == 12


@pytest.mark.parametrize("name", ["Bella", "x", "unknown", "a/b", "-cow"])
def test_ids_that_no_topic_can_hold_are_refused(
    bundle: Path, tmp_path: Path, coats: np.ndarray, name: str
) -> None:
    draw(tmp_path / "one", coats[0])
    before = state(bundle)
    with pytest.raises(UsageError, match="animal id"):
        run("add", "--bundle", bundle, "--crops", tmp_path / "one", f"--animal={name}")
    assert state(bundle) == before


def test_an_unreadable_crop_is_named_and_nothing_changes(
    bundle: Path, tmp_path: Path, coats: np.ndarray
) -> None:
    draw(tmp_path / "new" / "calf-1", coats[0])
    (tmp_path / "new" / "calf-1" / "t0_000.png").write_bytes(b"no image")
    before = state(bundle)
    with pytest.raises(DataError, match=r"calf-1/t0_000\.png"):
        run("add", "--bundle", bundle, "--crops", tmp_path / "new")
    assert state(bundle) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "new"]


def test_remove_and_merge(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    means = load_bundle(bundle).means
    first, second, third = means.animals[:3]
    run("merge", "--bundle", bundle, first, second)
    run("remove", "--bundle", bundle, third)
    after = load_bundle(bundle).means
    assert after.animals == (first, *means.animals[3:])
    assert after.counts[0] == means.counts[0] + means.counts[1]
    assert after.header.seq == means.header.seq + 2
    assert f"{first}: {after.counts[0]} crops, 2 prototypes" in capsys.readouterr().out
    before = state(bundle)
    with pytest.raises(UsageError, match=f"'{third}' is not in the class means"):
        run("remove", "--bundle", bundle, third)
    assert state(bundle) == before


def test_out_leaves_the_bundle_alone(bundle: Path, tmp_path: Path) -> None:
    before = state(bundle)
    first = load_bundle(bundle).means.animals[0]
    run("remove", "--bundle", bundle, first, "--out", tmp_path / "other")
    run("remove", "--bundle", bundle, first, "--out", tmp_path / "loose.npz")
    assert state(bundle) == before
    assert first not in load_bundle(tmp_path / "other").means.animals
    assert first not in load_means(tmp_path / "loose.npz").animals
    with pytest.raises(UsageError, match="not empty"):
        run("remove", "--bundle", bundle, first, "--out", tmp_path / "other")


def test_build_makes_a_herd_of_its_own_and_knows_it_again(
    bundle: Path, tmp_path: Path, coats: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(4):
        draw(tmp_path / "crops" / f"cow{n}", coats[n], count=9, sessions=3)
    draw(tmp_path / "strangers" / "deep", coats[5])
    run(
        *("build", "--bundle", bundle, "--crops", tmp_path / "crops"),
        *("--negatives", tmp_path / "strangers", "--prototypes", 1, "--held-out", 0.3),
    )
    said = capsys.readouterr().out
    assert "calibrated on held-out sessions: threshold" in said
    assert "4 animals" in said
    loaded = load_bundle(bundle)
    assert loaded.means.animals == ("cow0", "cow1", "cow2", "cow3")
    # What was held out to calibrate is in the means as well.
    assert loaded.means.counts.tolist() == [9, 9, 9, 9]
    assert np.bincount(loaded.means.owner[loaded.means.owner != OUTLIERS]).tolist() == [1] * 4
    assert loaded.means.header.calibration["negatives"] == 6
    run("inspect", "--bundle", bundle, "--crops", tmp_path / "crops", "--out", tmp_path / "look")
    assert "0 doubtful of 36 crops" in capsys.readouterr().out


def test_build_calibrates_on_crops_of_its_own_when_given(
    bundle: Path, tmp_path: Path, coats: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(3):
        draw(tmp_path / "crops" / f"cow{n}", coats[n], sessions=1)
        draw(tmp_path / "later" / f"cow{n}", coats[n])
    build = ("build", "--bundle", bundle, "--crops", tmp_path / "crops", "--out")
    run(*build, tmp_path / "a.npz", "--held-out-crops", tmp_path / "later")
    assert load_means(tmp_path / "a.npz").header.calibration["source"] == "held_out"
    assert load_means(tmp_path / "a.npz").counts.tolist() == [6, 6, 6]
    run(*build, tmp_path / "b.npz", "--held-out", 0)
    assert load_means(tmp_path / "b.npz").header.calibration["source"] == "left_out_sessions"
    assert "a session left out at a time" in capsys.readouterr().out
    draw(tmp_path / "later" / "cow9", coats[4])
    with pytest.raises(DataError, match="'cow9' has no crops"):
        run(*build, tmp_path / "c.npz", "--held-out-crops", tmp_path / "later")
    assert not (tmp_path / "c.npz").exists()


def test_inspect_finds_what_was_filed_wrongly(
    bundle: Path, tmp_path: Path, coats: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(3):
        draw(tmp_path / "crops" / f"cow{n}", coats[n], count=9, sessions=3)
    run("build", "--bundle", bundle, "--crops", tmp_path / "crops")
    wrong = tmp_path / "crops" / "cow0" / "t0_900.png"
    (tmp_path / "crops" / "cow1" / "t0_000.png").rename(wrong)
    copied = tmp_path / "crops" / "cow0" / "t1_901.png"
    shutil.copy(tmp_path / "crops" / "cow2" / "t1_001.png", copied)
    capsys.readouterr()
    out = tmp_path / "look"
    inspect = ("inspect", "--bundle", bundle, "--crops", tmp_path / "crops", "--json", "--out")
    before = state(tmp_path / "crops")
    run(*inspect, out)
    report = json.loads(capsys.readouterr().out)
    found = {(Path(row["path"]).name, row["reason"], row["other"]) for row in report["images"]}
    assert found == {("t0_900.png", "nearer", "cow1"), ("t1_901.png", "duplicate", "cow2")}
    assert report == json.loads((out / "doubtful.json").read_bytes())
    assert (out / "doubtful.jpg").is_file()
    assert state(tmp_path / "crops") == before
    # Again into the same folder, but not over somebody's work.
    run(*inspect, out)
    (out / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="not an inspection"):
        run(*inspect, out)
    with pytest.raises(UsageError, match=r"lies in the folder .*crops, which is read"):
        run(*inspect, tmp_path / "crops" / "look")


def pair(folder: Path, dimension: int, animals: int = 3) -> tuple[Path, Path]:
    folder.mkdir()
    rows = np.random.default_rng(1).normal(0, 0.1, (animals, dimension))
    lines = ["\t".join(f"{value:.18e}" for value in row) + "\n" for row in rows]
    (folder / "v.tsv").write_text("".join(lines))
    (folder / "m.tsv").write_text("".join(f"{n + 7}\n" for n in range(animals)))
    return folder / "v.tsv", folder / "m.tsv"


def test_the_projector_pair_goes_in_and_comes_out_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vectors, meta = pair(tmp_path / "in", 64)
    run("import", "--vecs", vectors, "--meta", meta, "--out", tmp_path / "m.npz")
    assert capsys.readouterr().err.count("a device refuses it") == 1
    run("export", "--means", tmp_path / "m.npz", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "vecs.tsv").read_bytes() == vectors.read_bytes()
    assert (tmp_path / "out" / "meta.tsv").read_bytes() == meta.read_bytes()


def test_a_pair_takes_the_place_of_a_bundles_means_or_joins_them(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loaded = load_bundle(bundle)
    vectors, meta = pair(tmp_path / "in", loaded.embedder.dimension)
    bring = ("import", "--vecs", vectors, "--meta", meta, "--bundle", bundle)
    run(*bring, "--prefix", "pig-", "--join", "--out", tmp_path / "both")
    both = load_bundle(tmp_path / "both").means
    assert both.animals == (*loaded.means.animals, "pig-7", "pig-8", "pig-9")
    assert "not calibrated on these animals" in capsys.readouterr().err
    # Ids that no device publishes do not spoil a bundle that runs.
    before = state(bundle)
    with pytest.raises(UsageError, match="--prefix such as pig- mends them"):
        run(*bring)
    assert state(bundle) == before
    run(*bring, "--out", tmp_path / "alone")
    alone = load_bundle(tmp_path / "alone").means
    assert alone.animals == ("7", "8", "9")
    assert alone.threshold == pytest.approx([loaded.means.header.calibration["threshold"]] * 3)
    assert "--prefix" in capsys.readouterr().err
    run("export", "--bundle", tmp_path / "alone", "--out", tmp_path / "out")
    assert (tmp_path / "out" / "vecs.tsv").read_bytes() == vectors.read_bytes()
    run(*bring, "--prefix", "pig-")
    assert load_bundle(bundle).means.animals == ("pig-7", "pig-8", "pig-9")


def test_ids_that_cannot_be_printed_are_refused(bundle: Path, tmp_path: Path) -> None:
    vectors, meta = pair(tmp_path / "in", load_bundle(bundle).embedder.dimension)
    meta.write_text("a\x1b[2J\nb\nc\n")
    with pytest.raises(DataError, match="characters that cannot be printed"):
        run("import", "--vecs", vectors, "--meta", meta, "--out", tmp_path / "m.npz")


def test_means_that_do_not_fit_the_embedder_are_refused(bundle: Path, tmp_path: Path) -> None:
    vectors, meta = pair(tmp_path / "in", 5)
    before = state(bundle)
    with pytest.raises(DataError, match=r"vectors of 5 numbers, the embedder of .* gives \d+"):
        run("import", "--vecs", vectors, "--meta", meta, "--bundle", bundle)
    run("import", "--vecs", vectors, "--meta", meta, "--out", tmp_path / "m.npz")
    with pytest.raises(DataError, match="names no embedder"):
        run("import", "--means", tmp_path / "m.npz", "--bundle", bundle)
    assert state(bundle) == before


def test_a_loose_file_comes_back_only_to_its_own_embedder(bundle: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    import msgspec

    from edge.identity.means import save_means

    loose = tmp_path / "loose.npz"
    first = load_bundle(bundle).means.animals[0]
    run("remove", "--bundle", bundle, first, "--out", loose)
    run("import", "--means", loose, "--bundle", bundle)
    assert first not in load_bundle(bundle).means.animals
    means = load_means(loose)
    header = msgspec.structs.replace(means.header, embedder_sha256="e" * 64)
    save_means(replace(means, header=header), loose)
    with pytest.raises(BundleError, match="made by another embedder"):
        run("import", "--means", loose, "--bundle", bundle)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("import", "--vecs", "v.tsv", "--out", "m.npz"), "two files"),
        (("import", "--means", "m.npz", "--out", "n.npz"), "which bundle"),
        (("import", "--means", "m.npz", "--bundle", "b", "--prefix", "x"), "not for --means"),
        (("import", "--vecs", "v.tsv", "--meta", "m.tsv"), "--bundle DIR or --out"),
        (("import", "--vecs", "v.tsv", "--meta", "m.tsv", "--out", "x"), "only a loose file"),
        (("import", "--vecs", "v.tsv", "--meta", "m.tsv", "--out", "m.npz"), "no such file"),
        (("export", "--means", "m.npz", "--out", "x"), "m.npz: missing"),
        (("remove", "--bundle", "b", "cow1"), "no such bundle"),
        (("add", "--bundle", "b", "--crops", "nowhere"), "no such folder"),
        (("build", "--bundle", "b", "--crops", "nowhere"), "no such folder"),
        (("inspect", "--bundle", "b", "--crops", "nowhere", "--out", "x"), "no such folder"),
    ],
)
def test_what_is_missing_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, BundleError), match=complaint) as caught:
        run(*arguments)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_means_need_neither_tensorflow_nor_matplotlib(
    bundle: Path, tmp_path: Path, coats: np.ndarray
) -> None:
    for n in range(3):
        draw(tmp_path / "crops" / f"cow{n}", coats[n])
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'matplotlib'): sys.modules[name] = None\n"
        "from trainer.cli import entry; entry()"
    )
    for arguments in (
        ("add", "--bundle", bundle, "--crops", tmp_path / "crops"),
        ("merge", "--bundle", bundle, "cow0", "cow1"),
        ("build", "--bundle", bundle, "--crops", tmp_path / "crops"),
        ("inspect", "--bundle", bundle, "--crops", tmp_path / "crops", "--out", tmp_path / "x"),
        ("export", "--bundle", bundle, "--out", tmp_path / "y"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, "means", *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "COLUMNS": "100"},
        )
        assert done.returncode == 0, done.stderr
    refused = subprocess.run(
        [sys.executable, "-c", code, "means", "remove", "--bundle", str(bundle), "nobody"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 2
    assert refused.stderr.splitlines()[-1].startswith("earmark-trainer: error: animal 'nobody'")
    assert "Traceback" not in refused.stderr
