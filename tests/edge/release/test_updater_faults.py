"""Fault table of the updater: whatever goes wrong, what ran goes on, and is whole.

Hostile and failing models and class means as the agent meets them, crashes of the updater at every
point, a disk that is full or failing, damaged state, a wrong clock, two of each program.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from edge import durable
from edge.errors import EarmarkError
from edge.release import install
from edge.release.channels import ChannelError
from edge.release.follow import SecondAgentError, only_agent
from edge.release.gate import Answer, Code, Request
from edge.release.selection import select
from edge.release.state import Boot, read_boot, read_journal
from edge.release.store import Store, release_name
from edge.release.trial import TrialError
from edge.release.turn import SecondUpdaterError, only_updater, turn
from tests.edge.release.barn import Barn, Farm, means_npz
from tests.edge.release.repository import NOW


def assign_next(farm: Farm) -> str:
    """Let everybody run other models; return the release's name."""
    bundle = farm.bundle("two", "cow001")
    return release_name(bundle, farm.assign("all", bundle))


def until_trial(barn: Barn) -> None:
    """Step until the agent is asked to try what is new; it does not hear of it yet."""
    barn.updater.look()
    for _ in range(50):
        if read_journal(barn.root).phase == "trial":
            return
        barn.updater.step()
    raise AssertionError(barn.reports[-1])


# -- class means and models that must not run ------------------------------------------------------


@pytest.mark.parametrize("code", ["bundle", "self-test", "means", "shadow", "crashed", "hangs"])
def test_what_the_gate_refuses_is_never_started(barn: Barn, farm: Farm, code: Code) -> None:
    before, starts = barn.current, list(barn.agent.starts)

    def refuse(request: Request) -> Answer:
        raise TrialError(code, f"{request.release}: no good")

    barn.gate = refuse
    name = assign_next(farm)
    report = barn.look()
    assert (report.phase, report.reason, report.candidate) == ("rejected", code, name)
    assert (barn.current, barn.agent.starts) == (before, starts)
    assert "no good" in barn.rejected[name]
    # It is remembered, also by an updater that is started anew.
    barn.start_updater()
    assert barn.settle().phase == "rejected"
    assert len(barn.asked) == 1
    # Its content does not stay.
    assert name not in Store(barn.root).releases()


