"""One camera of a running agent: its pipeline, and the sightings that are open."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from edge.config import NamingConfig, SightingsConfig
from edge.errors import EarmarkError
from edge.identity.evidence import EvidenceOptions
from edge.identity.means import ClassMeans
from edge.messaging import Messenger, SightingLog
from edge.pipeline import EmbeddingOptions, FrameResult, FrameTracker, PipelineOptions
from edge.vision.types import Frame

_TURN_S = 5.0


class CameraWatch:
    """What is done with one camera's frames; all methods may be called from any thread.

    models: held while they work, as cameras share them. keep_last: keep the last frame, for
    whoever wants to see it.
    """

    def __init__(
        self,
        pipeline: FrameTracker,
        log: SightingLog,
        messenger: Messenger,
        models: threading.Lock,
        *,
        keep_last: bool = False,
    ) -> None:
        self._pipeline = pipeline
        self._log = log
        self._messenger = messenger
        self._models = models
        self._turn = threading.Lock()
        self._keep_last = keep_last
        self._last: tuple[Frame, FrameResult] | None = None
        self._animals: frozenset[str] = frozenset()

    @property
    def animals(self) -> frozenset[str]:
        """Who is in view by name."""
        return self._animals

    @property
    def last(self) -> tuple[Frame, FrameResult] | None:
        """The last frame and what it gave; None before the first, or when none is kept."""
        return self._last

    def work(self, frame: Frame) -> tuple[FrameResult, float, int]:
        """Work through a frame and publish.

        Returns what it gave, the seconds it took, and how many events it was worth.
        """
        with self._turn:
            with self._models:
                started = time.perf_counter()
                result = self._pipeline.process(frame)
                busy_s = time.perf_counter() - started
            events = self._log.observe(frame, result.tracks, result.ended)
            self._messenger.publish(events)
            self._animals = self._log.animals
            if self._keep_last:
                self._last = frame, result
        return result, busy_s, len(events)

    def end(self) -> None:
        """End all tracks and sightings; frames may come again later."""
        with self._turn:
            self._messenger.publish(self._log.close(self._pipeline.finish()))
            self._animals = frozenset()

    def retell(self) -> int:
        """Publish every open sighting again; return how many. EarmarkError when it is stuck."""
        with self._between_frames():
            events = self._log.retell()
            self._messenger.publish(events)
        return len(events)

    def replace_means(self, means: ClassMeans, release: str) -> None:
        """Name by other class means of the same embedder, those of `release`; tracks go on.

        Errors: BundleError for means of another dimension, EarmarkError when it is stuck.
        """
        with self._between_frames():
            self._pipeline.replace_means(means)
            self._log.set_release(release, means.header.seq)

    def replace_settings(self, naming: NamingConfig, sightings: SightingsConfig) -> None:
        """Go on by other settings; EarmarkError when it is stuck."""
        with self._between_frames():
            self._pipeline.replace_options(pipeline_options(naming))
            self._log.set_timing(update_every_s=sightings.update_every_s, hold_s=sightings.hold_s)

    @contextmanager
    def _between_frames(self) -> Iterator[None]:
        # Whoever gives orders also feeds the watchdog: it must not wait for a model that hangs.
        if not self._turn.acquire(timeout=_TURN_S):
            raise EarmarkError(f"a frame has been worked on for {_TURN_S:g} s; try again")
        try:
            yield
        finally:
            self._turn.release()


class FrameRate:
    """Frames per second over the last few seconds, rounded so that the state seldom changes."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()
        self._frames = 0
        self._fps: float | None = None

    def tick(self) -> float | None:
        """Count a frame; return the rate, None in the first seconds."""
        self._frames += 1
        elapsed_s = time.monotonic() - self._since_s
        if elapsed_s >= 5:
            self._fps = round(self._frames / elapsed_s, 1)
            self._since_s, self._frames = time.monotonic(), 0
        return self._fps


def pipeline_options(naming: NamingConfig) -> PipelineOptions:
    """Return the pipeline's options as the settings want them."""
    usual = PipelineOptions()
    evidence: EvidenceOptions = replace(
        usual.evidence,
        min_votes=naming.min_votes,
        min_share=naming.min_share,
        unknown_after_s=naming.unknown_after_s,
    )
    embedding: EmbeddingOptions = replace(usual.embedding, max_crops=naming.max_crops)
    return replace(usual, evidence=evidence, embedding=embedding)
