"""`earmark-trainer evaluate detection`: how well a detector finds animals in annotated frames."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge.errors import UsageError
from trainer.commands.options import Commands, add_verbose, whole_number

if TYPE_CHECKING:
    from edge.release.manifest import DetectorSpec, Manifest
    from edge.vision.detector import Detector

_NEEDED = ("pycocotools", "matplotlib")


def add_parser(commands: Commands) -> None:
    """Add the command to those of `earmark-trainer evaluate`."""
    finding = commands.add_parser("detection", help="how well animals are found")
    which = finding.add_mutually_exclusive_group(required=True)
    which.add_argument("--bundle", type=Path, metavar="DIR", help="the bundle whose detector")
    which.add_argument("--model", type=Path, metavar="FILE.tflite", help="a detector by itself")
    finding.add_argument(
        "--spec",
        type=Path,
        metavar="BUNDLE|FILE.json",
        help="what says how --model is fed and read: a bundle, or detector.json (the one beside "
        "the model when left away)",
    )
    finding.add_argument(
        "--frames",
        type=Path,
        required=True,
        metavar="ANNOTATIONS",
        help="annotated frames: COCO, Pascal VOC, YOLO, CVAT",
    )
    finding.add_argument(
        "--format", metavar="NAME", help="the annotations' format; else told by the path"
    )
    finding.add_argument(
        "--images", type=Path, metavar="DIR", help="folder that names of images are relative to"
    )
    finding.add_argument(
        "--float",
        type=Path,
        metavar="FILE.tflite",
        dest="twin",
        help="the float twin of the detector, to compare with",
    )
    finding.add_argument(
        "--score", type=float, metavar="T", help="score threshold, instead of the device's"
    )
    finding.add_argument(
        "--one-class", action="store_true", help="take all classes for one: animals"
    )
    finding.add_argument("--seed", type=whole_number, default=0, metavar="N", help="of intervals")
    finding.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    add_verbose(finding)
    finding.set_defaults(command=_detection)


def _detection(options: argparse.Namespace) -> int:
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"{name} is not installed: pip install 'earmark[trainer]'")
    from rich.console import Console

    from edge.files import new_directory
    from trainer.data.annotations import FORMATS, read_frames
    from trainer.evaluate.detection import Detect
    from trainer.evaluate.detection.outputs import check_out, write_evaluation
    from trainer.evaluate.detection.protocol import (
        check_score,
        evaluate,
        fitting,
        of_one_class,
        open_detector,
    )
    from trainer.progress import progress_bar, show_warnings

    # What is wrong with the command is told before any frame is asked.
    check_out(options.out)
    check_score(options.score)
    if options.format is not None and options.format not in FORMATS:
        raise UsageError(f"--format {options.format}: must be one of {', '.join(FORMATS)}")
    manifest, spec = _spec(options)
    frames = fitting(
        read_frames(options.frames, options.format, options.images),
        spec.class_names,
        options.frames,
        one_class=options.one_class,
    )
    detect: Detect = _detector(options, spec).detect
    reference: Detect | None = None
    if options.twin is not None:
        reference = open_detector(options.twin, spec).detect
    if options.one_class:
        detect = of_one_class(detect)
        reference = None if reference is None else of_one_class(reference)
    own_score = options.score is None
    name = options.model.name if options.model else _name(manifest, options.bundle)
    console = Console(stderr=True)
    with new_directory(options.out) as folder:
        with progress_bar("finding animals", console) as report:
            evaluation = evaluate(
                detect,
                frames,
                spec.score_threshold if own_score else options.score,
                twin=reference,
                top_k=spec.top_k,
                seed=options.seed,
                report=report,
            )
        evaluation.metrics["bundle"] = manifest.id if manifest and not options.model else None
        evaluation.metrics["threshold_of"] = "the device's own" if own_score else "--score"
        with console.status("drawing"):
            write_evaluation(folder, evaluation, title=f"Detection by {name}")
    show_warnings(console, evaluation.metrics["warnings"])
    _print_summary(evaluation.metrics, options.out)
    return 0


def _spec(options: argparse.Namespace) -> tuple[Manifest | None, DetectorSpec]:
    """Return what says how the detector is fed and read, and the bundle's manifest if there is."""
    from edge.release.bundle import read_manifest
    from trainer.detector_spec import DETECTOR_SPEC_NAME, load_spec, spec_beside

    folder = options.bundle
    if options.model is None and options.spec is not None:
        raise UsageError("--spec goes with --model; --bundle has a manifest of its own")
    if options.model is not None:
        folder = options.spec
        if folder is None:
            beside = spec_beside(options.model)
            if beside is None:
                raise UsageError(
                    f"--model needs --spec, a bundle or a file, to know how it is fed: there is no "
                    f"{DETECTOR_SPEC_NAME} of {options.model} beside it"
                )
            return None, beside
        if not folder.is_dir():
            return None, load_spec(folder)
    manifest = read_manifest(folder)
    if manifest.detector is None:
        raise UsageError(f"{folder}: has no detector, it only names crops; choose another bundle")
    return manifest, manifest.detector


def _detector(options: argparse.Namespace, spec: DetectorSpec) -> Detector:
    from edge.release.bundle import load_bundle
    from trainer.evaluate.detection.protocol import open_detector

    if options.model is not None:
        return open_detector(options.model, spec)
    detector = load_bundle(options.bundle).detector
    assert detector is not None  # the manifest has one
    return detector


def _name(manifest: Manifest | None, folder: Path) -> str:
    named = manifest.training.recipe.get("name") if manifest else None
    return str(named or folder.resolve().name)


def _print_summary(metrics: Mapping[str, Any], out: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from trainer.evaluate.detection.outputs import METRICS_NAME, REPORT_NAME, WORST_NAME
    from trainer.evaluate.detection.report import MEASURES, defined
    from trainer.evaluate.page import figure, interval

    twin = metrics["float"]
    table = Table("measure", "int8", "95 % interval", title="detection")
    if twin is not None:
        table.add_column("float")
    for name, text in MEASURES:
        if metrics[name] is not None:
            row = [text, figure(defined(metrics[name])), interval(metrics["intervals"].get(name))]
            if twin is not None:
                row.append(figure(defined(twin[name])) if name in twin else "")
            table.add_row(*row)
    for name, share in metrics["recall_by_overlap"].items():
        bounds = interval(metrics["intervals"].get(f"recall_{name}"))
        row = [f"recall, overlap {name}", figure(defined(share)), bounds]
        if twin is not None:
            row.append(figure(defined(twin[f"recall_{name}"])))
        table.add_row(*row)
    console = Console()
    console.print(table)
    for name, path in (
        ("metrics", METRICS_NAME),
        ("report", REPORT_NAME),
        ("worst frames", WORST_NAME),
    ):
        if (out / path).is_file():
            console.print(f"{name} {out / path}", soft_wrap=True, markup=False, highlight=False)
