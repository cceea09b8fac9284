"""The grade of a camera's connection, on a clock of the test's own."""

from __future__ import annotations

from edge.capture.link import Link


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Camera:
    """A link and its clock."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.link = Link(self.clock)

    def send(self, fps: float, seconds: float) -> None:
        for _ in range(round(fps * seconds)):
            self.clock.now_s += 1 / fps
            self.link.frame()

    def away(self, seconds: float) -> None:
        """Be lost, at once, for so long."""
        self.link.lost()
        self.clock.now_s += seconds
        self.link.lost()


def test_a_camera_that_sends_evenly_is_good() -> None:
    camera = Camera()
    camera.send(12, 60)
    report = camera.link.report()
    assert (report.grade, report.reconnects, report.stalls) == ("good", 0, 0)
    assert report.fps == 12


def test_before_its_first_frame_nothing_is_known() -> None:
    report = Camera().link.report()
    assert (report.grade, report.fps, report.reconnects) == ("good", None, 0)


def test_a_camera_that_is_away_is_poor_until_it_is_back() -> None:
    camera = Camera()
    camera.send(12, 30)
    camera.away(100)
    assert camera.link.report().grade == "poor"
    assert camera.link.report().fps is None
    camera.send(12, 30)
    report = camera.link.report()
    assert (report.grade, report.reconnects, report.stalls) == ("good", 1, 0)


def test_reconnects_make_it_fair_and_then_poor() -> None:
    camera = Camera()
    grades = []
    for _ in range(12):
        camera.send(12, 30)
        grades.append(camera.link.report().grade)
        camera.away(5)
    # The first of them is no reconnect yet; more than 2 are fair, more than 10 poor.
    assert grades == ["good"] * 3 + ["fair"] * 8 + ["poor"]


def test_after_an_hour_a_reconnect_is_forgotten() -> None:
    camera = Camera()
    camera.send(5, 20)
    for _ in range(4):
        camera.away(5)
        camera.send(5, 1)
    assert camera.link.report().grade == "fair"
    camera.send(5, 3600)
    report = camera.link.report()
    assert (report.grade, report.reconnects) == ("good", 0)


def test_a_gap_is_a_stall_whether_the_camera_was_lost_or_not() -> None:
    camera = Camera()
    camera.send(12, 20)
    camera.clock.now_s += 2.5
    camera.link.frame()
    assert camera.link.report().stalls == 1
    camera.clock.now_s += 20
    camera.away(60)
    camera.send(12, 5)
    assert camera.link.report().stalls == 2


def test_a_camera_that_is_slow_by_its_nature_does_not_stall() -> None:
    camera = Camera()
    camera.send(0.2, 300)
    report = camera.link.report()
    assert report.grade == "good"
    assert report.stalls <= 3


def test_half_of_the_usual_rate_is_poor() -> None:
    camera = Camera()
    camera.send(25, 120)
    camera.send(15, 20)
    assert camera.link.report().grade == "fair"
    camera.send(10, 20)
    assert camera.link.report().grade == "poor"


def test_a_burst_at_the_start_is_not_the_usual_rate() -> None:
    camera = Camera()
    camera.send(100, 1)
    camera.send(12, 600)
    assert camera.link.report().grade == "good"
