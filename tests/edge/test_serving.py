from __future__ import annotations

import os
import shutil
import textwrap
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
import pytest

import edge.release.bundle
from edge.errors import AcceleratorError, BundleError, EarmarkError, SelfTestError
from edge.inference import Inference
from edge.release.bundle import load_bundle
from edge.serving import Serving, serve_bundle

pytestmark = pytest.mark.slow
DEMO = Path(__file__).resolve().parents[2] / "models" / "demo" / "bundle"


@pytest.fixture
def wrong_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For child processes: a runtime whose answers are wrong where WRONG_WITH says so.

    Such a pair of runtime and processor exists; see docs/arm64.md.
    """
    package = tmp_path / "fake" / "ai_edge_litert"
    package.mkdir(parents=True)
    real = str(Path(ai_edge_litert.__file__).parent)
    (package / "__init__.py").write_text(f"__path__ = [*__path__, {real!r}]\n")
    code = f"""
        import importlib.util, os, sys
        spec = importlib.util.spec_from_file_location(
            "ai_edge_litert.real_interpreter", {real!r} + "/interpreter.py")
        real = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = real
        spec.loader.exec_module(real)
        load_delegate = real.load_delegate

        class Interpreter(real.Interpreter):
            def __init__(self, *args, experimental_delegates=None, **kwargs):
                super().__init__(*args, experimental_delegates=experimental_delegates, **kwargs)
                where = "delegate" if experimental_delegates else "cpu"
                self.wrong = where in os.environ["WRONG_WITH"].split()

            def get_tensor(self, index):
                tensor = super().get_tensor(index)
                return tensor[..., ::-1].copy() if self.wrong else tensor
    """
    (package / "interpreter.py").write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(package.parent))


def crops() -> np.ndarray:
    return np.random.default_rng(2).integers(0, 256, (3, 128, 128, 3)).astype(np.uint8)


def test_a_served_bundle_answers_as_a_loaded_one() -> None:
    serving = serve_bundle(DEMO, threads=1)
    try:
        here = load_bundle(DEMO)
        ours, theirs = (bundle.embedder.embed(crops()) for bundle in (serving.bundle, here))
        assert (np.sum(ours * theirs, axis=1) > 0.999).all()
        assert serving.bundle.detector is not None
        assert serving.inference.backend == here.backend
        assert not serving.inference.degraded
    finally:
        serving.inference.close()


def test_a_runtime_that_answers_wrongly_serves_nobody(
    wrong_runtime: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRONG_WITH", "cpu")
    with pytest.raises(SelfTestError, match=r"selftest\.npz: this device's embeddings .* wrongly"):
        serve_bundle(DEMO, threads=1)


def test_an_accelerator_that_answers_wrongly_is_given_up_for_the_cpu(
    wrong_runtime: None, monkeypatch: pytest.MonkeyPatch, delegate_library: str
) -> None:
    monkeypatch.setenv("WRONG_WITH", "delegate")
    heard: list[tuple[str, str]] = []
    serving = serve_bundle(
        DEMO,
        accelerator=f"delegate:{delegate_library}",
        threads=1,
        listener=lambda event, text: heard.append((event, text)),
    )
    try:
        assert serving.inference.degraded
        assert serving.inference.backend.startswith("cpu")
        ours = serving.bundle.embedder.embed(crops())
        assert (np.sum(ours * load_bundle(DEMO).embedder.embed(crops()), axis=1) > 0.999).all()
    finally:
        serving.inference.close()
    ((event, text),) = heard
    assert event == "fallback"
    assert "delegate given up" in text
    assert "cosine" in text


def test_a_cpu_that_answers_wrongly_does_not_take_over(
    wrong_runtime: None, monkeypatch: pytest.MonkeyPatch, delegate_library: str
) -> None:
    monkeypatch.setenv("WRONG_WITH", "cpu")
    serving = serve_bundle(DEMO, accelerator=f"delegate:{delegate_library}", threads=1)
    try:
        serving.inference._patience.restarts = 0
        assert serving.inference.pid is not None
        os.kill(serving.inference.pid, 9)
        for _ in range(2):  # the next camera's question is not answered either
            with pytest.raises(SelfTestError, match="answers wrongly here"):
                serving.bundle.embedder.embed(crops())
        assert serving.inference.pid is None
    finally:
        serving.inference.close()


def test_a_restarted_child_gets_the_models_that_were_verified(tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    shutil.copytree(DEMO, directory)
    heard: list[str] = []
    serving = serve_bundle(directory, threads=1, listener=lambda event, text: heard.append(event))
    try:
        before = serving.bundle.embedder.embed(crops())
        altered = bytearray((DEMO / "embedder.tflite").read_bytes())
        altered[50_000:100_000] = bytes(value ^ 0x55 for value in altered[50_000:100_000])
        (directory / "new").write_bytes(altered)
        (directory / "new").replace(directory / "embedder.tflite")
        _kill(serving)
        np.testing.assert_array_equal(serving.bundle.embedder.embed(crops()), before)
        shutil.rmtree(directory)
        _kill(serving)
        np.testing.assert_array_equal(serving.bundle.embedder.embed(crops()), before)
        assert heard == ["restarted"] * 2
    finally:
        serving.inference.close()


@pytest.mark.parametrize("name", ["embedder.tflite", "selftest.npz"])
def test_a_bundle_that_was_written_over_serves_nobody(name: str, tmp_path: Path) -> None:
    directory = tmp_path / "bundle"
    shutil.copytree(DEMO, directory)
    serving = serve_bundle(directory, threads=1)
    try:
        with (directory / name).open("r+b") as file:
            file.seek(-100, os.SEEK_END)
            file.write(bytes(100))
        _kill(serving)
        for _ in range(2):
            with pytest.raises(BundleError, match=rf"{name}: was written over while it was in use"):
                serving.bundle.embedder.embed(crops())
        assert serving.inference.pid is None
    finally:
        serving.inference.close()


def test_a_bundle_that_is_replaced_while_it_is_loaded_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "bundle"
    shutil.copytree(DEMO, directory)
    keep = Inference.keep

    def replace_first(inference: Inference, path: Path) -> Any:
        if path.name == "selftest.npz":
            (directory / "new").write_bytes(b"other questions")
            (directory / "new").replace(path)
        return keep(inference, path)

    monkeypatch.setattr(Inference, "keep", replace_first)
    with pytest.raises(BundleError, match="was replaced while the bundle was loaded"):
        serve_bundle(directory, threads=1)


def test_every_child_answers_all_golden_questions(
    delegate_library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The accelerator dies half way through the self-test: the embedder was never asked on the CPU.
    asked: list[str] = []
    test = edge.release.bundle.check_embedder

    def note(*arguments: Any) -> float:
        serving = begun[0]
        asked.append(serving.backend.partition(" (")[0])
        result = test(*arguments)
        if len(asked) == 1:
            serving._patience.restarts = 0
            assert serving.pid is not None
            os.kill(serving.pid, 9)
        return result

    begun: list[Inference] = []
    monkeypatch.setattr(edge.release.bundle, "check_embedder", note)
    wanted = f"delegate:{delegate_library}"
    serving = serve_bundle(DEMO, accelerator=wanted, threads=1, begun=begun.append)
    serving.inference.close()
    assert asked == ["delegate", "cpu"]


def _kill(serving: Serving) -> None:
    assert serving.inference.pid is not None
    os.kill(serving.inference.pid, 9)


def test_a_required_accelerator_that_is_not_there(delegate_library: str) -> None:
    wanted = f"delegate:{delegate_library}?behaviour=refuse"
    with pytest.raises(EarmarkError, match="no such device is plugged in"):
        serve_bundle(DEMO, accelerator=wanted, require=True, threads=1)


def test_an_edge_tpu_that_would_have_nothing_to_do_is_told() -> None:
    heard: list[tuple[str, str]] = []
    serving = serve_bundle(
        DEMO, accelerator="edgetpu", threads=1, listener=lambda *told: heard.append(told)
    )
    serving.inference.close()
    assert serving.inference.degraded
    assert [event for event, _ in heard] == ["fallback"]
    assert "no files compiled for it" in heard[0][1]
    with pytest.raises(AcceleratorError, match="no files compiled for it"):
        serve_bundle(DEMO, accelerator="edgetpu", require=True, threads=1)


def test_a_bundle_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such bundle folder"):
        serve_bundle(tmp_path / "none")
