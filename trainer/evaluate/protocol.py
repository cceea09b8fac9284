"""From folders of crops to the figures of `evaluate identification`: who is asked, against whom.

Gallery, query, unknown and newcomers are read, checked against each other, embedded by the device's
own code and matched. What makes figures too good is not refused but said: `warnings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edge.errors import DataError, UsageError
from edge.identity.means import ClassMeans
from edge.vision.embedder import Embedder
from trainer.data.crops import CropSet
from trainer.evaluate import answers
from trainer.evaluate.answers import AnsweredCrops
from trainer.evaluate.identification import Newcomers, evaluate_identification, with_newcomers
from trainer.evaluate.intervals import DRAWS
from trainer.means.build import recalibrated
from trainer.means.embed import EmbeddedCrops, embed_crops, embed_gallery
from trainer.progress import Report, silent

_COMPARED = ("macro_f1", "accuracy", "rank1", "auroc")
_GALLERIES = ("gallery", "newcomer_gallery")
_NAMED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Protocol:
    """Crops by what they are for; None for what is not asked.

    gallery: to make the class means from, else the bundle's own are asked. query: of animals in the
    means. unknown: of animals that are not. newcomer_*: to enrol from, and to ask among all.
    """

    query: CropSet
    gallery: CropSet | None = None
    unknown: CropSet | None = None
    newcomer_gallery: CropSet | None = None
    newcomer_query: CropSet | None = None

    def sets(self) -> dict[str, CropSet]:
        """Return the sets that are given, by name."""
        names = ("gallery", "query", "unknown", "newcomer_gallery", "newcomer_query")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """metrics: for `metrics.json`. asked: every crop that was asked. gallery: None without one.

    means: those that were asked, newcomers included. herd: the animals without the newcomers.
    """

    metrics: dict[str, Any]
    asked: AnsweredCrops
    gallery: AnsweredCrops | None
    means: ClassMeans
    herd: tuple[str, ...]


def check_protocol(protocol: Protocol, means: ClassMeans) -> None:
    """Raise DataError for an animal that is asked in the wrong set, naming it and the option."""
    given = "the bundle's" if protocol.gallery is None else "the --gallery"
    known = set(means.animals if protocol.gallery is None else protocol.gallery.animals)
    for animal in protocol.query.animals:
        if animal not in known:
            raise DataError(
                f"--query: animal {animal!r} is not in {given} class means; ask strangers with "
                "--unknown, or newcomers with --newcomer-gallery and --newcomer-query"
            )
    for option, crops in (
        ("--unknown", protocol.unknown),
        ("--newcomer-gallery", protocol.newcomer_gallery),
    ):
        for animal in crops.animals if crops else ():
            if animal in known:
                raise DataError(
                    f"{option}: animal {animal!r} is in {given} class means; ask it with --query"
                )
    if (protocol.newcomer_gallery is None) != (protocol.newcomer_query is None):
        raise UsageError("--newcomer-gallery and --newcomer-query go together")
    if protocol.newcomer_gallery is not None and protocol.newcomer_query is not None:
        for animal in protocol.newcomer_query.animals:
            if animal not in protocol.newcomer_gallery.animals:
                raise DataError(
                    f"--newcomer-query: animal {animal!r} has no crops in --newcomer-gallery"
                )


def doubts(protocol: Protocol) -> list[str]:
    """Return what makes the figures better than they are, one sentence each."""
    warnings = []
    for left, right in (("gallery", "query"), ("newcomer_gallery", "newcomer_query")):
        seen, asked = getattr(protocol, left), getattr(protocol, right)
        if seen is None or asked is None:
            continue
        both = sorted(_sessions(seen) & _sessions(asked))
        if both:
            some = ", ".join(f"{animal}/{session}" for animal, session in both[:_NAMED])
            more = ", …" if len(both) > _NAMED else ""
            warnings.append(
                f"{len(both)} of {len(_sessions(asked))} sessions of --{_dashed(right)} are in "
                f"--{_dashed(left)} too ({some}{more}): near-duplicate frames on both sides make "
                "every figure too good; put whole sessions on one side"
            )
    query = protocol.query
    if len(query) > len(query.animals) and len(_sessions(query)) == len(query):
        warnings.append(
            "every crop of --query is a session of its own by its file name: intervals take each "
            "for independent, and macro F1 over several frames is that of one; name files "
            "<session>_<frame>.jpg"
        )
    return warnings


def evaluate(
    protocol: Protocol,
    embedder: Embedder,
    means: ClassMeans,
    *,
    float_embedder: Embedder | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    report: Report = silent,
) -> Evaluation:
    """Embed, match and measure. means: the bundle's. float_embedder: a float twin to compare with.

    Raises DataError or UsageError before anything is embedded when the sets do not fit together.
    """
    check_protocol(protocol, means)
    if float_embedder is not None and protocol.gallery is None:
        raise UsageError("a float model needs --gallery: its class means are made from it")
    sets = _embed(protocol, embedder, report)
    gallery, query = sets.get("gallery"), sets["query"]
    herd = recalibrated(means, gallery)[0] if gallery else means
    metrics = _measure(sets, herd, draws, seed, with_sessions=True)
    if float_embedder is not None:
        twins = _embed(protocol, float_embedder, report)
        reference = _measure(twins, recalibrated(means, twins["gallery"])[0], 0, seed)
        metrics["int8_macro_f1_drop"] = reference["macro_f1"] - metrics["macro_f1"]
        cosines = np.sum(query.embeddings * twins["query"].embeddings, axis=1)
        metrics["parity"] = {
            "cosine_mean": float(cosines.mean()),
            "cosine_p05": float(np.quantile(cosines, 0.05)),
            "int8": {name: metrics[name] for name in _COMPARED},
            "float": {name: reference[name] for name in _COMPARED},
        }
    metrics["means"] = "bundle" if gallery is None else "gallery"
    metrics["counts"] = {
        name: {
            "crops": len(crops),
            "animals": len(crops.animals),
            "sessions": len(_sessions(crops)),
        }
        for name, crops in protocol.sets().items()
    }
    metrics["warnings"] = doubts(protocol)
    asked = [answers.answer(query, herd, answers.QUERY)]
    if "unknown" in sets:
        asked.append(answers.answer(sets["unknown"], herd, answers.UNKNOWN))
    everybody = herd
    if "newcomer_query" in sets:
        enrolled = sets["newcomer_gallery"]
        everybody = with_newcomers(herd, enrolled.embeddings, enrolled.crops.names())
        asked.append(answers.answer(sets["newcomer_query"], everybody, answers.NEWCOMER))
    seen = answers.answer(gallery, herd, answers.GALLERY) if gallery else None
    return Evaluation(metrics, answers.joined(asked), seen, everybody, herd.animals)


def _embed(protocol: Protocol, embedder: Embedder, report: Report) -> dict[str, EmbeddedCrops]:
    crops = protocol.sets()
    total = sum(len(part) for part in crops.values())
    done = 0
    embedded = {}
    for name, part in crops.items():

        def forward(count: int, of: int, note: str = "", start: int = done) -> None:
            report(start + count, total, note)

        embed = embed_gallery if name in _GALLERIES else embed_crops
        embedded[name] = embed(embedder, part, embedder.letterbox_colour, forward)
        done += len(part)
    return embedded


def _measure(
    sets: dict[str, EmbeddedCrops],
    herd: ClassMeans,
    draws: int,
    seed: int,
    *,
    with_sessions: bool = False,
) -> dict[str, Any]:
    query, unknown, newcomers = sets["query"], sets.get("unknown"), None
    if "newcomer_query" in sets:
        enrolled, asked = sets["newcomer_gallery"], sets["newcomer_query"]
        newcomers = Newcomers(
            enrolled.embeddings,
            enrolled.crops.names(),
            asked.embeddings,
            asked.crops.names(),
            asked.crops.sessions if with_sessions else None,
        )
    return evaluate_identification(
        query.embeddings,
        query.crops.names(),
        herd,
        unknown=unknown.embeddings if unknown else None,
        unknown_animals=unknown.crops.names() if unknown else None,
        newcomers=newcomers,
        tracks=query.crops.sessions if with_sessions else None,
        draws=draws,
        seed=seed,
    )


def _sessions(crops: CropSet) -> set[tuple[str, str]]:
    return set(zip(crops.names(), crops.sessions, strict=True))


def _dashed(name: str) -> str:
    return name.replace("_", "-")
