"""What a manifest says of the files in a bundle folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import UsageError
from edge.files import sha256_file
from trainer.bundle import describe_files, package_versions

DEMO = Path(__file__).parents[2] / "models" / "demo" / "bundle"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "bundle"))


def test_files_that_belong_there_are_described_and_no_others(
    folder: Path, compiled_twin: Callable[[bytes], bytes]
) -> None:
    compiled = compiled_twin((folder / "detector.tflite").read_bytes())
    (folder / "detector_edgetpu.tflite").write_bytes(compiled)
    (folder / "detector_edgetpu.log").write_text("Model compiled successfully in 457 ms.")
    (folder / "stray.txt").write_text("x")
    files = describe_files(folder)
    assert {name: entry.role for name, entry in files.items()} == {
        "detector.tflite": "detector",
        "embedder.tflite": "embedder",
        "means.npz": "means",
        "selftest.npz": "self-test",
        "report.html": "report",
        "detector_edgetpu.tflite": "detector-edgetpu",
        "detector_edgetpu.log": "compiler-log",
    }
    entry = files["detector_edgetpu.tflite"]
    assert entry.size == len(compiled)
    assert entry.sha256 == sha256_file(folder / "detector_edgetpu.tflite")


def test_a_compiled_file_of_another_model_is_refused(
    folder: Path, compiled_twin: Callable[[bytes], bytes]
) -> None:
    other = compiled_twin((folder / "embedder.tflite").read_bytes())
    (folder / "detector_edgetpu.tflite").write_bytes(other)
    with pytest.raises(UsageError, match=r"detector_edgetpu\.tflite: "):
        describe_files(folder)


def test_versions_are_those_of_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    assert "numpy" in package_versions()

    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    assert package_versions() == {}
