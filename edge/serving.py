"""A bundle whose models run in a supervised child, on the accelerator that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from edge.errors import AcceleratorError, BundleError, SelfTestError
from edge.inference import Inference, coral_present, parse_accelerator, plan_backends
from edge.inference.supervised import START_S, Listener
from edge.release.bundle import (
    SELFTEST_NAME,
    Bundle,
    has_compiled,
    load_bundle,
    read_manifest,
    run_self_test,
)


@dataclass(frozen=True, slots=True)
class Serving:
    """A bundle and what its models run on; close it in the end."""

    bundle: Bundle
    inference: Inference


def serve_bundle(
    directory: Path,
    *,
    accelerator: str = "auto",
    require: bool = False,
    threads: int = 2,
    stuck_s: float = 10.0,
    start_s: float = START_S,
    listener: Listener = lambda event, text: None,
    begun: Callable[[Inference], object] = lambda inference: None,
    root: Path = Path("/"),
) -> Serving:
    """Load a bundle on the first backend that takes it and passes its golden self-test.

    accelerator, require: see `plan_backends`. begun: gets what will run the models before it loads
    any, so that another thread can stop that. root: where a Coral is looked for. Raises UsageError
    for an accelerator that cannot be, AcceleratorError where a required one cannot be had,
    BundleError for a bundle that must not run.
    """
    wanted = parse_accelerator(accelerator)
    compiled = has_compiled(read_manifest(directory))
    plan = plan_backends(wanted, require=require, compiled=compiled, coral=coral_present(root))
    inference = Inference(
        plan, threads=threads, stuck_s=stuck_s, start_s=start_s, listener=listener
    )
    try:
        begun(inference)
        if plan.backends[0].compiled and not compiled:
            # All models would run on the CPU beside it, and nobody would hear of that.
            why = "the bundle has no files compiled for it (docs/edge-tpu.md)"
            if not inference.give_up(why):
                raise AcceleratorError(f"{plan.backends[0].name}: {directory}: {why}")
        return Serving(_loaded(directory, inference), inference)
    except BaseException:
        inference.close()
        raise


def _loaded(directory: Path, inference: Inference) -> Bundle:
    while True:
        children = inference.children
        try:
            bundle = load_bundle(directory, opener=inference.open)
        except SelfTestError as error:
            # It is this backend that answers wrongly; the next one may not.
            if inference.give_up(str(error)):
                continue
            raise
        questions = inference.keep(directory / SELFTEST_NAME)
        _check_same(bundle, inference)
        inference.add_check(partial(run_self_test, bundle, questions.place))
        if inference.children > children + 1:
            # One child answered some of the golden questions and another one the rest.
            inference.prove()
        return bundle


def _check_same(bundle: Bundle, inference: Inference) -> None:
    """Raise BundleError unless the files that serve are those that were verified."""
    for path, digest in inference.digests.items():
        if digest != bundle.manifest.files[path.name].sha256:
            raise BundleError(f"{path}: was replaced while the bundle was loaded; start again")
