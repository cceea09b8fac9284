"""TFLite files made by hand, operator by operator, and a double for Google's compiler."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

EDGETPU_OPERATOR = "edgetpu-custom-op"
POST_PROCESS = "TFLite_Detection_PostProcess"


def pack(model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def unpack(data: bytes) -> Any:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


class TfliteMaker:
    """Tensors and operators in, the bytes of a file out. The first buffer is the empty one."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        shape: tuple[int, ...] | None,
        dtype: str = "int8",
        *,
        name: str = "",
        scales: tuple[float, ...] | None = None,
        zero_points: tuple[int, ...] | None = None,
        data: np.ndarray | None = None,
        signature: tuple[int, ...] | None = None,
    ) -> int:
        """Add a tensor and return its index; 8-bit ones are quantised unless scales is ()."""
        tensor = schema.TensorT()
        tensor.name = name or f"t{len(self.graph.tensors)}"
        tensor.type = getattr(schema.TensorType, dtype.upper())
        tensor.hasRank = shape is not None
        tensor.shape = list(shape) if shape is not None else []
        tensor.shapeSignature = None if signature is None else list(signature)
        if scales is None:
            scales = (0.5,) if dtype in ("int8", "uint8") else ()
        if scales:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = list(scales)
            tensor.quantization.zeroPoint = list(zero_points or (0,) * len(scales))
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = list(data.tobytes())
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def constant(self, values: Any, dtype: str = "int32", **more: Any) -> int:
        array = np.asarray(values, dtype)
        return self.tensor(array.shape, dtype, data=array, **more)

    def operator(
        self,
        name: str,
        inputs: list[int],
        outputs: list[int],
        *,
        version: int = 1,
        custom: bool = False,
        attributes: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Add an operator. options: fields of the operator's own options, as in the schema."""
        code = schema.OperatorCodeT()
        code.version = version
        number = schema.BuiltinOperator.CUSTOM if custom else getattr(schema.BuiltinOperator, name)
        code.builtinCode, code.deprecatedBuiltinCode = number, min(number, 127)
        code.customCode = name if custom else None
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = inputs, outputs
        if attributes is not None:
            operator.customOptions = list(flexbuffers.Dumps(attributes))
        if options:
            kind = options.pop("kind")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(schema, f"{kind}T")()
            for field, value in options.items():
                assert hasattr(operator.builtinOptions, field), field
                setattr(operator.builtinOptions, field, value)
        self.graph.operators.append(operator)

    def build(self, inputs: list[int], outputs: list[int]) -> bytes:
        self.graph.inputs, self.graph.outputs = inputs, outputs
        return pack(self.model)


@pytest.fixture
def tflite() -> TfliteMaker:
    """A TFLite file in the making."""
    return TfliteMaker()


@pytest.fixture
def make_detector() -> Callable[..., bytes]:
    """Call for a detector that finds the same in every image.

    Two boxes by `y x y x`, of two classes: (0.3 0.4 0.7 0.6) of class 1 at 0.9 and
    (0.0 0.0 0.2 0.1) of class 0 at 0.6. Its input is not looked at.
    """

    def make(
        dtype: str = "uint8",
        scale: float = 1 / 127.5,
        zero_point: int = 128,
        *,
        shape: tuple[int, ...] = (1, 40, 80, 3),
        num_classes: int = 2,
        post_processes: int = 1,
        **attributes: Any,
    ) -> bytes:
        maker = TfliteMaker()
        quantised = {"scales": (scale,), "zero_points": (zero_point,)} if scale else {"scales": ()}
        image = maker.tensor(shape, dtype, name="image", **quantised)
        # Encodings of zero leave the anchors (centre y x, height, width) as they are.
        encodings = maker.constant(np.zeros((1, 2, 4)), "float32")
        anchors = maker.constant([[0.5, 0.5, 0.4, 0.2], [0.1, 0.05, 0.2, 0.1]], "float32")
        background = 0.01
        scores = maker.constant([[[background, 0.2, 0.9], [background, 0.6, 0.1]]], "float32")
        outputs = []
        for _ in range(post_processes):
            outputs = [
                maker.tensor((1, 4, 4), "float32", name="PP"),
                maker.tensor((1, 4), "float32", name="PP:1"),
                maker.tensor((1, 4), "float32", name="PP:2"),
                maker.tensor((1,), "float32", name="PP:3"),
            ]
            told = {
                "max_detections": 4,
                "max_classes_per_detection": 1,
                "num_classes": num_classes,
                "nms_score_threshold": 0.05,
                "nms_iou_threshold": 0.5,
                "use_regular_nms": False,
                "y_scale": 10.0,
                "x_scale": 10.0,
                "h_scale": 5.0,
                "w_scale": 5.0,
            } | attributes
            inputs = [encodings, scores, anchors]
            maker.operator(POST_PROCESS, inputs, outputs, custom=True, attributes=told)
        boxes, classes, found, count = outputs
        # In an order that is not the operator's.
        return maker.build([image], [found, count, boxes, classes])

    return make


def compile_by_hand(plain: bytes, cpu: tuple[str, ...] = ("DEQUANTIZE", POST_PROCESS)) -> bytes:
    """Return `plain` with all operators but those named in one for the Edge TPU, put first."""
    model = unpack(plain)
    graph = model.subgraphs[0]

    def name(operator: Any) -> str:
        code = model.operatorCodes[operator.opcodeIndex]
        if code.customCode is not None:
            return str(code.customCode.decode())
        values = vars(schema.BuiltinOperator).items()
        return next(key for key, value in values if value == code.builtinCode)

    kept = [operator for operator in graph.operators if name(operator) in cpu]
    made = {row for operator in graph.operators for row in operator.outputs}
    made -= {row for operator in kept for row in operator.outputs}
    wanted = {row for operator in kept for row in operator.inputs} | set(graph.outputs)
    code = schema.OperatorCodeT()
    code.builtinCode, code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM, 32
    code.customCode, code.version = EDGETPU_OPERATOR, 1
    model.operatorCodes.append(code)
    part = schema.OperatorT()
    part.opcodeIndex = len(model.operatorCodes) - 1
    part.inputs, part.outputs = list(graph.inputs), sorted(made & wanted)
    part.customOptions = [1, 2, 3]
    graph.operators = [part, *kept]
    return pack(model)


@pytest.fixture
def compiled_twin() -> Callable[..., bytes]:
    """Call with a plain file's bytes for what a compiler would make of it."""
    return compile_by_hand


@pytest.fixture
def fake_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Call with the body of a shell script: it is `edgetpu_compiler`, first on PATH.

    In the script `$model` is the file to compile and `$out/$name` the place of what it makes,
    without `_edgetpu.tflite`. Returns the script's path.
    """

    def make(body: str) -> Path:
        folder = tmp_path / "path"
        folder.mkdir(exist_ok=True)
        script = folder / "edgetpu_compiler"
        script.write_text(
            "#!/bin/sh\n"
            '[ "$1" = -s ] && [ "$2" = -o ] && [ $# = 4 ] || { echo usage; exit 2; }\n'
            'out=$3; model=$4; name=$(basename "$model" .tflite)\n' + body + "\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
        return script

    return make


@pytest.fixture
def no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that there is no `edgetpu_compiler` on PATH, whatever this machine has."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
