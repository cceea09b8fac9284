"""Stays as a picture: a row an animal, a colour a camera, time from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import cv2
import numpy as np
from numpy.typing import NDArray

from deploy.report.presence import Stay

Colour = tuple[int, int, int]
Canvas = NDArray[np.uint8]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_INK: Colour = (40, 40, 40)
_GREY: Colour = (120, 120, 120)
_LINE: Colour = (225, 225, 225)
_BAND: Colour = (247, 247, 247)
_ROW = 30
_BAR = 20
_MARGIN = 20
_TITLE = 60
_AXIS = 34
_LEGEND_ROW = 30
# What a mouse's pointer would still hit: a visit of seconds in a picture of a week.
_LEAST_BAR = 3
# RGB; told apart by people with any kind of colour vision as far as so many can be (after Okabe and
# Ito), then once more lighter.
_COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (0, 158, 115),
    (204, 121, 167),
    (213, 94, 0),
    (86, 180, 233),
    (148, 103, 52),
    (112, 112, 112),
)
_STEPS = (
    *(timedelta(minutes=minutes) for minutes in (1, 2, 5, 10, 15, 30)),
    *(timedelta(hours=hours) for hours in (1, 2, 3, 6, 12)),
    *(timedelta(days=days) for days in (1, 2, 7, 14, 28, 91, 365)),
)
_LABEL_EVERY_PX = 90


def draw_timeline(
    found: Sequence[Stay],
    since: datetime,
    until: datetime,
    zone: tzinfo,
    *,
    title: str,
    width: int = 1600,
    animals: Sequence[str] = (),
) -> Canvas:
    """Return the picture, uint8 (H, width, 3) RGB. animals: rows to draw although nobody saw them.

    Two cameras at the same time share the row. A stay that goes on has an arrow; one whose time was
    not certain is hatched.
    """
    names = sorted({stay.animal for stay in found} | set(animals))
    places = sorted({stay.place for stay in found})
    colours = {place: _colour(number) for number, place in enumerate(places)}
    left = _MARGIN + max([_width(name) for name in names] + [60]) + 12
    right = width - _MARGIN - 12
    legend = _legend_lines(places, found, width - 2 * _MARGIN)
    top = _TITLE + _AXIS
    bottom = top + _ROW * max(len(names), 1)
    height = bottom + _AXIS + _LEGEND_ROW * len(legend) + _MARGIN
    canvas: Canvas = np.full((height, width, 3), 255, np.uint8)
    seconds = (until - since).total_seconds()

    def x_of(moment: datetime) -> int:
        share = min(max((moment - since).total_seconds() / seconds, 0.0), 1.0)
        return round(left + share * (right - left))

    _text(canvas, title, (_MARGIN, 36), scale=0.75)
    for row in range(0, len(names), 2):
        y = top + row * _ROW
        cv2.rectangle(canvas, (_MARGIN, y), (width - _MARGIN, y + _ROW - 1), _BAND, -1)
    for moment, label in _ticks(since, until, zone, (right - left) // _LABEL_EVERY_PX):
        x = x_of(moment)
        cv2.line(canvas, (x, top - 4), (x, bottom + 4), _LINE, 1)
        for y in (top - 12, bottom + 22):
            _text(canvas, label, (x - _width(label, 0.42) // 2, y), scale=0.42, colour=_GREY)
    if not names:
        _text(canvas, "nobody was seen", (left, top + 20), colour=_GREY)
    for row, name in enumerate(names):
        y = top + row * _ROW
        _text(canvas, name, (_MARGIN, y + _ROW // 2 + 5))
        own = [stay for stay in found if stay.animal == name]
        for stay, lane, lanes in _lanes(own):
            bar = _BAR // lanes
            low = y + (_ROW - _BAR) // 2 + lane * bar
            x1, x2 = x_of(stay.begin), x_of(stay.end)
            box = (x1, low, max(x2, x1 + _LEAST_BAR), low + bar - 1)
            _bar(canvas, box, colours[stay.place], stay)
    cv2.rectangle(canvas, (left, top), (right, bottom), _GREY, 1)
    _draw_legend(canvas, legend, colours, bottom + _AXIS + 16)
    return canvas


def _bar(canvas: Canvas, box: tuple[int, int, int, int], colour: Colour, stay: Stay) -> None:
    x1, y1, x2, y2 = box
    cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, -1)
    if stay.approximate:
        part = canvas[y1 : y2 + 1, x1 : x2 + 1]
        rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
        part[(rows + columns) % 6 < 2] = 255
        cv2.rectangle(canvas, (x1, y1), (x2, y2), colour, 1)
    if stay.state == "here":
        tip = (y2 - y1) // 2
        points = np.array([[x2, y1], [x2 + tip, (y1 + y2) // 2], [x2, y2]], np.int32)
        cv2.fillPoly(canvas, [points], colour, cv2.LINE_AA)


def _lanes(found: Sequence[Stay]) -> list[tuple[Stay, int, int]]:
    """Return stays with the lane of each, and how many lanes the row has: three at most."""
    ends: list[datetime] = []
    placed = []
    for stay in sorted(found, key=lambda stay: stay.begin):
        free = [lane for lane, end in enumerate(ends) if end <= stay.begin]
        if free:
            lane = free[0]
            ends[lane] = stay.end
        elif len(ends) < 3:
            lane = len(ends)
            ends.append(stay.end)
        else:
            lane = len(ends) - 1
            ends[lane] = max(ends[lane], stay.end)
        placed.append((stay, lane))
    return [(stay, lane, max(len(ends), 1)) for stay, lane in placed]


def _ticks(since: datetime, until: datetime, zone: tzinfo, most: int) -> list[tuple[datetime, str]]:
    """Return round local times with their labels, `most` at most."""
    step = next((step for step in _STEPS if (until - since) / step <= max(most, 1)), _STEPS[-1])
    # Whole days and hours of the clock on the wall, also where summer time begins in between.
    naive = since.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    ticks = []
    while (moment := naive.replace(tzinfo=zone).astimezone(UTC)) <= until:
        if moment >= since:
            midnight = naive.hour == naive.minute == 0
            ticks.append((moment, f"{naive:%d %b}" if midnight else f"{naive:%H:%M}"))
        naive += step
    return ticks


def _legend_lines(
    places: Sequence[str], found: Sequence[Stay], width: int
) -> list[list[tuple[str, int]]]:
    """Return what the legend says by lines, each with its x."""
    words = list(places)
    if any(stay.state == "here" for stay in found):
        words.append("> still there")
    if any(stay.approximate for stay in found):
        words.append("/ the device's clock was not set")
    lines: list[list[tuple[str, int]]] = []
    x = width
    for word in words:
        needed = _width(word, 0.5) + 50
        if x + needed > width or not lines:
            lines.append([])
            x = 0
        lines[-1].append((word, _MARGIN + x))
        x += needed
    return lines


def _draw_legend(
    canvas: Canvas, lines: list[list[tuple[str, int]]], colours: dict[str, Colour], top: int
) -> None:
    for number, line in enumerate(lines):
        y = top + number * _LEGEND_ROW
        for word, x in line:
            colour = colours.get(word)
            text = word
            if colour is not None:
                cv2.rectangle(canvas, (x, y - 8), (x + 18, y + 8), colour, -1)
            elif word.startswith(">"):
                points = np.array([[x + 4, y - 8], [x + 13, y], [x + 4, y + 8]], np.int32)
                cv2.fillPoly(canvas, [points], _GREY, cv2.LINE_AA)
                text = word[2:]
            else:
                rows, columns = np.mgrid[:17, :19]
                part = canvas[y - 8 : y + 9, x : x + 19]
                part[(rows + columns) % 6 >= 2] = _GREY
                text = word[2:]
            _text(canvas, text, (x + 25, y + 5), scale=0.5)


def _colour(number: int) -> Colour:
    red, green, blue = _COLOURS[number % len(_COLOURS)]
    if number // len(_COLOURS) % 2:
        return ((red + 255) // 2, (green + 255) // 2, (blue + 255) // 2)
    return red, green, blue


def _text(
    canvas: Canvas,
    text: str,
    at: tuple[int, int],
    *,
    scale: float = 0.5,
    colour: Colour = _INK,
) -> None:
    cv2.putText(canvas, text, at, _FONT, scale, colour, 1, cv2.LINE_AA)


def _width(text: str, scale: float = 0.5) -> int:
    return int(cv2.getTextSize(text, _FONT, scale, 1)[0][0])
