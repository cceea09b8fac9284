"""Loading a bundle: the demo's own, and everything that can be wrong with one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.errors import BundleError
from edge.files import sha256_file
from edge.identity.means import load_means, save_means
from edge.release.bundle import SELFTEST_NAME, load_bundle
from edge.release.manifest import content_id, decode_manifest, encode_manifest
from edge.release.selftest import GoldenFrames, SelfTest, load_self_test, save_self_test

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "bundle"))


def sign_again(bundle: Path) -> None:
    """Make the manifest agree with the files, as a mistaken exporter would."""
    path = bundle / "manifest.json"
    raw = json.loads(path.read_bytes())
    for name, entry in raw["files"].items():
        entry["sha256"] = sha256_file(bundle / name)
        entry["size"] = (bundle / name).stat().st_size
    manifest = decode_manifest(json.dumps(raw).encode(), "test")
    raw["id"] = content_id(manifest.files)
    path.write_bytes(encode_manifest(decode_manifest(json.dumps(raw).encode(), "test")))


def test_the_demo_bundle_loads_and_answers(bundle: Path) -> None:
    loaded = load_bundle(bundle)
    assert loaded.detector is not None
    assert len(loaded.means.animals) == loaded.manifest.means.animals == 16
    crops = np.full((2, loaded.embedder.size, loaded.embedder.size, 3), 90, np.uint8)
    norms = np.linalg.norm(loaded.embedder.embed(crops), axis=1)
    np.testing.assert_allclose(norms, 1, atol=1e-5)
    assert not len(loaded.detector.detect(np.full((720, 1280, 3), 128, np.uint8), 0.9))


def remove(name: str) -> Callable[[Path], None]:
    return lambda bundle: (bundle / name).unlink()


def truncate(name: str) -> Callable[[Path], None]:
    def act(bundle: Path) -> None:
        data = (bundle / name).read_bytes()
        (bundle / name).write_bytes(data[: len(data) // 2])

    return act


def flip_a_bit(name: str) -> Callable[[Path], None]:
    def act(bundle: Path) -> None:
        data = bytearray((bundle / name).read_bytes())
        data[len(data) // 2] ^= 1
        (bundle / name).write_bytes(bytes(data))

    return act


@pytest.mark.parametrize("damage", [remove, truncate, flip_a_bit])
@pytest.mark.parametrize(
    "name", ["detector.tflite", "embedder.tflite", "means.npz", "selftest.npz"]
)
def test_a_damaged_file_is_named(
    bundle: Path, name: str, damage: Callable[[str], Callable[[Path], None]]
) -> None:
    damage(name)(bundle)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")) as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [remove, truncate])
def test_a_damaged_manifest_is_named(
    bundle: Path, damage: Callable[[str], Callable[[Path], None]]
) -> None:
    damage("manifest.json")(bundle)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        load_bundle(bundle)


def test_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    (bundle / "means.npz").rename(target)
    (bundle / "means.npz").symlink_to(target)
    with pytest.raises(BundleError, match=r"means\.npz"):
        load_bundle(bundle)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle folder"):
        load_bundle(tmp_path / "nowhere")


def test_a_newer_schema_is_refused_politely(bundle: Path) -> None:
    raw = json.loads((bundle / "manifest.json").read_bytes())
    raw["schema"] = 2
    raw["something_new"] = True
    (bundle / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="newer than this agent's"):
        load_bundle(bundle)


def test_means_of_another_embedder_are_refused(bundle: Path) -> None:
    import msgspec

    means = load_means(bundle / "means.npz")
    header = msgspec.structs.replace(means.header, embedder_sha256="ab" * 32)
    other = type(means)(
        means.animals,
        means.prototypes,
        means.owner,
        means.sums,
        means.counts,
        means.threshold,
        means.margin,
        header,
    )
    save_means(other, bundle / "means.npz")
    sign_again(bundle)
    with pytest.raises(BundleError, match="another embedder"):
        load_bundle(bundle)


def change_self_test(bundle: Path, change: Callable[[SelfTest], SelfTest]) -> None:
    path = bundle / SELFTEST_NAME
    save_self_test(change(load_self_test(path)), path)
    sign_again(bundle)


def test_a_runtime_whose_embeddings_are_wrong_is_refused(bundle: Path) -> None:
    change_self_test(bundle, lambda t: replace(t, embeddings=np.roll(t.embeddings, 1, axis=1)))
    with pytest.raises(BundleError, match=r"embeddings are at cosine .* answers wrongly"):
        load_bundle(bundle)


def test_a_runtime_whose_finds_are_wrong_is_refused(bundle: Path) -> None:
    def elsewhere(frames: GoldenFrames | None) -> GoldenFrames:
        assert frames is not None
        return replace(frames, boxes=frames.boxes + 40)

    change_self_test(bundle, lambda t: replace(t, frames=elsewhere(t.frames)))
    with pytest.raises(BundleError, match=r"detector finds .* answers wrongly"):
        load_bundle(bundle)


def test_a_bundle_from_before_golden_frames_loads(bundle: Path) -> None:
    change_self_test(bundle, lambda t: replace(t, frames=None))
    assert load_bundle(bundle).detector is not None


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_self_test_without_numbers_is_no_pass(bundle: Path, value: float) -> None:
    def spoil(test: SelfTest) -> SelfTest:
        embeddings = test.embeddings.copy()
        embeddings[0, 0] = value
        return replace(test, embeddings=embeddings)

    change_self_test(bundle, spoil)
    with pytest.raises(BundleError, match="not unit vectors"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("wanted", "complaint"), [("9.0.0", "needs earmark 9.0.0 or newer"), ("soon", "not a version")]
)
def test_a_bundle_for_a_newer_agent_is_refused(bundle: Path, wanted: str, complaint: str) -> None:
    raw = json.loads((bundle / "manifest.json").read_bytes())
    raw["min_agent"] = wanted
    (bundle / "manifest.json").write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=complaint):
        load_bundle(bundle)


@pytest.fixture
def with_coral(bundle: Path) -> Path:
    """The demo bundle with files for a Coral, which a device without one does not open."""
    path = bundle / "manifest.json"
    raw = json.loads(path.read_bytes())
    for name in ("detector", "embedder"):
        (bundle / f"{name}_edgetpu.tflite").write_bytes(f"compiled {name}".encode())
        (bundle / f"{name}_edgetpu.log").write_text("Model compiled successfully in 457 ms.")
        raw["files"][f"{name}_edgetpu.tflite"] = {"role": f"{name}-edgetpu"}
        raw["files"][f"{name}_edgetpu.log"] = {"role": "compiler-log"}
    path.write_text(json.dumps(raw))
    sign_again(bundle)
    return bundle


def test_files_for_a_coral_are_verified_and_left_alone(with_coral: Path) -> None:
    loaded = load_bundle(with_coral)
    assert loaded.detector is not None
    assert loaded.manifest.files["detector_edgetpu.tflite"].size == len("compiled detector")


@pytest.mark.parametrize("damage", [remove, truncate, flip_a_bit])
@pytest.mark.parametrize("name", ["detector_edgetpu.tflite", "embedder_edgetpu.tflite"])
def test_a_damaged_file_for_a_coral_is_named(
    with_coral: Path, name: str, damage: Callable[[str], Callable[[Path], None]]
) -> None:
    damage(name)(with_coral)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        load_bundle(with_coral)


def test_a_file_for_a_coral_of_another_role_is_refused(with_coral: Path) -> None:
    path = with_coral / "manifest.json"
    raw = json.loads(path.read_bytes())
    raw["files"]["detector_edgetpu.tflite"]["role"] = "detector"
    path.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match="role 'detector' instead of 'detector-edgetpu'"):
        load_bundle(with_coral)


def test_a_file_for_a_coral_without_its_plain_one_is_refused(with_coral: Path) -> None:
    path = with_coral / "manifest.json"
    raw = json.loads(path.read_bytes())
    raw["detector"] = None
    path.write_text(json.dumps(raw))
    with pytest.raises(BundleError, match=r"detector_edgetpu\.tflite without detector\.tflite"):
        load_bundle(with_coral)
