from __future__ import annotations

import cv2
import numpy as np

from trainer.evaluate.tracking.paths import NamePath
from trainer.evaluate.tracking.pictures import path_panel, path_sheet

TRUE, NEAR, FAR = (255, 255, 255), (0, 158, 115), (213, 94, 0)
NOWHERE = (np.nan, np.nan)


def same(pixel: np.ndarray, colour: tuple[int, int, int]) -> bool:
    """Lines are drawn smooth, so their colour is a little darker on a dark ground."""
    return bool(np.abs(pixel.astype(int) - colour).max() < 40)


def path(true: list[tuple[float, float]], named: list[tuple[float, float]]) -> NamePath:
    return NamePath(np.array(true, float), np.array(named, float), 10.0, (50.0, 50.0))


def test_true_and_named_paths_have_their_colours_in_their_places() -> None:
    ground = np.zeros((100, 100, 3), np.uint8)
    true = [(10, 10), (40, 10), (70, 10)]
    panel = path_panel(ground, path(true, [(10, 18), (40, 18), (70, 80)]), 1.0)
    assert same(panel[10, 25], TRUE)
    # Eight pixels off is within a body length of ten, seventy are not.
    assert same(panel[18, 25], NEAR)
    assert same(panel[80, 70], FAR)
    assert not ground.any()


def test_a_path_breaks_where_it_has_no_place() -> None:
    ground = np.zeros((100, 100, 3), np.uint8)
    true = [(10, 50), NOWHERE, (90, 50)]
    panel = path_panel(ground, path(true, [NOWHERE] * 3), 1.0)
    assert same(panel[50, 90], TRUE)
    assert not panel[:, 30:70].any()
    assert not path_panel(ground, path([NOWHERE] * 3, [NOWHERE] * 3), 1.0).any()


def test_a_name_without_its_animal_is_far_off() -> None:
    ground = np.zeros((100, 100, 3), np.uint8)
    panel = path_panel(ground, path([NOWHERE, NOWHERE], [(20, 20), (60, 20)]), 1.0)
    assert same(panel[20, 40], FAR)


def test_a_sheet_has_a_row_an_animal_and_a_column_a_tracker() -> None:
    still = np.full((90, 160, 3), 200, np.uint8)
    one = path([(10, 10), (40, 10)], [NOWHERE, (40, 12)])
    data = path_sheet(still, {"earmark": {"a": one, "b": one}, "nearest-box": {"a": one, "b": one}})
    assert data is not None
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    # Tiles of the still's size, two lines of caption under each.
    assert sheet.shape == (2 * (90 + 30), 2 * 160, 3)
    assert path_sheet(still, {"earmark": {}}) is None
    # One tracker alone does not make a tower.
    data = path_sheet(still, {"earmark": dict.fromkeys("abcd", one)})
    assert data is not None
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert sheet.shape == (2 * (90 + 30), 3 * 160, 3)
