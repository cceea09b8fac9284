"""What a running agent names animals by: a bundle, and what its models run on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from edge.config import InferenceConfig
from edge.errors import BundleError, EarmarkError
from edge.health import Release
from edge.inference import Inference
from edge.inference.supervised import Listener
from edge.messaging import check_animals
from edge.release.bundle import Bundle
from edge.serving import serve_bundle

Load = Callable[[Path, int], Bundle]


class Served:
    """The bundle that runs. Any thread may ask, once it was loaded.

    load: what loads a folder's bundle with so many threads, instead of the settings. listener: told
    when inference is interrupted. inference: what the models run on, None where `load` decides.
    """

    def __init__(
        self,
        settings: InferenceConfig,
        threads: int,
        *,
        load: Load | None = None,
        listener: Listener = lambda event, text: None,
    ) -> None:
        self._settings, self._threads = settings, threads
        self._load, self._listener = load, listener
        self._bundle: Bundle | None = None
        self._stopping = False
        self.inference: Inference | None = None

    def load(self, directory: Path) -> Bundle:
        """Load a bundle that an agent can run; BundleError, AcceleratorError where it cannot."""
        bundle = self._loaded(directory)
        try:
            if bundle.detector is None:
                raise BundleError(
                    f"{directory}: has no detector, so it names crops only; "
                    "use `earmark-edge identify`, or train with frames"
                )
            check_animals(bundle.means.animals)
        except EarmarkError:
            self.close()
            raise
        self._bundle = bundle
        return bundle

    def take(self, bundle: Bundle) -> None:
        """Go on by a bundle with the same models."""
        self._bundle = bundle

    def hurry(self) -> None:
        """Let go of what is being loaded, now and later: an EarmarkError for whoever loads."""
        self._stopping = True
        if self.inference is not None:
            self.inference.stop()

    def close(self) -> None:
        """End what the models run on."""
        if self.inference is not None:
            self.inference.close()

    @property
    def bundle(self) -> Bundle:
        """The bundle that runs."""
        assert self._bundle is not None
        return self._bundle

    @property
    def release(self) -> Release:
        """What names the animals now."""
        return Release(self.bundle.manifest.id[:12], self.bundle.means.header.seq)

    @property
    def backend(self) -> str:
        """What the models run on, in words."""
        return self.bundle.backend if self.inference is None else self.inference.backend

    @property
    def degraded(self) -> bool:
        """Whether an accelerator ought to serve and does not."""
        return self.inference is not None and self.inference.degraded

    @property
    def restarted(self) -> int:
        """How often inference was restarted."""
        return 0 if self.inference is None else self.inference.restarted

    def _loaded(self, directory: Path) -> Bundle:
        if self._load is not None:
            return self._load(directory, self._threads)
        serving = serve_bundle(
            directory,
            accelerator=self._settings.accelerator,
            require=self._settings.require,
            threads=self._threads,
            stuck_s=self._settings.stuck_s,
            listener=self._listener,
            begun=self._begun,
        )
        self.inference = serving.inference
        return serving.bundle

    def _begun(self, inference: Inference) -> None:
        self.inference = inference
        if self._stopping:
            inference.stop()
