"""How a herd moves: walks around each other, stands, eats, lies down, huddles.

World pixels and seconds; headings in radians, from x towards y (downwards in the picture).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainer.data.herd.body import Build
from trainer.data.herd.options import Light

PEN = (30.0, 86.0, 1250.0, 692.0)
TROUGH = (170.0, 36.0, 850.0, 88.0)

_Array = NDArray[np.float64]
_STEP_S = 1 / 12
_WARM_UP_S = 45.0
_WALK, _STAND, _EAT, _REST = range(4)
_SHARES: dict[Light, tuple[float, float, float, float]] = {
    "day": (0.64, 0.17, 0.10, 0.09),
    "dusk": (0.56, 0.16, 0.14, 0.14),
    "night": (0.52, 0.16, 0.06, 0.26),
}
# Discs that stand for a body: where along the axis (body lengths from the middle), how wide.
_DISC_PLACES = np.array([-0.27, -0.02, 0.20, 0.39])
_DISC_SIZES = np.array([0.92, 1.0, 0.88, 0.55])
_TURN_LIMIT = 1.5
_HEAD_DISC = 3
_INTO_TROUGH_PX = 26.0
# An animal pushes another aside only so fast: so bodies touch and overlap for a while.
_PUSH_PX_S = 55.0


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """All N animals at one moment.

    places (N, 2): the middle of each body. headings, front, rear, head (N,): radians; front, rear
    and head are how far shoulders, hips and head turn out of the heading. lying (N,): 0 stands, 1
    lies. breath (N,): factor on the width.
    """

    places: _Array
    headings: _Array
    front: _Array
    rear: _Array
    head: _Array
    lying: _Array
    breath: _Array


def herd_motion(
    builds: Sequence[Build], seed: int, light: Light, frames: int, fps: float, pace: float
) -> Iterator[Poses]:
    """Yield `frames` moments, 1 / fps seconds apart, of animals in the middle of their day."""
    herd = _Moving(builds, seed, light, pace)
    for _ in range(round(_WARM_UP_S / _STEP_S)):
        herd.step(_STEP_S)
    steps = max(1, round(1 / fps / _STEP_S))
    for _ in range(frames):
        yield herd.poses()
        for _ in range(steps):
            herd.step(1 / fps / steps)


class _Moving:
    def __init__(self, builds: Sequence[Build], seed: int, light: Light, pace: float) -> None:
        rng = self._rng = np.random.default_rng([seed, 77])
        count = len(builds)
        self._shares = _SHARES[light]
        self._length = np.array([build.length_px for build in builds])
        self._radius = np.array([build.radius_px for build in builds])
        self._fastest = pace * rng.uniform(55, 115, count)
        self._places = _free_places(rng, self._length)
        self._headings = rng.uniform(-np.pi, np.pi, count)
        self._goals = self._places.copy()
        self._goal_headings = np.full(count, np.nan)
        self._modes = np.full(count, _STAND)
        self._left_s = rng.uniform(0, 6, count)
        self._stuck_s = np.zeros(count)
        self._arrived = np.ones(count, bool)
        self._speeds = np.zeros(count)
        self._turns = np.zeros(count)
        self._front, self._rear, self._head = np.zeros((3, count))
        self._curl = rng.normal(0, 0.22, count)
        self._nod = np.zeros(count)
        self._lying = np.zeros(count)
        self._phase = rng.uniform(0, 2 * np.pi, count)
        self._breathing = rng.uniform(0, 2 * np.pi, count)

    def poses(self) -> Poses:
        wiggle = 0.05 * np.minimum(1, self._speeds / 40)
        return Poses(
            self._places.copy(),
            self._headings.copy(),
            self._front + wiggle * np.sin(self._phase),
            self._rear + wiggle * np.sin(self._phase + 2.2),
            self._head + wiggle * np.sin(self._phase + 0.9),
            self._lying.copy(),
            1 + 0.012 * np.sin(self._breathing),
        )

    def step(self, dt: float) -> None:
        self._decide(dt)
        self._steer(dt)
        self._push(dt)
        self._bend(dt)

    def _decide(self, dt: float) -> None:
        self._left_s -= dt * (self._arrived | (self._modes == _STAND))
        blocked = ~self._arrived & (self._speeds < 0.18 * self._fastest)
        self._stuck_s = np.where(blocked, self._stuck_s + dt, 0)
        distance = np.linalg.norm(self._goals - self._places, axis=1)
        near = distance < np.where(self._modes == _WALK, 0.3, 0.11) * self._length
        for index in np.flatnonzero(near & ~self._arrived):
            self._arrived[index] = True
        for index in np.flatnonzero((self._left_s <= 0) | (self._stuck_s > 3.5)):
            if self._modes[index] == _REST and not self._arrived[index]:
                self._arrived[index] = True
                self._goal_headings[index] = np.nan
                self._stuck_s[index] = 0
            else:
                self._choose(int(index))

    def _choose(self, index: int) -> None:
        rng = self._rng
        mode = int(rng.choice(4, p=self._shares))
        self._modes[index], self._arrived[index], self._stuck_s[index] = mode, False, 0
        self._goal_headings[index] = np.nan
        left, top, right, bottom = PEN
        margin = 0.5 * self._length[index]
        if mode == _STAND:
            self._goals[index] = self._places[index]
            self._arrived[index] = True
            self._left_s[index] = rng.uniform(1.5, 6)
        elif mode == _EAT:
            self._goals[index] = (rng.uniform(TROUGH[0], TROUGH[2]), top + 0.72 * margin)
            self._goal_headings[index] = -np.pi / 2 + rng.normal(0, 0.15)
            self._left_s[index] = rng.uniform(6, 16)
        elif mode == _REST:
            self._lie_down(index)
            self._left_s[index] = rng.uniform(20, 70)
        else:
            self._goals[index] = (
                rng.uniform(left + margin, right - margin),
                rng.uniform(top + margin, bottom - margin),
            )
            self._left_s[index] = 0.1

    def _lie_down(self, index: int) -> None:
        """Beside an animal that lies already, or in a place by the walls."""
        rng = self._rng
        left, top, right, bottom = PEN
        others = np.flatnonzero((self._lying > 0.6) & (np.arange(len(self._lying)) != index))
        if len(others) and rng.random() < 0.8:
            other = int(rng.choice(others))
            heading = self._headings[other] + rng.normal(0, 0.2)
            gap = 0.92 * (self._radius[index] + self._radius[other]) * rng.choice((-1, 1))
            normal = np.array([-np.sin(heading), np.cos(heading)])
            goal = self._places[other] + gap * normal + rng.normal(0, 8, 2)
            if rng.random() < 0.3:
                heading += np.pi
        else:
            heading = rng.uniform(-np.pi, np.pi)
            goal = np.array([rng.uniform(left, right), rng.uniform(top + 200, bottom)])
            walls = np.array([left + 75, right - 75, bottom - 70])
            side = int(rng.integers(3))
            goal[side // 2] = walls[side]
        low = np.array([left, top]) + 0.5 * self._length[index]
        high = np.array([right, bottom]) - 0.5 * self._length[index]
        self._goals[index] = np.clip(goal, low, high)
        self._goal_headings[index] = heading

    def _steer(self, dt: float) -> None:
        moving = ~self._arrived
        wish = self._goals - self._places
        distance = np.linalg.norm(wish, axis=1) + 1e-6
        wish = wish / distance[:, None] + self._avoidance(distance)
        error = _wrapped(np.arctan2(wish[:, 1], wish[:, 0]) - self._headings)
        settle = _wrapped(np.nan_to_num(self._goal_headings - self._headings))
        error = np.where(moving, error, np.where(self._lying < 0.4, settle, 0))
        target = np.clip(2.4 * error, -_TURN_LIMIT, _TURN_LIMIT)
        target *= np.where(moving, 1.0, 0.5)
        self._turns += (target - self._turns) * min(1, 6 * dt)
        straight = np.clip(np.cos(error), 0.08, 1) ** 1.5
        speed = np.minimum(self._fastest, 1.6 * distance + 8) * straight
        speed = np.where(moving & (self._lying < 0.25), speed, 0)
        self._speeds += (speed - self._speeds) * min(1, 3.5 * dt)
        self._headings = _wrapped(self._headings + self._turns * dt)
        step = self._speeds * dt
        self._places += step[:, None] * _directions(self._headings)
        self._phase += step / (0.42 * self._length) * 2 * np.pi
        down = self._arrived & (self._modes == _REST) & (np.abs(settle) < 0.5)
        self._lying = np.clip(self._lying + dt * np.where(down, 0.8, -0.8), 0, 1)

    def _avoidance(self, goal_distance: _Array) -> _Array:
        """Return pulls (N, 2) away from bodies ahead, mostly to the side that is nearer to free."""
        forward = _directions(self._headings)
        eyes = self._places + 0.3 * self._length[:, None] * forward
        discs, owners, radii = self._discs()
        offset = discs[None] - eyes[:, None]
        distance = np.linalg.norm(offset, axis=2) + 1e-6
        ahead = (offset * forward[:, None]).sum(axis=2) / distance
        aside = forward[:, None, 0] * offset[..., 1] - forward[:, None, 1] * offset[..., 0]
        reach = 0.75 * self._length[:, None] + radii[None]
        weight = np.clip(1 - distance / reach, 0, 1) * np.clip(ahead + 0.15, 0, 1)
        weight = weight * (owners[None] != np.arange(len(eyes))[:, None])
        # Close to a goal beside another animal, the wish to get there wins.
        weight *= np.clip(goal_distance / self._length, 0.1, 1)[:, None]
        turn = -np.sign(aside) * weight
        sideways = np.stack([-forward[:, 1], forward[:, 0]], axis=1)
        return 1.5 * sideways * turn.sum(axis=1)[:, None]

    def _discs(self) -> tuple[_Array, NDArray[np.int64], _Array]:
        axis = _directions(self._headings) * self._length[:, None]
        discs = self._places[:, None] + _DISC_PLACES[None, :, None] * axis[:, None]
        owners = np.repeat(np.arange(len(axis)), len(_DISC_PLACES))
        return discs.reshape(-1, 2), owners, (self._radius[:, None] * _DISC_SIZES).reshape(-1)

    def _push(self, dt: float) -> None:
        """Bodies that overlap part and turn aside; walls hold all of them back."""
        discs, owners, radii = self._discs()
        offset = discs[:, None] - discs[None]
        distance = np.linalg.norm(offset, axis=2) + 1e-6
        deep = np.clip(0.9 * (radii[:, None] + radii[None]) - distance, 0, None)
        deep *= owners[:, None] != owners[None]
        light = (1 - 0.88 * self._lying)[owners]
        yielding = light[:, None] / (light[:, None] + light[None])
        push = (offset / distance[..., None] * (deep * yielding)[..., None]).sum(axis=1)
        push = (push * 0.5).reshape(-1, len(_DISC_PLACES), 2)
        self._move(push, _PUSH_PX_S * dt)

        discs, _, radii = self._discs()
        low = np.array(PEN[:2]) + radii[:, None]
        low[_HEAD_DISC :: len(_DISC_PLACES), 1] -= _INTO_TROUGH_PX
        high = np.array(PEN[2:]) - radii[:, None]
        back = (np.clip(discs, low, high) - discs).reshape(-1, len(_DISC_PLACES), 2)
        self._move(back, 8 * _PUSH_PX_S * dt)

    def _move(self, push: _Array, limit: float) -> None:
        """Move and turn bodies by pushes (N, discs, 2) on their discs."""
        total = push.sum(axis=1) / 1.5
        size = np.linalg.norm(total, axis=1, keepdims=True)
        self._places += total * np.minimum(1, limit / np.maximum(size, 1e-6))
        arms = _directions(self._headings)[:, None] * _DISC_PLACES[None, :, None]
        torque = (arms[..., 0] * push[..., 1] - arms[..., 1] * push[..., 0]).sum(axis=1)
        turn = 1.6 * torque / self._length
        self._headings = _wrapped(self._headings + np.clip(turn, -0.06, 0.06))

    def _bend(self, dt: float) -> None:
        rng = self._rng
        count = len(self._places)
        resting = np.clip(self._lying * 2, 0, 1)
        self._nod += (-self._nod * 0.9 * dt) + 0.5 * np.sqrt(dt) * rng.standard_normal(count)
        alert = (1 - resting) * np.where(self._arrived, 1.0, 0.35)
        front = np.clip(0.42 * self._turns, -0.6, 0.6) * (1 - resting) + self._curl * resting
        rear = np.clip(0.36 * self._turns, -0.45, 0.45) * (1 - resting) + self._curl * resting
        head = np.clip(0.22 * self._turns + self._nod * alert, -0.7, 0.7)
        self._front += (front - self._front) * min(1, 4 * dt)
        self._rear += (rear - self._rear) * min(1, 2.2 * dt)
        self._head += (head - self._head) * min(1, 3.5 * dt)
        self._breathing += dt * 2.6


def _free_places(rng: np.random.Generator, length: _Array) -> _Array:
    """Return a place (N, 2) for each animal, the farthest from the others of some draws."""
    left, top, right, bottom = PEN
    places: list[_Array] = []
    for size in length:
        margin = 0.55 * size
        low, high = (left + margin, top + margin), (right - margin, bottom - margin)
        draws = rng.uniform(low, high, (20, 2))
        if places:
            gaps = np.linalg.norm(draws[:, None] - np.array(places)[None], axis=2).min(axis=1)
            places.append(draws[int(gaps.argmax())])
        else:
            places.append(draws[0])
    return np.array(places)


def _directions(angles: _Array) -> _Array:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _wrapped(angles: _Array) -> _Array:
    """Return angles in [-pi, pi)."""
    return (angles + np.pi) % (2 * np.pi) - np.pi
