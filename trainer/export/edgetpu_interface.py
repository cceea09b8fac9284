"""That a file compiled for the Edge TPU can take the place of the plain one it was made from."""

from __future__ import annotations

from edge.errors import UsageError
from trainer.export.edgetpu import COMPILED_OPERATOR
from trainer.export.tflite_graph import Graph, Tensor, read_graph


def check_same_interface(plain: bytes, compiled: bytes, where: str) -> None:
    """Raise UsageError unless both files are fed and read in the same way.

    The same inputs and outputs by shape, type and quantisation; outputs by name, for that is how a
    manifest finds a detector's, unless there is but one; and one part for the Edge TPU. `where`
    names the compiled file.
    """
    before, after = read_graph(plain, "the plain file"), read_graph(compiled, where)
    parts = sum(operator.name == COMPILED_OPERATOR for operator in after.operators)
    if parts != 1:
        raise UsageError(
            f"{where}: has {parts} {COMPILED_OPERATOR} operators instead of one"
            + ("; nothing was compiled" if not parts else "")
        )
    _check_alike(before.inputs, after.inputs, where, "input")
    _check_alike(before.outputs, _in_order(before, after, where), where, "output")


def _in_order(before: Graph, after: Graph, where: str) -> tuple[Tensor, ...]:
    """Return the outputs of `after` in the order of those of `before`."""
    if len(before.outputs) == len(after.outputs) == 1:
        return after.outputs
    found = {tensor.name: tensor for tensor in after.outputs}
    names = [tensor.name for tensor in before.outputs]
    if len(after.outputs) != len(names) or set(found) != set(names):
        raise UsageError(
            f"{where}: its outputs are {_listed(after.outputs)}, the plain file's "
            f"{_listed(before.outputs)}"
        )
    return tuple(found[name] for name in names)


def _check_alike(
    before: tuple[Tensor, ...], after: tuple[Tensor, ...], where: str, kind: str
) -> None:
    if len(before) != len(after):
        raise UsageError(f"{where}: has {len(after)} {kind}s, the plain file {len(before)}")
    for wanted, tensor in zip(before, after, strict=True):
        told, expected = _told(tensor), _told(wanted)
        if told != expected:
            raise UsageError(
                f"{where}: {kind} {tensor.name!r} is {told}, the plain file's is {expected}"
            )


def _told(tensor: Tensor) -> str:
    """Return what a caller must know of a tensor, as text."""
    shape = "of unknown shape" if tensor.shape is None else f"({', '.join(map(str, tensor.shape))})"
    quantisation = "".join(
        f", scale {scale:.9g} zero point {point}"
        for scale, point in zip(tensor.scales, tensor.zero_points, strict=False)
    )
    return f"{tensor.dtype} {shape}{quantisation}"


def _listed(tensors: tuple[Tensor, ...]) -> str:
    return ", ".join(sorted(repr(tensor.name) for tensor in tensors)) or "none"
