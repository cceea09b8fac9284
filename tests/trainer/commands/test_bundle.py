"""`earmark-trainer bundle`: from somebody's file to a bundle that a device takes."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.errors import BundleError, EarmarkError, UsageError
from edge.files import sha256_file
from edge.release.bundle import load_bundle
from edge.release.manifest import DetectorSpec, Manifest
from edge.release.selftest import load_self_test
from trainer.cli import main
from trainer.detector_spec import save_spec
from trainer.export.third_party import NORMALISATIONS, OWN_CLIPPED, third_party_spec

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
EMBEDDER = (DEMO / "embedder.tflite").read_bytes()
Make = Callable[..., bytes]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def theirs(tmp_path: Path, make_detector: Make) -> Path:
    path = tmp_path / "theirs.tflite"
    path.write_bytes(make_detector())
    return path


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "base"))


def bundle(theirs: Path, base: Path | None, *more: object, labels: str | None = "calf,cow") -> int:
    place = ["--bundle", str(base)] if base else []
    out = ["--out", str(theirs.parent / "new" / "out")]
    named = ["--labels", labels] if labels else []
    return main(["bundle", "--detector", str(theirs), *place, *out, *named, *map(str, more)])


def manifest(folder: Path) -> Manifest:
    return load_bundle(folder).manifest


@pytest.mark.usefixtures("no_compiler")
def test_a_device_takes_the_new_bundle(
    theirs: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(base)
    (base / "stray.txt").write_text("not of the bundle")
    assert bundle(theirs, base, "--score-threshold", "0.55") == 0
    out = theirs.parent / "new" / "out"
    loaded = load_bundle(out)
    assert loaded.detector is not None
    found = loaded.detector.detect(np.zeros((80, 160, 3), np.uint8))
    np.testing.assert_allclose(found.boxes, [[64, 24, 96, 56], [0, 0, 16, 16]], atol=1e-3)
    assert found.classes.tolist() == [1, 0]

    old, new = manifest(base), loaded.manifest
    assert new.seq == old.seq + 1
    assert new.id != old.id
    assert new.detector is not None
    assert new.detector.class_names == ["calf", "cow"]
    assert new.detector.score_threshold == 0.55
    assert (new.embedder, new.means, new.self_test) == (old.embedder, old.means, old.self_test)
    assert contents(out)["embedder.tflite"] == before["embedder.tflite"]
    # The golden frames stay; what is to be found in them is for the new detector to say.
    was, golden = (load_self_test(folder / "selftest.npz") for folder in (base, out))
    assert was.frames is not None
    assert golden.frames is not None
    np.testing.assert_array_equal(golden.embeddings, was.embeddings)
    np.testing.assert_array_equal(golden.frames.images, was.frames.images)
    finds = loaded.detector.detect(was.frames.images[0], 0.4)
    np.testing.assert_array_equal(golden.frames.of_frame(0)[0], finds.boxes)
    assert len(finds) != len(was.frames.of_frame(0)[0])
    # The report speaks of the old detector; so do its figures.
    assert set(new.files) == {"detector.tflite", "embedder.tflite", "means.npz", "selftest.npz"}
    assert set(contents(out)) == {*new.files, "manifest.json"}
    assert new.training.recipe["detector"]["file"] == "theirs.tflite"
    assert new.training.recipe["detector"]["sha256"] == sha256_file(theirs)
    assert new.training.recipe["detector"]["embedder_from"] == old.id
    assert new.training.recipe["name"] == old.training.recipe["name"]
    for split, figures in new.training.metrics.items():
        assert "detection" in old.training.metrics[split]
        assert "detection" not in figures
        assert "tracking" not in figures
        assert figures["identification"] == old.training.metrics[split]["identification"]
    assert contents(base) == before | {"stray.txt": b"not of the bundle"}

    printed = capsys.readouterr()
    assert "uint8 input 80x40, pixels as -1 to 1, up to 4 boxes, 2 classes" in printed.out
    assert f"seq {new.seq}, id {new.id[:12]}" in printed.out
    warnings = [line for line in printed.err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "edgetpu_compiler is not on PATH" in warnings[0]


@pytest.mark.usefixtures("no_compiler")
def test_a_bundle_that_only_named_crops_gets_a_detector(
    theirs: Path, base: Path, tmp_path: Path
) -> None:
    path = base / "manifest.json"
    fields = json.loads(path.read_bytes()) | {"detector": None}
    path.write_text(json.dumps(fields))
    assert load_bundle(base).detector is None
    assert bundle(theirs, base) == 0
    assert load_bundle(tmp_path / "new" / "out").detector is not None


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(
    ("options", "scale", "offset"),
    [
        (["--normalisation", "0..1"], 1 / 255, 0.0),
        (["--normalisation=-1..1"], 1 / 127.5, -1.0),
        (["--pixel-scale", "0.5"], 0.5, 0.0),
        (["--pixel-scale", "0.02", "--pixel-offset", "-2"], 0.02, -2.0),
    ],
)
def test_a_float_model_is_told_what_pixels_are(
    theirs: Path, base: Path, make_detector: Make, options: list[str], scale: float, offset: float
) -> None:
    theirs.write_bytes(make_detector("float32", 0.0, 0))
    assert bundle(theirs, base, *options) == 0
    spec = manifest(theirs.parent / "new" / "out").detector
    assert spec is not None
    assert (spec.dtype, spec.pixel_scale, spec.pixel_offset) == ("float32", scale, offset)


def told(theirs: Path, **changes: Any) -> DetectorSpec:
    """What a run says of a detector of two classes, and writes beside it."""
    spec = third_party_spec(
        theirs,
        names=["calf", "cow"],
        pixels=NORMALISATIONS["0..1"],
        clipped=OWN_CLIPPED,
        score_threshold=0.33,
        letterbox_colour=(1, 2, 3),
        soft_nms=0.4,
    )
    spec = msgspec.structs.replace(spec, **changes)
    save_spec(spec, theirs.with_name("detector.json"), [theirs])
    return spec


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(
    ("flags", "changes"),
    [
        ([], {}),
        (["--score-threshold", "0"], {"score_threshold": 0.0}),
        (["--labels", "pig,goat"], {"class_names": ["pig", "goat"]}),
        (["--normalisation=-1..1"], {"pixel_scale": 1 / 127.5, "pixel_offset": -1.0}),
        (["--pixel-scale", "0.002"], {"pixel_scale": 0.002, "pixel_offset": 0.0}),
    ],
)
def test_what_a_run_wrote_beside_its_detector_holds_but_for_what_flags_say(
    theirs: Path, base: Path, flags: list[str], changes: dict[str, Any]
) -> None:
    spec = told(theirs)
    assert bundle(theirs, base, *flags, labels=None) == 0
    made = manifest(theirs.parent / "new" / "out").detector
    assert made == msgspec.structs.replace(spec, **changes)


@pytest.mark.usefixtures("no_compiler")
def test_a_run_may_have_calibrated_with_dim_frames(
    theirs: Path, base: Path, make_detector: Make
) -> None:
    # Holds -0.87 to 0.79, as a small herd by night leaves it; its trainer knows what pixels are.
    theirs.write_bytes(make_detector(scale=0.0065, zero_point=134))
    refused(theirs, base, UsageError, "choose another --normalisation", "--normalisation=-1..1")
    told(theirs, pixel_scale=1 / 127.5, pixel_offset=-1.0)
    assert bundle(theirs, base, labels=None) == 0


@pytest.mark.usefixtures("no_compiler")
def test_a_threshold_of_zero_is_one_without_a_spec_too(theirs: Path, base: Path) -> None:
    assert bundle(theirs, base, "--score-threshold", "0") == 0
    spec = manifest(theirs.parent / "new" / "out").detector
    assert spec is not None
    assert spec.score_threshold == 0


@pytest.mark.usefixtures("no_compiler")
def test_the_demos_own_spec_is_what_its_file_says(base: Path, tmp_path: Path) -> None:
    mine = tmp_path / "detector.tflite"
    shutil.copy(base / "detector.tflite", mine)
    spec = manifest(base).detector
    assert spec is not None
    save_spec(spec, tmp_path / "detector.json", [mine])
    assert bundle(mine, base, labels=None) == 0
    assert manifest(tmp_path / "new" / "out").detector == spec


@pytest.mark.usefixtures("no_compiler")
def test_what_says_something_of_another_detector_is_left_aside(
    theirs: Path, base: Path, make_detector: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    told(theirs)
    theirs.write_bytes(make_detector(nms_iou_threshold=0.6))
    refused(theirs, base, UsageError, "name them with --labels", labels=None)
    assert bundle(theirs, base) == 0
    assert "detector.json does not say that it is of theirs.tflite" in capsys.readouterr().err
    spec = manifest(theirs.parent / "new" / "out").detector
    assert spec is not None
    assert (spec.score_threshold, spec.soft_nms, spec.pixel_offset) == (0.5, None, -1.0)


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"class_names": ["a", "b", "c"]}, "knows 2 classes"),
        ({"pixel_scale": 1.0}, "choose another --normalisation"),
        ({"top_k": 7}, r"detector\.json: says top_k 7, the model has 4"),
        ({"nms_iou": 0.1}, "says nms_iou 0.1, the model has 0.5"),
        ({"input_shape": (1, 80, 80, 3)}, "says input_shape"),
        (
            {"outputs": {"boxes": "PP", "scores": "PP:1", "classes": "PP:2", "count": "PP:3"}},
            "says outputs",
        ),
    ],
)
def test_a_spec_that_contradicts_its_model_is_refused(
    theirs: Path, base: Path, changes: dict[str, Any], complaint: str
) -> None:
    told(theirs, **changes)
    refused(theirs, base, UsageError, complaint, labels=None)


def refused(theirs: Path, base: Path | None, error: type[EarmarkError], complaint: str,
            *more: object, **words: str | None) -> None:  # fmt: skip
    with pytest.raises(error, match=complaint) as caught:
        bundle(theirs, base, *more, **words)
    assert "\n" not in str(caught.value)
    new = theirs.parent / "new"
    assert not new.exists() or not list(new.iterdir())


@pytest.mark.usefixtures("no_compiler")
def test_what_cannot_be_is_refused_and_leaves_nothing(
    theirs: Path, base: Path, make_detector: Make, tmp_path: Path
) -> None:
    refused(theirs, None, UsageError, "--bundle BASE")
    refused(theirs, base, UsageError, "knows 2 classes", labels="cow")
    refused(theirs, base, UsageError, "no such label file", labels="missing.txt")
    refused(theirs, base, UsageError, "choose another --normalisation", "--normalisation", "0..255")
    both = ("--normalisation", "0..1", "--pixel-scale", "1")
    refused(theirs, base, UsageError, "exclude each other", *both)
    refused(theirs, base, UsageError, "needs --pixel-scale", "--pixel-offset", "1")
    refused(theirs, tmp_path / "nowhere", BundleError, "no such bundle folder")
    theirs.write_bytes(make_detector("float32", 0.0, 0))
    refused(theirs, base, UsageError, "not quantised")
    # More classes in its answers than it says it has.
    theirs.write_bytes(make_detector(num_classes=1))
    refused(theirs, base, UsageError, "fails on a grey image|should know 1 only", labels="cow")
    theirs.write_bytes(EMBEDDER)
    refused(theirs, base, UsageError, "0 TFLite_Detection_PostProcess")
    (base / "means.npz").write_bytes(b"x")
    refused(theirs, base, BundleError, r"means\.npz")


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("kind", ["file", "folder", "bundle"])
def test_nothing_is_overwritten(theirs: Path, base: Path, kind: str) -> None:
    out = theirs.parent / "new" / "out"
    out.parent.mkdir()
    if kind == "file":
        out.write_text("mine")
    elif kind == "folder":
        out.mkdir()
        (out / "thesis.txt").write_text("mine")
    else:
        shutil.copytree(DEMO, out)
    before = out.read_bytes() if out.is_file() else contents(out)
    with pytest.raises(UsageError, match="exists and is not empty"):
        bundle(theirs, base)
    assert (out.read_bytes() if out.is_file() else contents(out)) == before


@pytest.mark.parametrize("value", ["1.5", "-0.1", "x"])
def test_a_threshold_is_a_fraction(theirs: Path, base: Path, value: str) -> None:
    with pytest.raises(SystemExit) as caught:
        bundle(theirs, base, f"--score-threshold={value}")
    assert caught.value.code == 2


@pytest.mark.slow
def test_models_are_compiled_where_the_compiler_is(
    base: Path,
    tmp_path: Path,
    compiled_twin: Callable[[bytes], bytes],
    fake_compiler: Callable[[str], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    # It looks at what it is given: one of these two.
    for name in ("detector", "embedder"):
        (tmp_path / name).write_bytes(compiled_twin((DEMO / f"{name}.tflite").read_bytes()))
    fake_compiler(
        f"if cmp -s \"$model\" '{DEMO / 'detector.tflite'}'; then made='{tmp_path / 'detector'}'; "
        f"else made='{tmp_path / 'embedder'}'; fi\n"
        'cp "$made" "$out/${name}_edgetpu.tflite"; echo "Total number of operations: 45"'
    )
    theirs = tmp_path / "theirs.tflite"
    shutil.copy(DEMO / "detector.tflite", theirs)
    assert bundle(theirs, base, labels="pig") == 0
    out = tmp_path / "new" / "out"
    files = manifest(out).files
    for name in ("detector", "embedder"):
        entry = files[f"{name}_edgetpu.tflite"]
        assert entry.role == f"{name}-edgetpu"
        assert entry.sha256 == sha256_file(tmp_path / name)
        assert files[f"{name}_edgetpu.log"].role == "compiler-log"
        assert "operations: 45" in (out / f"{name}_edgetpu.log").read_text()
    printed = capsys.readouterr()
    assert "Edge TPU, detector: 30 of 33 operators" in printed.out
    assert printed.out.count(", compiled") == 2
    assert "warning" not in printed.err

    # Once more, from there: the embedder's stays, the detector's is another's.
    again = tmp_path / "again"
    shutil.copytree(out, again)
    shutil.rmtree(out)
    fake_compiler("echo 'Internal compiler error. Aborting!'; exit 1")
    assert bundle(theirs, again, labels="pig") == 0
    files = manifest(out).files
    assert "embedder_edgetpu.tflite" in files
    assert "detector_edgetpu.tflite" not in files
    assert "Internal compiler error" in (out / "detector_edgetpu.log").read_text()
    printed = capsys.readouterr()
    assert "warning: " in printed.err
    assert "Internal compiler error. Aborting!" in printed.err
    assert "detector: 30 of 33 operators, 28.7 KiB of parameters, not compiled" in printed.out


@pytest.mark.slow
def test_neither_command_needs_tensorflow(theirs: Path, base: Path) -> None:
    out = theirs.parent / "out"
    code = (
        "import sys; from trainer.cli import main\n"
        f"main(['bundle', '--detector', {str(theirs)!r}, '--bundle', {str(base)!r}, "
        f"'--out', {str(out)!r}, '--labels', 'a,b'])\n"
        f"main(['edgetpu', {str(theirs)!r}])\n"
        "print([name for name in ('tensorflow', 'keras', 'matplotlib') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
