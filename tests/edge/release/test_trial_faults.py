"""Releases that must not run, each met by the gate in a child process that may die of it."""

from __future__ import annotations

import json
import shutil
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from edge.files import sha256_file
from edge.identity.matching import Matcher
from edge.identity.means import ClassMeans, load_means, save_means
from edge.release.gate import Request
from edge.release.manifest import content_id, decode_manifest, encode_manifest
from edge.release.recent import Recent, names_of, write_recent
from edge.release.selftest import load_self_test
from edge.release.trial import Limits, TrialError, check_release

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
slow = pytest.mark.slow


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "release"))


def sign_again(release: Path, **spec: Any) -> None:
    """Make the manifest agree with the files: what is wrong was signed by somebody."""
    path = release / "manifest.json"
    raw = json.loads(path.read_bytes())
    for name, entry in raw["files"].items():
        entry["sha256"] = sha256_file(release / name)
        entry["size"] = (release / name).stat().st_size
    raw["embedder"]["sha256"] = raw["files"]["embedder.tflite"]["sha256"]
    raw.update(spec)
    manifest = decode_manifest(json.dumps(raw).encode(), "test")
    raw["id"] = content_id(manifest.files)
    path.write_bytes(encode_manifest(decode_manifest(json.dumps(raw).encode(), "test")))


def refusal(release: Path, *, models: bool = False, **more: Any) -> TrialError:
    with pytest.raises(TrialError) as caught:
        check_release(Request(release=str(release), models=models, **more))
    assert "\n" not in str(caught.value)
    return caught.value


# -- class means -----------------------------------------------------------------------------------


def write_means(release: Path, **arrays: Any) -> None:
    """Write the demo's class means with other arrays, as no code of ours would."""
    with np.load(release / "means.npz") as archive:
        held = {name: archive[name] for name in archive.files}
    held |= {name: make(held[name]) for name, make in arrays.items()}
    np.savez_compressed(release / "means.npz", **held)
    sign_again(release)


