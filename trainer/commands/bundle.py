"""`earmark-trainer bundle`: somebody else's TFLite detector in a bundle; no TensorFlow."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import UsageError
from trainer.commands.options import Commands, add_verbose

if TYPE_CHECKING:
    from edge.release.manifest import DetectorSpec
    from trainer.export.third_party import Pixels

_SCORE_THRESHOLD = 0.5


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer`."""
    bundle = commands.add_parser(
        "bundle", help="put a TFLite detector from elsewhere into a new bundle"
    )
    bundle.add_argument(
        "--detector",
        type=Path,
        required=True,
        metavar="FILE.tflite",
        help="a model that ends in TFLite_Detection_PostProcess; not compiled for an Edge TPU. "
        "With its own detector.json from a run beside it nothing else need be said",
    )
    bundle.add_argument(
        "--bundle",
        "--embedder-from",
        type=Path,
        metavar="BASE",
        dest="base",
        help="bundle to take embedder, class means and self-test from; it stays as it is",
    )
    bundle.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    bundle.add_argument(
        "--labels",
        metavar="FILE|NAMES",
        help="names of the classes: a file, a line each (`name` or `number name`), or cow,calf; "
        "not needed for a model with a single class",
    )
    bundle.add_argument(
        "--normalisation",
        choices=["0..1", "-1..1", "0..255"],
        help="what the model was trained to see pixels as (write --normalisation=-1..1); left "
        "away, a quantised model's input tells",
    )
    bundle.add_argument(
        "--pixel-scale",
        type=float,
        metavar="X",
        help="in place of --normalisation: real = pixel * X + Y",
    )
    bundle.add_argument("--pixel-offset", type=float, metavar="Y", help="see --pixel-scale (0)")
    bundle.add_argument(
        "--score-threshold",
        type=_fraction,
        metavar="S",
        help=f"score from which a box is an animal (what detector.json says, {_SCORE_THRESHOLD})",
    )
    add_verbose(bundle)
    bundle.set_defaults(command=_bundle)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 1")
    return value


def _bundle(options: argparse.Namespace) -> int:
    from edge.release.bundle import load_bundle
    from trainer.commands.edgetpu import summary
    from trainer.commands.means.work import now, warn
    from trainer.detector_spec import DETECTOR_SPEC_NAME
    from trainer.export.labels import read_labels
    from trainer.export.third_party import (
        CLIPPED,
        OWN_CLIPPED,
        Pixels,
        check_told,
        third_party_spec,
    )
    from trainer.rebundle import check_new, replace_detector

    if options.base is None:
        raise UsageError(
            "a bundle holds an embedder and class means too; name one to take them from: "
            "--bundle BASE"
        )
    check_new(options.out)
    pixels = _pixels(options)
    names = None if options.labels is None else read_labels(options.labels)
    base = load_bundle(options.base)
    told = _told(options, warn)
    clipped = CLIPPED
    if told is not None:
        names = names or told.class_names
        if pixels is None:
            pixels, clipped = Pixels(told.pixel_scale, told.pixel_offset), OWN_CLIPPED
    threshold = options.score_threshold
    if threshold is None:
        threshold = _SCORE_THRESHOLD if told is None else told.score_threshold
    spec = third_party_spec(
        options.detector,
        names=names,
        pixels=pixels,
        score_threshold=threshold,
        letterbox_colour=(told or base.embedder).letterbox_colour,
        soft_nms=None if told is None else told.soft_nms,
        clipped=clipped,
    )
    if told is not None:
        check_told(told, spec, str(options.detector.with_name(DETECTOR_SPEC_NAME)))
    made = replace_detector(base, options.detector, spec, options.out, created=now(), warn=warn)
    height, width = spec.input_shape[1:3]
    low, high = spec.pixel_offset, 255 * spec.pixel_scale + spec.pixel_offset
    print(
        f"detector {options.detector.name}: {spec.dtype} input {width}x{height}, pixels as "
        f"{low:.4g} to {high:.4g}, up to {spec.top_k} boxes, "
        f"{_counted(len(spec.class_names), 'class', 'es')}"
    )
    for model, figures in made.edge_tpu.items():
        print(summary(model, figures))
    print(
        f"bundle {made.path}: {_counted(base.manifest.means.animals, 'animal', 's')}, seq "
        f"{made.manifest.seq}, id {made.manifest.id[:12]}"
    )
    return 0


def _told(options: argparse.Namespace, warn: Callable[[str], None]) -> DetectorSpec | None:
    """Return what a run wrote beside its detector, None where that is of another file."""
    from trainer.detector_spec import DETECTOR_SPEC_NAME, spec_beside

    beside = options.detector.with_name(DETECTOR_SPEC_NAME)
    told = spec_beside(options.detector)
    if told is None and beside.is_file():
        warn(f"{beside} does not say that it is of {options.detector.name}: it is left aside")
    return told


def _pixels(options: argparse.Namespace) -> Pixels | None:
    from trainer.export.third_party import NORMALISATIONS, Pixels

    if options.pixel_scale is None:
        if options.pixel_offset is not None:
            raise UsageError("--pixel-offset needs --pixel-scale")
        named = options.normalisation
        return None if named is None else NORMALISATIONS[named]
    if options.normalisation is not None:
        raise UsageError("--normalisation and --pixel-scale exclude each other")
    return Pixels(options.pixel_scale, options.pixel_offset or 0.0)


def _counted(number: int, noun: str, plural: str) -> str:
    return f"{number} {noun}{'' if number == 1 else plural}"
