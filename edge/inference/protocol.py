"""What the agent and its inference child say to each other, and where the tensors lie.

Messages are JSON over a socket that keeps their boundaries; tensors lie in memory that both map, a
stretch for each model: its inputs, then its outputs as float32.
"""

from __future__ import annotations

import mmap
import os
import socket
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge.vision.runtime import TensorSpec

_LARGEST = 1 << 16
# Images that lie there at a time; more of them go in several rounds.
MOST_IMAGES = 16


class SpecMessage(msgspec.Struct, frozen=True):
    """A `TensorSpec`."""

    name: str
    index: int
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int

    @classmethod
    def of(cls, spec: TensorSpec) -> SpecMessage:
        """Return what to send of a spec."""
        return cls(spec.name, spec.index, spec.shape, spec.dtype.str, spec.scale, spec.zero_point)

    def spec(self) -> TensorSpec:
        """Return the spec that was sent."""
        return TensorSpec(
            self.name, self.index, self.shape, np.dtype(self.dtype), self.scale, self.zero_point
        )


class Open(msgspec.Struct, frozen=True, tag="open"):
    """Load a model; the descriptor of its open file comes along. path: its name, for words.

    kind: cpu or gpu. many: it will be given several images at once.
    """

    path: str
    threads: int
    many: bool
    kind: str = "cpu"
    name: str = ""
    library: str = ""
    options: dict[str, str] = {}


class Map(msgspec.Struct, frozen=True, tag="map"):
    """Here is a model's memory: its file descriptor comes along."""

    model: int


class Invoke(msgspec.Struct, frozen=True, tag="invoke"):
    """Run a model on the first `count` images of its memory."""

    model: int
    count: int


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """A model is loaded; models are numbered as they come. ways: how many images go through it."""

    input: SpecMessage
    outputs: tuple[SpecMessage, ...]
    backend: str
    ways: dict[str, str]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The outputs lie in the memory, or the memory is mapped."""


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """It could not be done. error: the class of the error, of those in `edge.errors`."""

    error: str
    text: str


Request = Open | Map | Invoke
Reply = Opened | Done | Failed


def send(channel: socket.socket, message: Request | Reply, *descriptors: int) -> None:
    """Send a message, with file descriptors if any; OSError when nobody is there."""
    socket.send_fds(channel, [msgspec.json.encode(message)], list(descriptors))


def receive(channel: socket.socket, kind: Any) -> tuple[Any, list[int]]:
    """Return the next message, of the types of `kind`, and file descriptors that came along.

    Raises EOFError when the other side is gone, msgspec.ValidationError for anything else.
    """
    data, descriptors, _, _ = socket.recv_fds(channel, _LARGEST, 1)
    if not data:
        raise EOFError
    return msgspec.json.decode(data, type=kind), descriptors


@dataclass(frozen=True, slots=True)
class TensorMemory:
    """A model's stretch of shared memory, as arrays.

    inputs: (MOST_IMAGES or 1, …) as the model takes them. outputs: float32 (likewise, …), by name.
    """

    memory: mmap.mmap
    inputs: NDArray[Any]
    outputs: dict[str, NDArray[np.float32]]


def memory_bytes(given: TensorSpec, outputs: tuple[TensorSpec, ...], images: int) -> int:
    """Return how much memory a model needs for so many images."""
    floats = sum(_elements(spec) for spec in outputs)
    return images * (_aligned(_elements(given) * given.dtype.itemsize) + 4 * floats) + 64


def map_memory(
    descriptor: int, given: TensorSpec, outputs: tuple[TensorSpec, ...], images: int
) -> TensorMemory:
    """Map a model's memory; both sides do, and may close the descriptor then."""
    memory = mmap.mmap(descriptor, memory_bytes(given, outputs, images))
    shape = (images, *given.shape[1:])
    inputs = np.frombuffer(memory, given.dtype, images * _elements(given)).reshape(shape)
    offset = _aligned(inputs.nbytes)
    results = {}
    for spec in outputs:
        count = images * _elements(spec)
        flat = np.frombuffer(memory, np.float32, count, offset)
        results[spec.name] = flat.reshape(images, *spec.shape[1:])
        offset += flat.nbytes
    return TensorMemory(memory, inputs, results)


def new_memory(size: int) -> int:
    """Return the descriptor of new memory of so many bytes, which no other process can reach."""
    descriptor = os.memfd_create("earmark-tensors")
    os.ftruncate(descriptor, size)
    return descriptor


def _elements(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape))


def _aligned(size: int) -> int:
    return -(-size // 64) * 64