def with_nan(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array[0, 0] = np.nan
    return array


def other_embedder(header: np.ndarray) -> np.ndarray:
    return np.array(json.dumps({**json.loads(str(header)), "embedder_sha256": "0" * 64}))


def twice(animals: np.ndarray) -> np.ndarray:
    return np.concatenate([animals[:1], animals[:1], animals[2:]])


HOSTILE: dict[str, tuple[dict[str, Callable[[np.ndarray], np.ndarray]], str]] = {
    "a NaN among the prototypes": ({"prototypes": with_nan}, "not finite"),
    "a NaN among the sums": ({"sums": with_nan}, "not finite"),
    "thresholds that are infinite": ({"threshold": lambda a: a * np.inf}, "not finite"),
    "prototypes that are not unit": ({"prototypes": lambda a: a * 2}, "unit length"),
    "another dimension": (
        {"prototypes": lambda a: np.eye(len(a), 32, dtype=a.dtype), "sums": lambda a: a[:, :32]},
        "dimension 32",
    ),
    "another embedder's": ({"header": other_embedder}, "another embedder"),
    "an animal twice": ({"animals": twice}, "distinct"),
    "a prototype of nobody": ({"owner": lambda a: a + 1000}, "owner"),
    "pickled objects": ({"animals": lambda a: a.astype(object)}, "not a class-means file"),
}


@pytest.mark.parametrize("fault", HOSTILE)
def test_hostile_class_means_are_refused(release: Path, fault: str) -> None:
    arrays, told = HOSTILE[fault]
    write_means(release, **arrays)
    refused = refusal(release)
    assert refused.code == "means"
    assert told in str(refused)


def test_an_array_of_sixty_gigabytes_in_a_small_file_is_refused(release: Path) -> None:
    said = b"{'descr': '<f4', 'fortran_order': False, 'shape': (268435456, 64), }"
    lie = b"\x93NUMPY\x01\x00\x76\x00" + said.ljust(117) + b"\n" + bytes(1024)
    with zipfile.ZipFile(release / "means.npz") as old:
        held = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(release / "means.npz", "w") as new:
        for name, content in held.items():
            new.writestr(name, lie if name == "prototypes.npy" else content)
    sign_again(release)
    refused = refusal(release)
    assert refused.code in ("means", "memory")
    assert "64" in str(refused)


def test_an_archive_that_unpacks_to_more_than_it_may_take_is_refused(release: Path) -> None:
    write_means(release, sums=lambda a: np.zeros((16, 4 << 20)))  # half a gigabyte of nothing
    assert (release / "means.npz").stat().st_size < 1 << 20
    with pytest.raises(TrialError) as caught:
        check_release(Request(release=str(release), models=False), Limits(memory_bytes=256 << 20))
    assert caught.value.code in ("means", "memory")


# -- the shadow check ------------------------------------------------------------------------------


def recent_of(release: Path, folder: Path) -> Path:
    """Embeddings of the bundle's golden crops and, twenty times each, of its prototypes."""
    means = load_means(release / "means.npz")
    golden = load_self_test(release / "selftest.npz").embeddings.astype(np.float32)
    stack = np.concatenate([golden, np.repeat(means.prototypes, 20, axis=0)])
    recent = Recent(stack, names_of(stack, Matcher(means)), means.header.embedder_sha256)
    write_recent(recent, folder / "embeddings.npz")
    return folder / "embeddings.npz"


def changed(release: Path, change: Callable[[ClassMeans], ClassMeans]) -> None:
    save_means(change(load_means(release / "means.npz")), release / "means.npz")
    sign_again(release)


def shadowed(tmp_path: Path) -> dict[str, str]:
    return {
        "current": str(DEMO / "means.npz"),
        "recent": str(recent_of(DEMO, tmp_path)),
    }


def test_class_means_that_change_nothing_pass(release: Path, tmp_path: Path) -> None:
    answer = check_release(Request(release=str(release), models=False, **shadowed(tmp_path)))
    assert answer.crops > 300


def test_names_that_went_round_are_refused(release: Path, tmp_path: Path) -> None:
    changed(release, lambda means: replace(means, animals=means.animals[1:] + means.animals[:1]))
    refused = refusal(release, **shadowed(tmp_path))
    assert refused.code == "shadow"
    assert "another animal's name" in str(refused)


def test_a_herd_that_nobody_belongs_to_any_more_is_refused(release: Path, tmp_path: Path) -> None:
    changed(release, lambda means: replace(means, threshold=means.threshold * 0 - 1))
    refused = refusal(release, **shadowed(tmp_path))
    assert refused.code == "shadow"
    assert "lose their name" in str(refused)


def test_recent_embeddings_that_are_torn_say_nothing(release: Path, tmp_path: Path) -> None:
    changed(release, lambda means: replace(means, threshold=means.threshold * 0 - 1))
    asked = shadowed(tmp_path)
    Path(asked["recent"]).write_bytes(Path(asked["recent"]).read_bytes()[:1000])
    assert check_release(Request(release=str(release), models=False, **asked)).crops == 0


# -- models ----------------------------------------------------------------------------------------


@slow
def test_a_good_release_passes(release: Path) -> None:
    answer = check_release(Request(release=str(release), models=True))
    assert answer.code is None
    assert answer.question_s is not None
    assert answer.question_s > 0


@slow
def test_a_model_that_answers_wrongly_is_refused(release: Path) -> None:
    path = release / "selftest.npz"
    test = load_self_test(path)
    np.savez_compressed(path, crops=test.crops, embeddings=-test.embeddings)
    sign_again(release)
    refused = refusal(release, models=True)
    assert refused.code == "self-test"
    assert "answers wrongly" in str(refused)


@slow
def test_a_model_that_wants_a_missing_accelerator_is_refused(release: Path) -> None:
    path = release / "detector.tflite"
    known, wanted = b"TFLite_Detection_PostProcess", b"edgetpu-custom-op-not-here!!"
    assert path.read_bytes().count(known) == 1
    path.write_bytes(path.read_bytes().replace(known, wanted))
    sign_again(release)
    refused = refusal(release, models=True)
    assert refused.code == "bundle"
    assert r"detector.tflite" in str(refused)


@slow
def test_a_model_that_is_slow_is_refused(release: Path) -> None:
    refused = refusal(release, models=True, most_frame_s=1e-6)
    assert refused.code == "slow"


def test_what_is_no_model_is_refused(release: Path) -> None:
    (release / "embedder.tflite").write_bytes(b"\0" * 4096)
    means = load_means(release / "means.npz")
    sign_again(release)
    header = msgspec.structs.replace(
        means.header, embedder_sha256=sha256_file(release / "embedder.tflite")
    )
    save_means(replace(means, header=header), release / "means.npz")
    sign_again(release)
    refused = refusal(release, models=True)
    assert refused.code in ("bundle", "crashed")


def test_a_file_that_is_not_what_the_manifest_says_is_refused(release: Path) -> None:
    with (release / "means.npz").open("r+b") as means:
        means.write(b"!")
    assert refusal(release).code == "bundle"


def test_a_bundle_that_only_names_crops_is_refused(release: Path) -> None:
    sign_again(release, detector=None)
    assert "detector" in str(refusal(release))


# -- the child itself ------------------------------------------------------------------------------


def child(program: str) -> list[str]:
    return [sys.executable, "-c", program]


def fate(release: Path, program: str, **limits: Any) -> TrialError:
    with pytest.raises(TrialError) as caught:
        check_release(
            Request(release=str(release), models=True), Limits(**limits), command=child(program)
        )
    return caught.value


def test_a_model_that_crashes_takes_the_child_only(release: Path) -> None:
    refused = fate(release, "import ctypes; ctypes.string_at(0)")
    assert refused.code == "crashed"
    assert "SIGSEGV" in str(refused)


def test_a_model_that_hangs_is_killed_with_all_it_started(release: Path, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = (
        "import os, subprocess, sys, time\n"
        "other = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{other.pid}}')\n"
        "time.sleep(600)\n"
    )
    refused = fate(release, program, seconds=2.0)
    assert refused.code == "hangs"
    for pid in map(int, pids.read_text().split()):
        end_s = time.monotonic() + 10
        while _runs(pid):
            assert time.monotonic() < end_s
            time.sleep(0.01)


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize(
    "program",
    [
        "pass",
        "raise SystemExit(3)",
        'import sys; sys.stdout.write(\'{"code": "fine"}\')',
        "import sys; sys.stdout.write('x' * 1000000)",
        "import sys; sys.stdout.buffer.write(b'\\xff\\xfe')",
    ],
)
def test_a_child_that_says_nothing_or_nonsense_has_not_passed(release: Path, program: str) -> None:
    assert fate(release, program).code == "crashed"


def test_its_last_words_are_told(release: Path) -> None:
    assert "no space for that" in str(fate(release, "raise OSError('no space for that')"))


def test_whoever_waits_is_told_that_it_goes_on(release: Path) -> None:
    told: list[float] = []
    with pytest.raises(TrialError):
        check_release(
            Request(release=str(release), models=True),
            Limits(seconds=2.5),
            alive=lambda: told.append(time.monotonic()),
            command=child("import time; time.sleep(600)"),
        )
    assert told
