from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.errors import DataError, UsageError
from edge.identity.means import OUTLIERS, ClassMeans
from trainer.data.folders import read_herd
from trainer.evaluate.protocol import (
    Protocol,
    check_protocol,
    doubts,
    evaluate,
)
from trainer.means.build import recalibrated
from trainer.means.embed import embed_crops

Draw = Callable[..., Path]


def test_folders_become_one_set_in_the_order_of_time(draw_crops: Draw) -> None:
    first = draw_crops("one", {"red/s_10": "red", "red/s_9": "red", "green/s_1": "green"})
    second = draw_crops("two", {"red/s_100": "red", "red/r_2": "red", "blue/s_1": "blue"})
    crops = read_herd([second, first])
    assert crops.animals == ("blue", "green", "red")
    assert [path.stem for path in crops.paths] == ["s_1", "s_1", "r_2", "s_9", "s_10", "s_100"]
    assert crops.sessions == ("s", "s", "r", "s", "s", "s")
    assert crops.names()[2:] == ("red",) * 4


def test_a_name_that_is_no_text_is_refused(draw_crops: Draw) -> None:
    folder = draw_crops("one", {"red/s_1": "red"})
    (folder / "red" / "s\udcff_2.png").touch()
    with pytest.raises(DataError, match="rename it"):
        read_herd([folder])


def test_animals_in_the_wrong_set_are_named(draw_crops: Draw, colour_means: ClassMeans) -> None:
    red = read_herd([draw_crops("red", {"red/s_1": "red"})])
    blue = read_herd([draw_crops("blue", {"blue/s_1": "blue"})])
    grey = read_herd([draw_crops("grey", {"grey/s_1": "grey"})])
    check_protocol(Protocol(red, unknown=blue), colour_means)
    check_protocol(Protocol(blue, gallery=blue, unknown=red), colour_means)
    for protocol, words in (
        (Protocol(blue), "--query: animal 'blue' is not in the bundle's class means.*--unknown"),
        (Protocol(red, gallery=blue), "'red' is not in the --gallery class means"),
        (Protocol(red, unknown=red), "--unknown: animal 'red' is in the bundle's.*--query"),
        (Protocol(red, newcomer_gallery=red, newcomer_query=red), "--newcomer-gallery: .*'red'"),
        (Protocol(red, newcomer_gallery=blue, newcomer_query=grey), "'grey' has no crops in"),
    ):
        with pytest.raises(DataError, match=words):
            check_protocol(protocol, colour_means)
    for half in (Protocol(red, newcomer_gallery=blue), Protocol(red, newcomer_query=blue)):
        with pytest.raises(UsageError, match="go together"):
            check_protocol(half, colour_means)


def test_sessions_on_both_sides_are_told(draw_crops: Draw) -> None:
    gallery = read_herd([draw_crops("g", {"red/s_1": "red", "green/t_1": "green"})])
    query = read_herd([draw_crops("q", {"red/s_2": "red", "red/s_3": "red", "green/s_4": "green"})])
    (warning,) = doubts(Protocol(query, gallery=gallery))
    assert warning.startswith("1 of 2 sessions of --query are in --gallery too (red/s)")
    assert "near-duplicate" in warning
    (warning,) = doubts(Protocol(query, newcomer_gallery=gallery, newcomer_query=query))
    assert "--newcomer-query are in --newcomer-gallery" in warning
    assert doubts(Protocol(query)) == []


def test_file_names_that_tell_no_session_are_told(draw_crops: Draw) -> None:
    query = read_herd([draw_crops("q", {"red/a": "red", "red/b": "red", "green/c": "green"})])
    (warning,) = doubts(Protocol(query))
    assert "session of its own" in warning


def test_means_of_a_gallery_keep_the_bundles_calibration(
    draw_crops: Draw,
    colour_means: ClassMeans,
    colour_embedder: Callable[..., Any],
) -> None:
    with_outliers = ClassMeans(
        colour_means.animals,
        np.concatenate([colour_means.prototypes, np.eye(3, dtype=np.float32)[2:]]),
        np.append(colour_means.owner, np.int32(OUTLIERS)),
        colour_means.sums,
        colour_means.counts,
        colour_means.threshold,
        colour_means.margin,
        colour_means.header,
    )
    crops = {f"red/s_{n}": "red" for n in range(3)} | {f"red/t_{n}": "orange" for n in range(3)}
    crops |= {"grey/s_1": "grey", "grey/s_2": "grey"}
    gallery = embed_crops(colour_embedder(), read_herd([draw_crops("g", crops)]))
    means = recalibrated(with_outliers, gallery)[0]
    assert means.animals == ("grey", "red")
    # The herd's usual threshold for the one that the bundle does not know, red's own for red.
    np.testing.assert_allclose(means.threshold, [0.15, 0.1])
    assert means.margin == colour_means.margin
    assert means.header == colour_means.header
    # Red has two prototypes, as in the bundle: one of each colour.
    assert means.owner.tolist() == [0, 1, 1, OUTLIERS]
    own = means.prototypes[1:3]
    for colour in ((230, 20, 20), (230, 120, 20)):
        unit = np.array(colour) / np.linalg.norm(colour)
        assert (own @ unit).max() == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(means.prototypes[3], [0, 0, 1])
    assert means.counts.tolist() == [2, 6]


