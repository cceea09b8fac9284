"""What every source of frames has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from edge.capture.link import Link
from edge.vision.types import Frame

Status = Literal["up", "lost"]
# Told when a camera comes or goes, with a line that says why; from the source's own thread.
StatusListener = Callable[[Status, str], None]


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """How a source is read.

    fps: take at most so many frames a second (of a folder of images: show so many), None for all.
    realtime: pace a file as a camera would. loop: begin a file again at its end, for ever.
    stall_s: a camera without a frame for so long is lost.
    """

    fps: float | None = None
    realtime: bool = False
    loop: bool = False
    stall_s: float = 20.0


class Source(Protocol):
    """A camera, or what stands for one.

    A live source drops frames, newest kept, while nobody asks for them, and comes back by itself
    when it is lost; a file never drops one. Frames are RGB.
    """

    @property
    def camera(self) -> str:
        """The camera's id, as in the topics."""

    @property
    def live(self) -> bool:
        """Whether time passes whether we look or not."""

    @property
    def finite(self) -> bool:
        """Whether the frames end by themselves."""

    @property
    def fps(self) -> float | None:
        """Frames per second that are to be expected, None when nobody knows."""

    @property
    def dropped(self) -> int:
        """How many frames nobody had time for."""

    @property
    def link(self) -> Link | None:
        """How the connection to a live camera is; None for a file."""

    def frames(self) -> Iterator[Frame]:
        """Yield the frames, once; SourceError when the source turns out to be unreadable."""

    def close(self) -> None:
        """End `frames` soon, from any thread."""
