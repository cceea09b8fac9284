from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ai_edge_litert import schema_py_generated as schema

from edge.errors import UsageError
from trainer.export.edgetpu_interface import check_same_interface

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
Twin = Callable[[bytes], bytes]


@pytest.fixture(params=["detector", "embedder"])
def plain(request: pytest.FixtureRequest) -> bytes:
    return (DEMO / f"{request.param}.tflite").read_bytes()


@pytest.fixture
def repack(tflite: Any) -> Callable[[bytes, Callable[[Any, Any], None]], bytes]:
    """Call with a file and a change to its (model, main graph)."""

    def change(data: bytes, act: Callable[[Any, Any], None]) -> bytes:
        tflite.model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
        tflite.graph = tflite.model.subgraphs[0]
        act(tflite.model, tflite.graph)
        return bytes(tflite.build(tflite.graph.inputs, tflite.graph.outputs))

    return change


def test_a_compiled_file_takes_the_plain_ones_place(plain: bytes, compiled_twin: Twin) -> None:
    check_same_interface(plain, compiled_twin(plain), "x_edgetpu.tflite")


def test_the_order_of_named_outputs_does_not_matter(
    compiled_twin: Twin, repack: Callable[..., bytes]
) -> None:
    plain = (DEMO / "detector.tflite").read_bytes()

    def turn(model: Any, graph: Any) -> None:
        graph.outputs = graph.outputs[::-1]

    check_same_interface(plain, repack(compiled_twin(plain), turn), "x")


def test_the_plain_file_is_not_a_compiled_one(plain: bytes) -> None:
    with pytest.raises(UsageError, match=r"x: has 0 edgetpu-custom-op .*nothing was compiled"):
        check_same_interface(plain, plain, "x")


def input_shape(model: Any, graph: Any) -> None:
    graph.tensors[graph.inputs[0]].shape = [1, 8, 8, 3]


def input_type(model: Any, graph: Any) -> None:
    graph.tensors[graph.inputs[0]].type = schema.TensorType.INT8


def input_scale(model: Any, graph: Any) -> None:
    graph.tensors[graph.inputs[0]].quantization.scale = [0.5]


def input_zero_point(model: Any, graph: Any) -> None:
    graph.tensors[graph.inputs[0]].quantization.zeroPoint = [1]


def second_input(model: Any, graph: Any) -> None:
    graph.inputs = [*graph.inputs, graph.outputs[0]]


def output_shape(model: Any, graph: Any) -> None:
    graph.tensors[graph.outputs[-1]].shape = [1, 3]


def output_type(model: Any, graph: Any) -> None:
    graph.tensors[graph.outputs[0]].type = schema.TensorType.INT16


def output_lost(model: Any, graph: Any) -> None:
    graph.outputs = graph.outputs[:-1]


def two_parts(model: Any, graph: Any) -> None:
    graph.operators = [graph.operators[0], *graph.operators]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (input_shape, r"input .* is uint8 \(1, 8, 8, 3\).*, the plain file's is uint8 \(1, 1"),
        (input_type, "is int8 .*, the plain file's is uint8"),
        (input_scale, "scale 0.5 "),
        (input_zero_point, "zero point 1,"),
        (second_input, "has 2 inputs, the plain file 1"),
        (output_shape, r"output .*\(1, 3\)"),
        (output_type, "output .* is int16"),
        (output_lost, "outputs"),
        (two_parts, "has 2 edgetpu-custom-op"),
    ],
)
def test_any_difference_is_told(
    plain: bytes,
    compiled_twin: Twin,
    repack: Callable[..., bytes],
    change: Callable[[Any, Any], None],
    complaint: str,
) -> None:
    with pytest.raises(UsageError, match=complaint) as caught:
        check_same_interface(plain, repack(compiled_twin(plain), change), "x_edgetpu.tflite")
    assert str(caught.value).startswith("x_edgetpu.tflite: ")
    assert "\n" not in str(caught.value)


def test_outputs_of_other_names_would_not_be_found_by_a_manifest(
    compiled_twin: Twin, repack: Callable[..., bytes]
) -> None:
    plain = (DEMO / "detector.tflite").read_bytes()

    def rename(model: Any, graph: Any) -> None:
        graph.tensors[graph.outputs[0]].name = "elsewhere"

    with pytest.raises(UsageError, match=r"its outputs are .*'elsewhere'"):
        check_same_interface(plain, repack(compiled_twin(plain), rename), "x")
    # An embedder's only output needs no name.
    plain = (DEMO / "embedder.tflite").read_bytes()
    check_same_interface(plain, repack(compiled_twin(plain), rename), "x")


def test_garbage_is_named() -> None:
    plain = (DEMO / "embedder.tflite").read_bytes()
    with pytest.raises(UsageError, match=r"x_edgetpu\.tflite: not a TFLite model"):
        check_same_interface(plain, b"garbage", "x_edgetpu.tflite")