def broken_means(fault: str) -> Callable[[str], bytes]:
    def make(embedder: str) -> bytes:
        good = means_npz(embedder, "cow001", "cow002")
        return {
            "torn": good[: len(good) // 2],
            "no archive": b"means" * 100,
            "an animal twice": means_npz(embedder, "cow001", "cow001"),
            "another embedder inside": means_npz("e" * 64, "cow001"),
        }[fault]

    return make


@pytest.mark.parametrize(
    "fault", ["torn", "no archive", "an animal twice", "another embedder inside"]
)
def test_class_means_that_are_none_are_refused_however_well_signed(
    barn: Barn, farm: Farm, fault: str
) -> None:
    before = barn.current
    embedder = farm.embedders[farm.first]
    farm.publish_means(broken_means(fault)(embedder), "device/barn-7", embedder)
    report = barn.look()
    assert (report.phase, report.reason, barn.current) == ("rejected", "means", before)
    assert barn.asked == []  # not even staged
    # Good ones take their place.
    farm.means(farm.first, "cow001", "cow077", scope="device/barn-7")
    assert barn.look().phase == "idle"
    assert barn.current != before


BEHAVIOURS = {
    "dies": ("dies", 2),
    "errs": ("not-loaded", 1),
    "silent": ("no-frames", 1),
    "degraded": ("degraded", 1),
    "slow": ("too-slow", 1),
    "deaf": ("no-word", 1),
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_what_the_agent_cannot_work_by_is_taken_back(
    barn: Barn, farm: Farm, behaviour: str
) -> None:
    code, starts = BEHAVIOURS[behaviour]
    before = barn.current
    name = assign_next(farm)
    getattr(barn.agent, behaviour).add(name)
    report = barn.look()
    assert (report.phase, report.reason, report.candidate) == ("rolled_back", code, name)
    assert report.release == barn.current == before
    assert barn.agent.starts.count(name) == starts
    assert read_boot(barn.root) == Boot()
    # The agent is back at what it ran, and stays there.
    barn.agent.deaf.clear()
    barn.spend(30)
    assert barn.agent.running is not None
    assert (barn.agent.running.release, barn.agent.running.trial) == (before, False)
    assert barn.look().phase == "rolled_back"
    assert barn.agent.starts.count(name) == starts
    # The same content is tried again when somebody assigns it again.
    barn.agent.dies.clear()
    barn.agent.errs.clear()
    bundle = farm.fleet.releases["all"].bundle
    again = release_name(bundle, farm.assign("all", bundle))
    assert again != name
    assert barn.look().phase == "idle"
    assert barn.current == again


def test_an_accelerator_that_was_missing_before_is_no_reason(barn: Barn, farm: Farm) -> None:
    assert barn.current is not None
    barn.agent.degraded.add(barn.current)
    barn.spend(5)
    name = assign_next(farm)
    barn.agent.degraded.add(name)
    assert barn.look().phase == "idle"
    assert barn.current == name


def test_cameras_that_were_dark_before_are_no_reason(barn: Barn, farm: Farm) -> None:
    before = barn.current
    assert before is not None
    barn.agent.silent.add(before)
    barn.agent.dies.add(before)  # started anew, so that its count begins again
    barn.agent.running = None
    barn.spend(1)
    barn.agent.dies.clear()
    barn.spend(30)
    name = assign_next(farm)
    barn.agent.silent.add(name)
    report = barn.look()
    assert (report.phase, report.reason, barn.current) == ("deferred", "no-frames", before)
    assert barn.rejected == {}
    barn.agent.silent.clear()
    barn.spend(30)
    assert barn.look().phase == "idle"
    assert barn.current == name


def test_a_boot_loop_in_a_trial_ends_without_the_updater(barn: Barn, farm: Farm) -> None:
    before = barn.current
    name = assign_next(farm)
    until_trial(barn)
    # The updater is gone, and so is the network. The release takes the agent down at once.
    starts = [select(barn.root).release for _ in range(4)]
    assert starts == [name, name, before, before]
    # When the updater comes back it says so, and does not try it again.
    barn.channels.clear()
    barn.start_updater()
    report = barn.settle()
    assert (report.phase, report.candidate) == ("rolled_back", name)
    assert "started 2 times" in report.text
    assert name in barn.rejected
    assert barn.current == before
    assert select(barn.root).release == before


# -- the updater dies ------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Kill:
    """Kills at the n-th point that is passed; counts them otherwise."""

    at: int | None = None
    passed: int = 0

    def __call__(self, point: str) -> None:
        if self.passed == self.at:
            raise Killed(point)
        self.passed += 1


@pytest.fixture
def observe() -> Iterator[Callable[[Kill], None]]:
    """Call with who is to hear of every point."""
    before = durable.observer

    def watch(kill: Kill) -> None:
        durable.observer = kill

    yield watch
    durable.observer = before


def models(barn: Barn, farm: Farm) -> str:
    return assign_next(farm)


def class_means(barn: Barn, farm: Farm) -> str:
    farm.means(farm.first, "cow001", "cow002", "cow003", scope="device/barn-7")
    return ""


def bad_models(barn: Barn, farm: Farm) -> str:
    name = assign_next(farm)
    barn.agent.errs.add(name)
    return name


def run_killed(
    folder: Path,
    farm: Farm,
    wish: Callable[[Barn, Farm], str],
    kill: Kill,
    watch: Callable[[Kill], None],
) -> tuple[Barn, str | None, str, bool]:
    """Begin anew, kill the updater at a point, and let another one settle; was it killed?"""
    barn = Barn(folder, farm)
    barn.settle()
    barn.spend(60)
    before = barn.current
    name = wish(barn, farm)
    barn.updater.look()
    agent = barn.agent.live

    def undisturbed(now_s: float) -> None:
        # It is the updater that is killed.
        watch(Kill())
        agent(now_s)
        watch(kill)

    barn.agent.live = undisturbed  # type: ignore[method-assign]
    watch(kill)
    killed = False
    try:
        barn.settle()
    except Killed:
        killed = True
    watch(Kill())
    barn.agent.live = agent  # type: ignore[method-assign]
    barn.spend(40)  # nobody is there for a while but the agent
    assert barn.current is not None  # and verified
    barn.start_updater()
    barn.settle()
    return barn, before, name, killed


@pytest.mark.slow
@pytest.mark.parametrize("wish", [models, class_means, bad_models])
def test_killed_at_every_point_it_goes_on(
    wish: Callable[[Barn, Farm], str], memory: Path, observe: Callable[[Kill], None]
) -> None:
    first = Farm()
    first.first = first.bundle("one", "cow001", "cow002")
    first.assign("all", first.first)
    phases: set[str] = set()
    at, killed = 0, True
    while killed:
        folder = memory / str(at)
        farm = cast(Farm, first.twin())
        barn, before, name, killed = run_killed(folder, farm, wish, Kill(at), observe)
        said = f"killed at point {at}: {barn.reports[-1]}"
        if wish is bad_models:
            assert barn.current == before, said
            assert name in barn.rejected, said
        else:
            assert barn.current != before, said
            assert barn.current == name or not name, said
            assert barn.rejected == {}, said
        assert read_boot(barn.root) == Boot(), said
        assert barn.floor.assignment > 0, said
        phases |= set(barn.phases)
        shutil.rmtree(folder)
        at += 1
    assert at > 50
    assert "trial" in phases


# -- disk ------------------------------------------------------------------------------------------


def test_too_little_room_is_seen_before_anything_is_fetched(barn: Barn, farm: Farm) -> None:
    before = barn.current
    barn.free_bytes = 1 << 20
    assign_next(farm)
    fetched = len(farm.fetched)
    report = barn.look()
    assert (report.phase, report.reason, barn.current) == ("deferred", "disk-low", before)
    content = [path for path in farm.fetched[fetched:] if "manifest" not in path]
    assert not [path for path in content if path.startswith("targets/models")]
    barn.free_bytes = 1 << 30
    assert barn.look().phase == "idle"
    assert barn.current != before


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("place", ["blobs", "releases", "state"])
def test_a_disk_that_is_full_or_failing_costs_the_update_only(
    barn: Barn, farm: Farm, number: int, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = barn.current
    name = assign_next(farm)
    real = durable._sync
    failing = True

    def sync(path: Path, flags: int) -> None:
        if failing and path.is_relative_to(barn.root / place):
            raise OSError(number, "no", str(path))
        real(path, flags)

    monkeypatch.setattr(durable, "_sync", sync)
    barn.updater.look()
    for _ in range(20):
        barn.spend(min(barn.updater.step(), 5.0) if place != "state" else 1.0)
    assert barn.current == before
    assert barn.agent.running is not None
    assert barn.agent.running.release == before
    if place != "state":
        told = {report.reason for report in barn.reports}
        assert ("disk-full" if number == errno.ENOSPC else "disk-failing") in told
    failing = False
    barn.spend(60)
    barn.look()
    assert barn.current == name


# -- state -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["floor.json", "journal.json"])
@pytest.mark.parametrize("damage", ["torn", "gone", "nonsense"])
def test_damaged_state_closes_installs_and_nothing_else(
    barn: Barn, farm: Farm, file: str, damage: str
) -> None:
    before = barn.current
    path = barn.root / "state" / file
    whole = path.read_bytes()
    if damage == "torn":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b'{"schema": 1, "colour": "red"}')
    name = assign_next(farm)
    barn.start_updater()
    report = barn.settle()
    assert report.closed
    assert "update repair" in report.text
    barn.spend(120)
    assert barn.settle().closed
    assert barn.current == before
    assert barn.agent.running is not None
    assert barn.agent.running.release == before
    assert select(barn.root).release == before
    # A person repairs it; then it goes on.
    install.repair(barn.root, rev=report.rev)
    barn.start_updater()
    report = barn.settle()
    assert (report.phase, report.release, report.closed) == ("idle", name, False)


def test_the_floor_that_was_repaired_keeps_older_releases_out(barn: Barn, farm: Farm) -> None:
    old = farm.twin()
    assign_next(farm)
    barn.look()
    current = barn.current
    (barn.root / "state" / "floor.json").write_bytes(b"")
    install.repair(barn.root)
    shutil.rmtree(barn.root / "trust" / "tuf")
    barn.channels[:] = [old]
    barn.start_updater()
    report = barn.settle()
    assert (report.phase, report.reason, barn.current) == ("rejected", "older", current)


def test_tries_that_cannot_be_read_in_a_trial_roll_it_back(barn: Barn, farm: Farm) -> None:
    before = barn.current
    name = assign_next(farm)
    until_trial(barn)
    (barn.root / "state" / "boot.json").write_bytes(b"{")
    barn.settle()
    assert name in barn.rejected
    assert barn.current == before


# -- clock -----------------------------------------------------------------------------------------


def test_without_a_clock_nothing_is_installed_and_all_runs(barn: Barn, farm: Farm) -> None:
    before = barn.current
    assign_next(farm)
    barn.wall = None
    fetched = len(farm.fetched)
    report = barn.look()
    assert (report.phase, report.reason, report.clock) == ("deferred", "clock", "unsynced")
    assert (barn.current, len(farm.fetched)) == (before, fetched)
    rev = read_journal(barn.root).rev
    barn.spend(300)
    barn.look()
    assert read_journal(barn.root).rev == rev  # waiting costs the memory card nothing
    barn.wall = NOW
    assert barn.look().phase == "idle"
    assert barn.current != before


def test_a_clock_two_months_ahead_finds_all_expired_and_changes_nothing(
    barn: Barn, farm: Farm
) -> None:
    before = barn.current
    assign_next(farm)
    barn.wall = NOW + timedelta(days=60)
    report = barn.look()
    assert (report.phase, report.reason, barn.current) == ("rejected", "expired", before)
    barn.wall = NOW
    assert barn.look().phase == "idle"
    assert barn.current != before


# -- channels --------------------------------------------------------------------------------------


class Broken:
    """A channel that gives up after so many bytes of content."""

    name = "https://broken.example"

    def __init__(self, farm: Farm, limit: int) -> None:
        self.farm, self.left = farm, limit

    def fetch(self, path: str, *, offset: int = 0, limit: int) -> Iterator[bytes]:
        for chunk in self.farm.fetch(path, offset=offset, limit=limit):
            if path.startswith("targets/models"):
                self.left -= len(chunk)
            if self.left < 0:
                raise ChannelError(f"{self.name}: broke off")
            yield chunk


def test_a_download_that_breaks_off_goes_on_later(barn: Barn, farm: Farm) -> None:
    before = barn.current
    name = assign_next(farm)
    broken = Broken(farm, 20_000)
    barn.channels[:] = [broken]
    barn.start_updater()
    report = barn.settle()
    assert (report.phase, report.reason, barn.current) == ("deferred", "no-channel", before)
    assert "broke off" in report.text
    broken.left = 1 << 30
    assert barn.look().phase == "idle"
    assert barn.current == name


def test_content_that_is_not_what_was_signed_is_fetched_elsewhere(barn: Barn, farm: Farm) -> None:
    name = assign_next(farm)
    liar = farm.twin()
    for path in liar.files:
        if path.endswith("embedder.tflite"):
            liar.files[path] = bytes(len(liar.files[path]))
    liar.name = "mqtt:"  # asked first
    barn.channels[:] = [liar, farm]
    barn.start_updater()
    assert barn.settle().phase == "idle"
    assert barn.current == name


def test_a_repository_signed_by_a_stranger_changes_nothing(barn: Barn, farm: Farm) -> None:
    before = barn.current
    assign_next(farm)
    farm.sign_with("timestamp", None)
    fetched = len(farm.fetched)
    report = barn.look()
    assert (report.phase, report.reason, barn.current) == ("rejected", "signature", before)
    assert not [path for path in farm.fetched[fetched:] if path.startswith("targets/")]


# -- two of them -----------------------------------------------------------------------------------

HOLD = (
    "import sys, time; from pathlib import Path\n"
    "from edge.release.{module} import {lock}\n"
    "with {lock}(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize(
    ("module", "lock", "error", "told"),
    [
        ("follow", only_agent, SecondAgentError, "another agent"),
        ("turn", only_updater, SecondUpdaterError, "another updater"),
    ],
)
def test_the_second_says_so_and_ends(
    tmp_path: Path, module: str, lock: Any, error: type[EarmarkError], told: str
) -> None:
    program = HOLD.format(module=module, lock=lock.__name__)
    first = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(error, match=told) as caught, lock(tmp_path):
            pass
        assert "\n" not in str(caught.value)
        if module == "follow":
            assert str(first.pid) in str(caught.value)
    finally:
        first.kill()
        first.wait()
    with lock(tmp_path):  # the dead hold nothing
        pass


def test_who_asks_by_hand_waits_for_its_turn(tmp_path: Path) -> None:
    waited: list[str] = []
    with turn(tmp_path) as mine:
        assert mine
        with turn(tmp_path, 0.3, lambda: waited.append("waits")) as other:
            assert not other
    assert waited == ["waits"]
    with turn(tmp_path) as mine:
        assert mine


def test_a_second_updater_goes_on_where_the_first_one_was(barn: Barn, farm: Farm) -> None:
    name = assign_next(farm)
    until_trial(barn)
    other = Barn.start_updater(barn)
    barn.settle()
    assert barn.updater is other
    assert barn.current == name
