"""Expected verdicts are read off Google's table and model requirements, and off published logs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import UsageError
from trainer.export.edgetpu import as_metrics, inspect, obstacle
from trainer.export.edgetpu_ops import SUPPORTED
from trainer.export.tflite_graph import Operator, read_graph

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
# The rows of the table for runtime 14, as https://coral.ai/docs/edgetpu/models-intro/ names them.
GOOGLES_TABLE = {
    "Add", "AveragePool2d", "Concatenation", "Conv2d", "DepthwiseConv2d", "ExpandDims",
    "FullyConnected", "L2Normalization", "Logistic", "LSTM", "Maximum", "MaxPool2d", "Mean",
    "Minimum", "Mul", "Pack", "Pad", "PReLU", "Quantize", "ReduceMax", "ReduceMin", "ReLU", "ReLU6",
    "ReLUN1To1", "Reshape", "ResizeBilinear", "ResizeNearestNeighbor", "Rsqrt", "Slice", "Softmax",
    "SpaceToDepth", "Split", "Squeeze", "StridedSlice", "Sub", "Sum", "Squared-difference", "Tanh",
    "Transpose", "TransposeConv",
}  # fmt: skip
RELU = 1


def test_the_table_is_googles() -> None:
    ours = {name.replace("_", "").lower() for name in SUPPORTED}
    googles = {name.replace("-", "").lower() for name in GOOGLES_TABLE}
    # Unidirectional LSTM is two operators in TFLite's schema.
    assert ours == googles | {"unidirectionalsequencelstm"}


Build = Callable[[Any], Operator]


def operator(maker: Any, name: str, inputs: list[int], output: int, **more: Any) -> Operator:
    maker.operator(name, inputs, [output], **more)
    (found,) = read_graph(maker.build(inputs[:1], [output]), "f").operators
    return found


def fused(name: str, kind: str, activation: int) -> Build:
    def build(maker: Any) -> Operator:
        rows = [maker.tensor((1, 8, 8, 4)), maker.tensor((1, 4, 4, 4))]
        return operator(maker, name, rows[:1], rows[1], kind=kind,
                        fusedActivationFunction=activation)  # fmt: skip

    return build


def concatenation(*constants: Any, others: int = 1) -> Build:
    def build(maker: Any) -> Operator:
        rows = [maker.tensor((1, 4), zero_points=(3,)) for _ in range(others)]
        rows += [maker.constant([values], "int8", zero_points=(3,)) for values in constants]
        return operator(maker, "CONCATENATION", rows, maker.tensor((1, 8)))

    return build


def convolution(
    height: int = 1, width: int = 1, *, computed: bool = False, weights: str = "int8"
) -> Build:
    def build(maker: Any) -> Operator:
        filters = np.ones((4, 3, 3, 4))
        rows = [
            maker.tensor((1, 8, 8, 4)),
            maker.tensor(filters.shape) if computed else maker.constant(filters, weights),
            maker.constant([0] * 4),
        ]
        return operator(maker, "CONV_2D", rows, maker.tensor((1, 8, 8, 4)), version=3,
                        kind="Conv2DOptions", dilationHFactor=height,
                        dilationWFactor=width)  # fmt: skip

    return build


def dense(output: tuple[int, ...], *, version: int = 4, weights_format: int = 0) -> Build:
    def build(maker: Any) -> Operator:
        rows = [maker.tensor((1, 3)), maker.constant(np.ones((6, 3)), "int8"), -1]
        return operator(maker, "FULLY_CONNECTED", rows, maker.tensor(output), version=version,
                        kind="FullyConnectedOptions", weightsFormat=weights_format)  # fmt: skip

    return build


def reduction(name: str, shape: tuple[int, ...], axes: list[int]) -> Build:
    def build(maker: Any) -> Operator:
        rows = [maker.tensor(shape), maker.constant(axes)]
        return operator(maker, name, rows, maker.tensor((1, 4)), version=2)

    return build


def with_constants(name: str, shape: tuple[int, ...], *constants: Any, **more: Any) -> Build:
    def build(maker: Any) -> Operator:
        rows = [maker.tensor(shape), *(maker.constant(values) for values in constants)]
        return operator(maker, name, rows, maker.tensor((1, 2)), **more)

    return build


def split(axis: int) -> Build:
    def build(maker: Any) -> Operator:
        rows = [maker.constant(axis), maker.tensor((1, 4, 4, 4))]
        maker.operator("SPLIT", rows, [maker.tensor((1, 2)), maker.tensor((1, 2))])
        (found,) = read_graph(maker.build(rows[1:], []), "f").operators
        return found

    return build


def pack(axis: int) -> Build:
    def build(maker: Any) -> Operator:
        rows = [maker.tensor((4, 4, 4)), maker.tensor((4, 4, 4))]
        return operator(maker, "PACK", rows, maker.tensor((1, 4, 4, 8)), kind="PackOptions",
                        axis=axis)  # fmt: skip

    return build


def prelu(alpha: tuple[int, ...]) -> Build:
    def build(maker: Any) -> Operator:
        rows = [maker.tensor((1, 8, 8, 4)), maker.constant(np.ones(alpha), "int8")]
        return operator(maker, "PRELU", rows, maker.tensor((1, 8, 8, 4)))

    return build


def plain(
    name: str, shape: tuple[int, ...] | None, dtype: str = "int8", version: int = 1, **more: Any
) -> Build:
    def build(maker: Any) -> Operator:
        rows = [maker.tensor(shape, dtype, **more), maker.tensor((1, 4))]
        return operator(maker, name, rows[:1], rows[1], version=version)

    return build


@pytest.mark.parametrize(
    ("build", "why"),
    [
        (fused("AVERAGE_POOL_2D", "Pool2DOptions", 0), None),
        (fused("AVERAGE_POOL_2D", "Pool2DOptions", RELU), r"fused activation \(RELU\)"),
        (fused("MAX_POOL_2D", "Pool2DOptions", RELU), "fused activation"),
        (fused("CONCATENATION", "ConcatenationOptions", RELU), "fused activation"),
        (concatenation(others=2), None),
        # Zero is the zero point.
        (concatenation([3, 3, 3, 3]), None),
        (concatenation([0, 0, 0, 0]), "constant among the inputs"),
        (concatenation([3, 3, 3, 3], others=2), "constant among the inputs"),
        (concatenation([3, 3], [3, 3], others=1), "constant among the inputs"),
        (convolution(), None),
        (convolution(2, 2), None),
        (convolution(2, 1), "dilations 2 and 1 differ"),
        (convolution(computed=True), "not constant"),
        (convolution(weights="float32"), "float32 parameter"),
        (dense((1, 6)), None),
        (dense((6,)), None),
        (dense((2, 6)), "2×6 is not one-dimensional"),
        (dense((1, 6), weights_format=1), "default format"),
        (dense((1, 6), version=9), None),
        (dense((1, 6), version=10), "version 10 is newer than the 9"),
        (reduction("MEAN", (1, 8, 8, 6), [1, 2]), None),
        (reduction("MEAN", (1, 8, 8, 8), [3]), None),
        (reduction("MEAN", (1, 8, 8, 6), [-1]), "6 channels, which is not a multiple of 4"),
        (reduction("MEAN", (1, 8, 8, 6), [0]), "batch"),
        (reduction("REDUCE_MAX", (1, 8, 8, 6), [1, 2]), None),
        (reduction("REDUCE_MAX", (1, 8, 8, 6), [-4]), "batch"),
        (reduction("SUM", (1, 8, 8, 6), [0, 1]), "batch"),
        (with_constants("PAD", (1, 8, 8, 4), [[0, 0], [1, 1], [1, 1], [0, 0]]), None),
        (with_constants("PAD", (1, 8, 8, 4), [[0, 1], [1, 1], [1, 1], [0, 0]]), "pads the batch"),
        (split(3), None),
        (split(0), "splits the batch"),
        (split(-4), "splits the batch"),
        (pack(3), None),
        (pack(0), "packs along the batch"),
        (pack(-4), "packs along the batch"),
        (prelu((1, 1, 4)), None),
        (prelu((8, 8, 4)), "alpha 8×8×4"),
        (plain("SOFTMAX", (1, 16_000)), None),
        (plain("SOFTMAX", (1, 16_001)), "16001 elements"),
        (plain("SOFTMAX", (1, 5, 4)), "1×5×4 is not one-dimensional"),
        (with_constants("STRIDED_SLICE", (1, 8, 8, 4), [0] * 4, [4] * 4, [1] * 4), None),
        (with_constants("STRIDED_SLICE", (1, 8, 8, 4), [0] * 4, [4] * 4, [1, 2, 2, 1]),
         "strides 1×2×2×1"),
        (with_constants("STRIDED_SLICE", (1, 8, 8, 4), [0] * 4, [4] * 4, [1] * 4,
                        kind="StridedSliceOptions", newAxisMask=1), "new axis"),
        (with_constants("RESHAPE", (1, 8, 8, 4), [1, 256]), None),
        (with_constants("TRANSPOSE", (1, 8, 8, 4), [0, 2, 1, 3]), None),
        (plain("LOGISTIC", (1, 8)), None),
        (plain("LOGISTIC", (1, 8), "uint8"), None),
        (plain("LOGISTIC", (1, 8), "int16", scales=(0.1,)), "works on int16"),
        (plain("LOGISTIC", (1, 8), "float32"), "works on float32"),
        (plain("LOGISTIC", (1, 8), scales=()), "int8 without a quantisation"),
        (plain("LOGISTIC", (2, 8, 8, 4)), "batch of 2"),
        (plain("LOGISTIC", (1, 2, 8, 8, 4)), "5 dimensions"),
        (plain("LOGISTIC", (1, 1, 8, 8, 4)), None),
        (plain("LOGISTIC", (1, 8), signature=(1, -1)), "only at run time"),
        (plain("LOGISTIC", None), "only at run time"),
        (plain("HARD_SWISH", (1, 8)), "not supported"),
        (plain("LEAKY_RELU", (1, 8)), "not supported"),
        (plain("ARG_MAX", (1, 8)), "not supported"),
        (plain("TILE", (1, 8), version=2), "not supported"),
        # TensorFlow 2.8's.
        (plain("TILE", (1, 8), version=3), "version 3 is newer than the 2 .*the whole file"),
    ],
)  # fmt: skip
def test_an_operator_by_itself(tflite: Any, build: Build, why: str | None) -> None:
    reason = obstacle(build(tflite))
    if why is None:
        assert reason is None
    else:
        assert reason is not None
        assert re.search(why, reason), reason


def chain(maker: Any, *names: str, first: str = "int8") -> bytes:
    """Return a file of one-input operators in a row."""
    rows = [maker.tensor((1, 8), first)] + [maker.tensor((1, 8)) for _ in names]
    for row, name in enumerate(names):
        maker.operator(name, rows[row : row + 1], rows[row + 1 : row + 2],
                       custom=name.startswith("My"))  # fmt: skip
    return bytes(maker.build(rows[:1], rows[-1:]))


def mapped(data: bytes) -> list[bool]:
    return [verdict.mapped for verdict in inspect(read_graph(data, "f"), "f").operators]


def test_everything_after_the_first_on_the_cpu_stays_there(tflite: Any) -> None:
    data = chain(tflite, "LOGISTIC", "RELU", "MyOwn", "RELU", "TANH")
    assert mapped(data) == [True, True, False, False, False]
    report = inspect(read_graph(data, "f"), "f")
    assert report.on_cpu() == [
        ("MyOwn", "a custom operator, always on the CPU", 1),
        ("RELU", "would be supported, but comes after an operator that stays on the CPU", 1),
        ("TANH", "would be supported, but comes after an operator that stays on the CPU", 1),
    ]


def test_the_quantisation_of_a_float_input_does_not_keep_the_rest_on_the_cpu(tflite: Any) -> None:
    # As published for a float input: github.com/google-coral/edgetpu, issue 13.
    assert mapped(chain(tflite, "QUANTIZE", "RELU", "TANH", first="float32")) == [False, True, True]


def test_a_float_operator_in_the_middle_does(tflite: Any) -> None:
    rows = [tflite.tensor((1, 8), dtype) for dtype in ("int8", "float32", "int8", "int8")]
    for row, name in enumerate(("DEQUANTIZE", "QUANTIZE", "RELU")):
        tflite.operator(name, rows[row : row + 1], rows[row + 1 : row + 2])
    assert mapped(tflite.build(rows[:1], rows[-1:])) == [False, False, False]


def test_nothing_that_can_be_mapped(tflite: Any) -> None:
    report = inspect(read_graph(chain(tflite, "MyOwn", "MyOther"), "f"), "f")
    assert (report.mapped, report.parameters_bytes) == (0, 0)


def test_a_branch_that_does_not_depend_on_the_cpu_is_mapped(tflite: Any) -> None:
    start, left, right, end = (tflite.tensor((1, 8)) for _ in range(4))
    tflite.operator("MyOwn", [start], [left], custom=True)
    tflite.operator("RELU", [start], [right])
    tflite.operator("ADD", [left, right], [end])
    assert mapped(tflite.build([start], [end])) == [False, True, False]


def test_parameters_are_those_of_the_edge_tpu_each_counted_once(tflite: Any) -> None:
    rows = [tflite.tensor((1, 8, 8, 4)) for _ in range(4)]
    weights = tflite.constant(np.ones((4, 1, 1, 4)), "int8")  # 16 bytes
    bias = tflite.constant([0] * 4)  # 16 bytes
    tflite.operator("CONV_2D", [rows[0], weights, bias], [rows[1]], kind="Conv2DOptions")
    tflite.operator("CONV_2D", [rows[1], weights, bias], [rows[2]], kind="Conv2DOptions")
    anchors = tflite.constant(np.zeros(1000), "float32")
    tflite.operator("MyOwn", [rows[2], anchors], [rows[3]], custom=True)
    assert inspect(read_graph(tflite.build(rows[:1], rows[3:]), "f"), "f").parameters_bytes == 32


def test_dense_weights_by_channel_are_not_certain(tflite: Any) -> None:
    rows = [tflite.tensor((1, 3)), tflite.tensor((1, 2))]
    weights = tflite.constant(np.ones((2, 3)), "int8", scales=(0.1, 0.2), zero_points=(0, 0))
    tflite.operator("FULLY_CONNECTED", [rows[0], weights], rows[1:], version=4)
    report = inspect(read_graph(tflite.build(rows[:1], rows[1:]), "f"), "f")
    assert report.mapped == 1
    ((name, caution, count),) = report.cautions()
    assert (name, count) == ("FULLY_CONNECTED", 1)
    assert "scale for each channel" in caution


@pytest.mark.parametrize(
    ("name", "total", "cpu"),
    [
        # As in the published log of an SSD MobileNet V2: 110 of 113, these three on the CPU
        # (github.com/tensorflow/models, issue 9033).
        ("detector.tflite", 33, {"DEQUANTIZE": 2, "TFLite_Detection_PostProcess": 1}),
        ("embedder.tflite", 45, {}),
    ],
)
def test_the_models_of_the_project(name: str, total: int, cpu: dict[str, int]) -> None:
    report = inspect(read_graph((DEMO / name).read_bytes(), name), name)
    assert len(report.operators) == total
    assert {row: count for row, _, count in report.on_cpu()} == cpu
    assert report.mapped == total - sum(cpu.values())
    assert 0 < report.parameters_bytes < (DEMO / name).stat().st_size
    assert report.fits


def test_metrics_have_the_agreed_names() -> None:
    name = "detector.tflite"
    report = inspect(read_graph((DEMO / name).read_bytes(), name), name)
    metrics = as_metrics(report, compiled=True)
    assert set(metrics) == {"mapped", "total", "parameters_bytes", "compiled", "cpu_operators"}
    assert metrics["compiled"] is True
    assert [set(row) for row in metrics["cpu_operators"]] == [{"name", "why", "count"}] * 2


def test_a_compiled_file_is_no_plain_one(compiled_twin: Callable[[bytes], bytes]) -> None:
    data = compiled_twin((DEMO / "detector.tflite").read_bytes())
    with pytest.raises(UsageError, match=r"x\.tflite: compiled for the Edge TPU already"):
        inspect(read_graph(data, "x.tflite"), "x.tflite")


def test_a_file_without_operators_is_refused(tflite: Any) -> None:
    row = tflite.tensor((1, 2))
    with pytest.raises(UsageError, match="no operators"):
        inspect(read_graph(tflite.build([row], [row]), "f"), "f")