@pytest.fixture
def sets(draw_crops: Draw) -> Protocol:
    """Every red and green crop is named right, but one of green's that is red."""
    gallery = {"red/s_1": "red", "red/s_2": "red", "green/s_1": "green", "green/s_2": "green"}
    query = {f"red/t_{n}": "red" for n in range(4)} | {f"green/t_{n}": "green" for n in range(3)}
    query |= {"green/u_1": "red"}
    newcomers = {"blue/s_1": "blue", "blue/s_2": "blue"}
    return Protocol(
        query=read_herd([draw_crops("query", query)]),
        gallery=read_herd([draw_crops("gallery", gallery)]),
        unknown=read_herd([draw_crops("unknown", {"x/t_1": "grey", "y/t_1": "red"})]),
        newcomer_gallery=read_herd([draw_crops("ng", newcomers)]),
        newcomer_query=read_herd([draw_crops("nq", {"blue/t_1": "blue", "blue/t_2": "green"})]),
    )


def test_figures_of_colours_by_hand(
    sets: Protocol,
    colour_means: ClassMeans,
    colour_embedder: Callable[..., Any],
) -> None:
    steps: list[tuple[int, int]] = []
    evaluation = evaluate(
        sets,
        colour_embedder(),
        colour_means,
        draws=50,
        report=lambda done, total, note="": steps.append((done, total)),
    )
    metrics = evaluation.metrics
    assert metrics["accuracy"] == 7 / 8
    assert metrics["confusion"] == {"green": {"green": 3, "red": 1}, "red": {"red": 4}}
    assert metrics["macro_f1"] == pytest.approx((6 / 7 + 8 / 9) / 2)
    # Grey lies 0.42 away from everybody, the other stranger looks like red.
    assert metrics["unknown_refused"] == 0.5
    assert metrics["unknown_confusion"] == {"x": {"unknown": 1}, "y": {"red": 1}}
    assert metrics["newcomer_accuracy"] == 0.5
    assert metrics["newcomers"]["blue"]["precision"] == 1
    assert metrics["means"] == "gallery"
    assert metrics["counts"]["query"] == {"crops": 8, "animals": 2, "sessions": 3}
    assert metrics["warnings"] == []
    assert metrics["intervals"]["accuracy"][0] < 7 / 8 <= metrics["intervals"]["accuracy"][1]
    assert steps[-1] == (18, 18)  # 4 + 8 + 2 + 2 + 2
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)

    asked = evaluation.asked
    assert asked.splits == ("query",) * 8 + ("unknown",) * 2 + ("newcomer",) * 2
    assert evaluation.herd == ("green", "red")
    assert evaluation.means.animals == ("green", "red", "blue")
    assert evaluation.gallery is not None
    assert set(evaluation.gallery.verdicts) == {"right"}


def test_a_float_twin_is_asked_the_same(
    sets: Protocol,
    colour_means: ClassMeans,
    colour_embedder: Callable[..., Any],
) -> None:
    # The "int8" one sees so much blue that all lie nearer together; the twin is the good one.
    evaluation = evaluate(
        sets, colour_embedder(0.8), colour_means, float_embedder=colour_embedder(), draws=0
    )
    parity = evaluation.metrics["parity"]
    assert parity["float"]["macro_f1"] == pytest.approx((6 / 7 + 8 / 9) / 2)
    assert evaluation.metrics["int8_macro_f1_drop"] == pytest.approx(
        parity["float"]["macro_f1"] - parity["int8"]["macro_f1"]
    )
    red = np.array([230, 20, 20], float)
    tilted = np.array([230, 20, 20 + 204], float)
    expected = red @ tilted / np.linalg.norm(red) / np.linalg.norm(tilted)
    assert parity["cosine_p05"] == pytest.approx(expected, abs=0.01)
    assert set(parity["int8"]) == set(parity["float"]) == {"macro_f1", "accuracy", "rank1", "auroc"}
    with pytest.raises(UsageError, match="needs --gallery"):
        evaluate(
            Protocol(sets.query),
            colour_embedder(),
            colour_means,
            float_embedder=colour_embedder(),
        )


def test_without_a_gallery_the_bundles_means_are_asked(
    sets: Protocol,
    colour_means: ClassMeans,
    colour_embedder: Callable[..., Any],
) -> None:
    evaluation = evaluate(Protocol(sets.query), colour_embedder(), colour_means, draws=5)
    assert evaluation.metrics["means"] == "bundle"
    assert evaluation.means is colour_means
    assert evaluation.gallery is None
    assert evaluation.metrics["auroc"] is None
