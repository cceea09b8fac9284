"""The report of `evaluate identification`: one HTML file that needs nothing beside it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.evaluate import page
from trainer.evaluate.answers import WRONG, AnsweredCrops
from trainer.pictures import contact_sheet

_MOST_TILES = 60
_TILE = 96
MEASURES = (
    ("macro_f1", "macro F1, nearest animal"),
    ("accuracy", "accuracy, nearest animal"),
    ("rank1", "rank-1"),
    ("rank5", "rank-5"),
    ("auroc", "AUROC, known against unknown by distance"),
    ("oscr", "OSCR, area under the open-set classification rate"),
    ("baks", "BAKS, balanced accuracy on known animals, refusals included"),
    ("baus", "BAUS, balanced accuracy on unknown animals"),
    ("coverage", "coverage: known crops that got a name"),
    ("named_accuracy", "accuracy among those"),
    ("known_refused", "known crops refused"),
    ("unknown_refused", "unknown crops refused"),
    ("newcomer_accuracy", "newcomers: accuracy among all animals"),
    ("newcomer_macro_f1", "newcomers: macro F1"),
    ("newcomer_refused", "newcomers: crops refused"),
    ("int8_macro_f1_drop", "macro F1 lost by int8"),
)
_PARITY = {"macro_f1": "macro F1", "accuracy": "accuracy", "rank1": "rank-1", "auroc": "AUROC"}


def measures_table(figures: Mapping[str, Any]) -> str:
    """Return the figures of `evaluate_identification` that are one number, with their intervals."""
    intervals = figures["intervals"]
    rows = [
        (text, figures[name], page.interval(intervals.get(name)))
        for name, text in MEASURES
        if figures.get(name) is not None
    ]
    note = ""
    if intervals:
        note = (
            "<p class=note>Intervals: 95 %, bootstrap over sessions. One of no width means that no "
            "session here spoke against the figure, not that none will.</p>"
        )
    return page.table(("measure", "value", "interval"), rows) + note


def frames_table(figures: Mapping[str, Any]) -> str:
    """Return macro F1 by how many frames of a session are averaged; empty without sessions."""
    if "macro_f1_by_frames" not in figures:
        return ""
    rows = list(figures["macro_f1_by_frames"].items())
    title = "<h3>Macro F1 when that many frames of a session are averaged</h3>"
    return title + page.table(("frames", "macro F1"), rows)


def identification_page(
    title: str,
    figures: Mapping[str, Any],
    asked: AnsweredCrops,
    pictures: Mapping[str, bytes],
    thresholds: Mapping[str, float],
) -> str:
    """Return the page as HTML.

    figures: of `trainer.evaluate.protocol.evaluate`. asked: every crop that was asked. pictures:
    PNGs by file name; those that are missing are left out. thresholds: cosine distance by animal.
    """
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        f"<p class=note>{html.escape(_setting(figures))}</p>",
        page.warnings(figures["warnings"]),
        page.cards(
            [
                ("macro F1", figures["macro_f1"]),
                ("rank-1", figures["rank1"]),
                ("known refused", figures["known_refused"]),
                ("unknown refused", figures["unknown_refused"]),
                ("newcomers named", figures["newcomer_accuracy"]),
            ]
        ),
        '<p><a href="map.html">Interactive map of the embedding space</a></p>',
        "<h2>Figures</h2>",
        measures_table(figures),
        *parity_table(figures),
        "<h3>Rank of the true animal (CMC)</h3>",
        page.table(
            ("among the first", *figures["cmc"]),
            [("share of crops", *figures["cmc"].values())],
        ),
        frames_table(figures),
        *_drawn(pictures),
        *_mistakes(asked),
        "<h2>By animal</h2>",
        _animals(figures["per_animal"], thresholds),
        *_newcomers(figures, thresholds),
        *_strangers(figures),
    ]
    return page.page(f"earmark: {title}", parts)


def _setting(figures: Mapping[str, Any]) -> str:
    sets = "; ".join(
        f"{name.replace('_', ' ')}: {row['crops']} crops of {row['animals']} animals in "
        f"{row['sessions']} sessions"
        for name, row in figures["counts"].items()
    )
    source = "the bundle's" if figures["means"] == "bundle" else "made from the gallery"
    return f"int8 model through the device's own code; class means {source}. {sets}."


def parity_table(figures: Mapping[str, Any]) -> Iterable[str]:
    """Yield what int8 costs: figures of both models side by side, and how alike they embed."""
    parity = figures.get("parity")
    if parity is None:
        return
    yield "<h3>int8 beside float</h3>"
    yield page.table(
        ("measure", "int8", "float"),
        [(text, parity["int8"][name], parity["float"][name]) for name, text in _PARITY.items()],
    )
    yield (
        f"<p>Cosine between the two: {parity['cosine_mean']:.4f} on average, "
        f"{parity['cosine_p05']:.4f} at the 5th percentile.</p>"
    )


def _drawn(pictures: Mapping[str, bytes]) -> Iterable[str]:
    titles = {
        "coverage.png": "What refusing more, or less, would bring",
        "confusion.png": "Who was taken for whom (open set: refusals are unknown)",
        "embedding_space.png": "Embedding space: crops, class means (crosses), wrong names ringed",
        "mean_space.png": "Mean space: the class means alone",
    }
    for name, title in titles.items():
        if name in pictures:
            yield f"<h2>{title}</h2>"
            yield page.image(pictures[name], title)


def _mistakes(asked: AnsweredCrops) -> Iterable[str]:
    """Show the crops that were given another animal's name, the surest first."""
    rows = [row for row, verdict in enumerate(asked.verdicts) if verdict == WRONG]
    yield f"<h2>Named wrongly: {len(rows)} of {len(asked)} crops</h2>"
    if not rows:
        return
    worst = asked.select(sorted(rows, key=lambda row: asked.distances[row])[:_MOST_TILES])
    captions = [f"{a} > {b}" for a, b in zip(worst.animals, worst.answers, strict=True)]
    tiles = worst.pictures(_TILE)
    yield "<p class=note>truth &gt; answer; nearest to the wrong animal first</p>"
    yield page.image(contact_sheet(list(tiles), captions, 112, 9), "truth > answer")


def _animals(table: Mapping[str, Any], thresholds: Mapping[str, float]) -> str:
    return page.table(
        ("animal", "precision", "recall", "F1", "crops", "threshold"),
        [
            (animal, row["precision"], row["recall"], row["f1"], row["n"], thresholds.get(animal))
            for animal, row in table.items()
        ],
    )


def _newcomers(figures: Mapping[str, Any], thresholds: Mapping[str, float]) -> Iterable[str]:
    if figures["newcomers"]:
        yield "<h2>Newcomers, enrolled beside the herd</h2>"
        yield _animals(figures["newcomers"], thresholds)


def _strangers(figures: Mapping[str, Any]) -> Iterable[str]:
    if not figures["unknown_confusion"]:
        return
    yield "<h2>Strangers</h2>"
    rows = []
    for animal, answers in figures["unknown_confusion"].items():
        total = sum(answers.values())
        named = sorted(
            ((count, name) for name, count in answers.items() if name != "unknown"), reverse=True
        )
        taken = ", ".join(f"{name} ({count})" for count, name in named[:3])
        rows.append((animal, total, answers.get("unknown", 0) / total, taken))
    yield page.table(("animal", "crops", "refused", "taken for"), rows)
