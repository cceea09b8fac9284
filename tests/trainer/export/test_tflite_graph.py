from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import UsageError
from trainer.export.tflite_graph import Graph, read_graph

DEMO = Path(__file__).parents[3] / "models" / "demo" / "bundle"
EMBEDDER = (DEMO / "embedder.tflite").read_bytes()


def test_everything_that_was_written_is_read(tflite: Any) -> None:
    image = tflite.tensor(
        (1, 4, 6, 3), "uint8", name="image", scales=(0.25,), zero_points=(7,),
        signature=(-1, 4, 6, 3),
    )  # fmt: skip
    weights = tflite.constant(
        np.arange(6).reshape(2, 1, 1, 3), "int8", name="w", scales=(0.5, 2.0), zero_points=(0, 0)
    )
    output = tflite.tensor((1, 4, 6, 2), name="out")
    tflite.operator(
        "CONV_2D", [image, weights, -1], [output], version=3, kind="Conv2DOptions",
        strideW=1, dilationHFactor=2, fusedActivationFunction=3,
    )  # fmt: skip
    graph = read_graph(tflite.build([image], [output]), "f")

    (operator,) = graph.operators
    assert (operator.name, operator.version, operator.custom) == ("CONV_2D", 3, False)
    first, second, bias = operator.inputs
    assert bias is None
    assert first is graph.inputs[0]
    assert (first.name, first.shape, first.dtype) == ("image", (1, 4, 6, 3), "uint8")
    assert (first.scales, first.zero_points, first.data) == ((0.25,), (7,), None)
    # A batch of unknown size is one; nothing else is unknown.
    assert not first.dynamic
    assert second is not None
    assert second.scales == (0.5, 2.0)
    assert second.data is not None
    assert second.data.tolist() == [0, 1, 2, 3, 4, 5]
    assert [tensor.name for tensor in graph.outputs] == ["out"]
    assert operator.options["stride_w"] == 1
    assert operator.options["dilation_h_factor"] == 2
    assert operator.options["fused_activation_function"] == 3


@pytest.mark.parametrize(
    ("shape", "signature", "dynamic"),
    [
        ((), None, False),
        (None, None, True),
        ((1, 3), (1, -1), True),
        ((1, 3), (-1, 3), False),
        ((-1, 3), None, True),
    ],
)
def test_what_is_known_of_a_shape(
    tflite: Any, shape: tuple[int, ...] | None, signature: tuple[int, ...] | None, dynamic: bool
) -> None:
    row = tflite.tensor(shape, signature=signature)
    (tensor,) = read_graph(tflite.build([row], []), "f").inputs
    assert (tensor.shape, tensor.dynamic) == (shape, dynamic)


def test_a_custom_operator_has_its_own_name_and_attributes(tflite: Any) -> None:
    rows = [tflite.tensor((1,)), tflite.tensor((1,))]
    attributes = {"num_classes": 90, "nms_iou_threshold": 0.5, "use_regular_nms": False}
    tflite.operator("Mine", rows[:1], rows[1:], custom=True, attributes=attributes)
    (operator,) = read_graph(tflite.build(rows[:1], rows[1:]), "f").operators
    assert (operator.name, operator.custom) == ("Mine", True)
    assert operator.attributes() == attributes


@pytest.mark.parametrize("options", [b"", b"\x00", b"\x01\x04\x01", b"\xff" * 40])
def test_attributes_that_are_none_are_refused(tflite: Any, options: bytes) -> None:
    rows = [tflite.tensor((1,)), tflite.tensor((1,))]
    tflite.operator("Mine", rows[:1], rows[1:], custom=True)
    tflite.graph.operators[0].customOptions = list(options)
    (operator,) = read_graph(tflite.build(rows[:1], rows[1:]), "f").operators
    with pytest.raises(UsageError, match="Mine: its attributes"):
        operator.attributes()


def test_a_model_of_the_project_is_read_whole() -> None:
    graph = read_graph(EMBEDDER, "embedder.tflite")
    assert graph.operators[0].name == "QUANTIZE"
    assert graph.operators[-1].name == "L2_NORMALIZATION"
    assert graph.inputs[0].shape == (1, 128, 128, 3)
    assert graph.outputs[0].scales == (1 / 128,)


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"not a model at all", b"\0" * 64, b"\x1c\0\0\0TFL4" + b"\0" * 64]
)
def test_what_is_no_model_is_named(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"x\.tflite: not a TFLite model"):
        read_graph(data, "x.tflite")


def test_a_truncated_model_is_named_in_one_line() -> None:
    with pytest.raises(UsageError, match=r"x\.tflite: .*truncated or damaged") as caught:
        read_graph(EMBEDDER[: len(EMBEDDER) // 2], "x.tflite")
    assert "\n" not in str(caught.value)


# The tables lie at both ends of a file; what is between are weights.
_PLACES = st.one_of(st.integers(8, 3000), st.integers(len(EMBEDDER) - 40_000, len(EMBEDDER) - 1))


@given(st.lists(st.tuples(_PLACES, st.integers(0, 255)), min_size=1, max_size=20))
def test_damaged_bytes_are_a_graph_or_one_clear_error(damage: list[tuple[int, int]]) -> None:
    data = bytearray(EMBEDDER)
    for place, value in damage:
        data[place] = value
    with contextlib.suppress(UsageError):
        assert isinstance(read_graph(bytes(data), "x.tflite"), Graph)
