"""`earmark-trainer crops propose`: tracklets from unlabelled video, on a page to be named."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge.errors import UsageError
from trainer.commands.data.options import positive
from trainer.commands.options import Commands, add_verbose

if TYPE_CHECKING:
    from edge.release.bundle import Bundle
    from edge.vision.types import FrameDetector

# As `trainer.labelling.propose.ProposeOptions`, which is imported only when the command runs.
_LEAST_FRAMES, _MOST_CROPS = 20, 12
_EMPTY = (
    "no tracklets found ({frames} frames looked at; {skipped}); take more video, a smaller "
    "--least-frames, or a detector that knows these animals"
)


def add_parser(commands: Commands) -> None:
    """Add the command to those of `crops`."""
    propose = commands.add_parser(
        "propose", help="find and follow animals in unlabelled video; a person names them"
    )
    propose.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="videos, folders of videos or of images, cameras (rtsp://…, /dev/video0); NAME=SOURCE "
        "gives one a name",
    )
    propose.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    propose.add_argument(
        "--bundle",
        type=Path,
        metavar="DIR",
        help="its detector finds animals, its embedder and class means help whoever names them",
    )
    propose.add_argument(
        "--detector",
        type=Path,
        metavar="FILE.tflite",
        help="find animals by this model, in place of the bundle's or without a bundle",
    )
    propose.add_argument(
        "--spec",
        type=Path,
        metavar="BUNDLE|FILE.json",
        help="what says how --detector is fed: a bundle, or the detector.json beside the model",
    )
    propose.add_argument(
        "--no-suggestions",
        action="store_true",
        help="these are other animals than the bundle's: do not offer its names",
    )
    propose.add_argument(
        "--every", type=positive, default=1, metavar="N", help="look at frames 0, N, 2N, … (1)"
    )
    propose.add_argument(
        "--least-frames",
        type=positive,
        default=_LEAST_FRAMES,
        metavar="N",
        help=f"in which an animal must be seen, of those looked at ({_LEAST_FRAMES})",
    )
    propose.add_argument(
        "--most-crops",
        type=positive,
        default=_MOST_CROPS,
        metavar="N",
        help=f"of each tracklet ({_MOST_CROPS})",
    )
    propose.add_argument(
        "--seconds", type=_more_than_0, metavar="S", help="look at so much of each source (all)"
    )
    propose.add_argument(
        "--fps",
        type=_more_than_0,
        metavar="N",
        help="at most so many frames a second; of a folder of images: its rate (10)",
    )
    propose.add_argument(
        "--threads", type=positive, default=2, metavar="N", help="of the models (2)"
    )
    add_verbose(propose)
    propose.set_defaults(command=_propose)


def _more_than_0(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not more than 0")
    return value


def _propose(options: argparse.Namespace) -> int:
    import secrets

    from rich.console import Console

    from edge.files import new_directory
    from trainer.commands.means.work import now
    from trainer.labelling.page import PAGE_NAME, write_page
    from trainer.labelling.places import find_places
    from trainer.labelling.propose import ProposeOptions
    from trainer.labelling.suggest import embed_tracklets, liken, suggest
    from trainer.labelling.summary import counted, describe_skipped
    from trainer.labelling.tracklets import SCHEMA, Proposal, save_proposal
    from trainer.labelling.watch import Stop, check_seconds, stop_by_signal, watch
    from trainer.progress import progress_bar

    wanted = ProposeOptions(
        every=options.every, least_frames=options.least_frames, most_crops=options.most_crops
    )
    # What is wrong with the command is told before any model is loaded.
    if options.out.exists() or options.out.is_symlink():
        raise UsageError(f"{options.out}: exists already; choose another --out")
    places = find_places(options.sources)
    check_seconds(places, options.seconds)
    bundle, detector = _models(options)
    console = Console(stderr=True)
    stop = Stop()
    if any(place.live for place in places):
        console.print("watching; Ctrl-C ends it and writes what was found until then")

    def say(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    with new_directory(options.out) as folder:
        with stop_by_signal(stop), progress_bar("following animals", console) as report:
            watched = watch(
                places,
                detector,
                folder,
                wanted,
                seconds=options.seconds,
                fps=options.fps,
                stop=stop,
                report=report,
                say=say,
            )
        tracklets = list(watched.tracklets)
        left_out = describe_skipped(watched.skipped)
        if not tracklets:
            raise UsageError(_EMPTY.format(frames=watched.frames, skipped=left_out or "no animals"))
        if bundle is not None:
            with progress_bar("comparing", console) as report:
                embeddings = embed_tracklets(tracklets, folder, bundle.embedder, report)
            tracklets = liken(tracklets, embeddings)
            if not options.no_suggestions:
                tracklets = suggest(tracklets, embeddings, bundle.means)
        proposal = Proposal(
            schema=SCHEMA,
            id=secrets.token_hex(8),
            created=now(),
            bundle=None if bundle is None else bundle.manifest.id,
            every=options.every,
            tracklets=tracklets,
        )
        save_proposal(proposal, folder)
        (folder / PAGE_NAME).write_text(write_page(proposal, folder), encoding="utf-8")
    crops = sum(len(tracklet.crops) for tracklet in tracklets)
    sessions = len({tracklet.session for tracklet in tracklets})
    if watched.stopped:
        print("stopped early; this is what was found until then")
    print(
        f"tracklets {options.out}: {counted(len(tracklets), 'tracklet')} with "
        f"{counted(crops, 'crop')} in {counted(sessions, 'session')}, of "
        f"{counted(watched.frames, 'frame')}"
    )
    if left_out:
        print(left_out)
    print(f"name them on {options.out / PAGE_NAME}, then: earmark-trainer crops name {options.out}")
    return 0


def _models(options: argparse.Namespace) -> tuple[Bundle | None, FrameDetector]:
    """Return the bundle, if one was given, and the detector that is meant."""
    from edge.release.bundle import load_bundle, read_manifest
    from edge.vision.detector import Detector
    from edge.vision.runtime import open_model
    from trainer.detector_spec import DETECTOR_SPEC_NAME, load_spec, spec_beside

    if options.bundle is None and options.detector is None:
        raise UsageError("give --bundle DIR, or --detector FILE.tflite, to find animals by")
    if options.spec is not None and options.detector is None:
        raise UsageError("--spec goes with --detector; a bundle has a manifest of its own")
    bundle = None
    if options.bundle is not None:
        bundle = load_bundle(options.bundle, threads=options.threads)
    if options.detector is None:
        if bundle is None or bundle.detector is None:
            raise UsageError(f"{options.bundle}: has no detector; give one by --detector")
        return bundle, bundle.detector
    if not options.detector.is_file():
        raise UsageError(f"{options.detector}: no such file (--detector)")
    place = options.spec
    if place is None:
        spec = spec_beside(options.detector)
        place = options.detector.with_name(DETECTOR_SPEC_NAME)
    else:
        spec = read_manifest(place).detector if place.is_dir() else load_spec(place)
    if spec is None:
        raise UsageError(
            f"{place}: does not say how {options.detector.name} is fed; name what does by --spec, "
            "a bundle with a detector or the detector.json of that very model"
        )
    return bundle, Detector(open_model(options.detector, options.threads), spec)
