from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import BundleError, EarmarkError
from edge.vision import runtime
from edge.vision.runtime import LocalModel, open_model, quantisation_table, runtime_name


def detail(name: str, dtype: type, scale: float = 0.0, zero_point: int = 0) -> dict[str, Any]:
    return {
        "name": name,
        "index": hash(name) % 1000,
        "shape": np.array([1, 2]),
        "dtype": dtype,
        "quantization": (scale, zero_point),
    }


class Interpreter:
    """Gives back what was set, as every output."""

    def __init__(self, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> None:
        self._inputs, self._outputs = inputs, outputs
        self._tensors: dict[int, np.ndarray] = {}

    def get_input_details(self) -> list[dict[str, Any]]:
        return self._inputs

    def get_output_details(self) -> list[dict[str, Any]]:
        return self._outputs

    def set_tensor(self, index: int, tensor: np.ndarray) -> None:
        self._tensors[index] = tensor

    def invoke(self) -> None:
        (given,) = self._tensors.values()
        for output in self._outputs:
            self._tensors[output["index"]] = given.astype(output["dtype"])

    def get_tensor(self, index: int) -> np.ndarray:
        return self._tensors[index]


def test_outputs_are_real_numbers_by_name() -> None:
    outputs = [detail("plain", np.float32), detail("small", np.int8, 0.5, 3)]
    model = LocalModel(Interpreter([detail("in", np.int8, 0.5, 3)], outputs), Path("m"), "cpu")
    assert (model.input.name, model.input.shape, model.input.scale) == ("in", (1, 2), 0.5)
    results = model.invoke(np.array([[-128, 5]], np.int8))
    assert results["plain"].tolist() == [[-128, 5]]
    assert results["small"].tolist() == [[-65.5, 1]]
    assert {array.dtype for array in results.values()} == {np.dtype(np.float32)}


def test_a_model_with_two_inputs_is_refused() -> None:
    inputs = [detail("a", np.int8), detail("b", np.int8)]
    with pytest.raises(BundleError, match="one input, it has 2"):
        LocalModel(Interpreter(inputs, []), Path("m.tflite"), "cpu")


def test_the_table_quantises_every_pixel_value() -> None:
    # real = pixel / 127.5 - 1; int8 of scale 1/128 and zero point 0 rounds it and stops at 127.
    table = quantisation_table(1 / 128, 0, np.dtype(np.int8), 1 / 127.5, -1)
    assert table.dtype == np.int8
    assert table.shape == (256,)
    assert (table[0], table[255]) == (-128, 127)
    assert table[128] == round((128 / 127.5 - 1) * 128)
    assert (np.diff(table.astype(int)) >= 0).all()


def test_identity_quantisation_of_uint8_and_no_quantisation_of_floats() -> None:
    plain = quantisation_table(1.0, 0, np.dtype(np.uint8), 1, 0)
    np.testing.assert_array_equal(plain, np.arange(256))
    real = quantisation_table(0.0, 0, np.dtype(np.float32), 2, -1)
    assert real.dtype == np.float32
    assert (real[0], real[255]) == (-1, 509)


@pytest.mark.parametrize("zero_point", [-128, -3, 0, 127])
def test_a_quantised_pixel_is_half_a_step_from_the_truth_or_at_a_limit(zero_point: int) -> None:
    scale = 0.01
    table = quantisation_table(scale, zero_point, np.dtype(np.int8), 1 / 255, 0).astype(float)
    real, pixels = (table - zero_point) * scale, np.arange(256) / 255
    inside = (table > -128) & (table < 127)
    assert np.abs(real - pixels)[inside].max(initial=0) <= scale / 2 + 1e-9
    # What does not fit lies at the limit that is nearest.
    assert ((table == 127) | inside | (pixels < 0.01)).all()


def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"not a model at all")
    with pytest.raises(BundleError, match=r"broken\.tflite is not a model that"):
        open_model(broken)
    with pytest.raises(BundleError, match="not a model"):
        open_model(tmp_path / "missing.tflite")


def test_a_coral_model_on_the_cpu_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Runtime:
        @staticmethod
        def Interpreter(model_path: str, num_threads: int) -> None:  # noqa: N802
            raise RuntimeError("Encountered unresolved custom op: edgetpu-custom-op.")

    monkeypatch.setattr(runtime, "_load_runtime", lambda: (Runtime, "litert 1"))
    with pytest.raises(BundleError, match="compiled for a Coral Edge TPU"):
        open_model(Path("m_edgetpu.tflite"))


def test_without_a_runtime_the_extra_to_install_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "_RUNTIMES", (("no_such_module_here", "none"),))
    with pytest.raises(EarmarkError, match=r"earmark\[edge\]"):
        runtime_name()
