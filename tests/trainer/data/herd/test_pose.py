from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.data.herd.body import HALF_WIDTH
from trainer.data.herd.camera import Camera, open_camera
from trainer.data.herd.pose import canvas_patch, spine

FLAT = Camera(640, 360, 0.0, 2.0, 0.0, 0.0, 0.0, (1, 1, 1), 0.0, 0.0)
COLUMNS = 160
bends = st.floats(-0.6, 0.6)


def drawn(canvas: np.ndarray, heading: float, camera: Camera = FLAT) -> tuple[np.ndarray, int, int]:
    points = spine(np.array([640.0, 360.0]), heading, 0.0, 0.0, 0.0, 150.0)
    patch = canvas_patch(points, 1.0, canvas.shape[1], camera)
    return cv2.remap(canvas, patch.map_x, patch.map_y, cv2.INTER_LINEAR), patch.left, patch.top


@pytest.mark.parametrize("heading", [0.0, 1.0, 2.5, -2.0])
@pytest.mark.parametrize("number", [1, 2])
def test_head_is_ahead_and_left_is_left_whichever_way_it_walks(heading: float, number: int) -> None:
    canvas = np.zeros((96, COLUMNS, 3), np.uint8)
    canvas[:, :40, 0] = 255
    # The canvas has the head on its left, so the animal's left flank is its lower half.
    canvas[56:72, :, 1] = 255
    camera = open_camera(number, 1280, 720)
    image, _, _ = drawn(canvas, heading, camera)
    y, x = np.indices(image.shape[:2])

    def middle(channel: int) -> np.ndarray:
        weight = image[..., channel].astype(float)
        return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()

    turned = heading + camera.rotation
    forward = np.array([np.cos(turned), np.sin(turned)])
    left = np.array([forward[1], -forward[0]])
    centre = np.array(image.shape[1::-1]) / 2
    assert (middle(0) - centre) @ forward > 30
    assert (middle(1) - centre) @ left > 5


@settings(max_examples=40, deadline=None)
@given(st.floats(-3.1, 3.1), bends, bends, bends, st.sampled_from([1, 2]))
def test_the_spine_lies_on_the_middle_row_however_it_bends(
    heading: float, front: float, rear: float, head: float, number: int
) -> None:
    camera = open_camera(number, 1280, 720)
    points = spine(np.array([400.0, 300.0]), heading, front, rear, head, 150.0)
    patch = canvas_patch(points, 1.0, COLUMNS, camera)
    inner = points[4:-4]
    pixels = np.floor(camera.project(inner)).astype(int) - (patch.left, patch.top)
    along = np.linspace(-0.12, 1.12, len(points))[4:-4] * COLUMNS - 0.5
    rows = patch.map_y[pixels[:, 1], pixels[:, 0]]
    columns = patch.map_x[pixels[:, 1], pixels[:, 0]]
    np.testing.assert_allclose(rows, HALF_WIDTH * COLUMNS - 0.5, atol=2.0)
    np.testing.assert_allclose(columns, along, atol=2.5)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_pixel_shows_the_world_point_that_is_projected_there(number: int) -> None:
    camera = open_camera(number, 320, 180)
    x, y = camera.world_map()
    back = camera.project(np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float64))
    rows, columns = np.indices(x.shape)
    np.testing.assert_allclose(back[:, 0], columns.ravel() + 0.5, atol=0.02)
    np.testing.assert_allclose(back[:, 1], rows.ravel() + 0.5, atol=0.02)


def test_the_lens_is_a_barrel_and_the_two_cameras_differ() -> None:
    first, second = (open_camera(number, 1280, 720) for number in (1, 2))
    edge = np.array([[640.0, 360.0], [740.0, 360.0], [1140.0, 360.0], [1240.0, 360.0]])
    for camera in (first, second):
        x = camera.project(edge)[:, 0]
        assert x[3] - x[2] < 0.97 * (x[1] - x[0])
    assert first != second
