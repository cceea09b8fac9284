"""The updater when all is well, and when it has to wait."""

from __future__ import annotations

from pathlib import Path

from edge.release.channels import ChannelError
from edge.release.state import read_journal
from edge.release.store import Store, release_name
from tests.edge.release.barn import Barn, Farm


def test_the_first_release_needs_no_agent(memory: Path, farm: Farm) -> None:
    barn = Barn(memory / "store", farm)
    report = barn.settle()
    assert (report.phase, report.release, report.reason) == ("idle", None, None)
    seq = farm.assign("all", farm.bundle("one", "cow001"))
    barn.agent.away = True
    report = barn.look()
    assert (report.phase, report.release) == ("idle", barn.current)
    assert barn.current is not None
    assert (report.assignment, report.means) == (seq, 0)
    assert barn.asked[0].models


def test_other_models_are_tried_by_the_agent_and_then_stay(barn: Barn, farm: Farm) -> None:
    old = barn.current
    bundle = farm.bundle("two", "cow001")
    seq = farm.assign("all", bundle)
    began_s = barn.now_s
    report = barn.look()
    assert barn.current == report.release == release_name(bundle, seq) != old
    assert barn.phases == [
        "downloading",
        "verifying",
        "staged",
        "trial",
        "idle",
    ]
    assert barn.now_s - began_s >= 30
    assert [request.models for request in barn.asked] == [True]
    assert barn.agent.starts[-1] == barn.current
    assert barn.floor.assignment == seq
    assert barn.floor.bundle == bundle
    assert read_journal(barn.root).previous == old
    revs = [report.rev for report in barn.reports]
    assert revs == sorted(set(revs))
    # It proved itself: the agent goes on by it as by any other.
    barn.spend(2)
    assert barn.agent.running is not None
    assert not barn.agent.running.trial


def test_class_means_are_swapped_without_a_restart(barn: Barn, farm: Farm) -> None:
    starts = list(barn.agent.starts)
    seq = farm.means(farm.first, "cow001", "cow002", "cow099", scope="device/barn-7")
    fetched = len(farm.fetched)
    began_s = barn.now_s
    report = barn.look()
    assert (report.phase, report.means) == ("idle", seq)
    assert barn.now_s - began_s < 5
    assert barn.agent.starts == starts
    assert barn.agent.running is not None
    assert barn.agent.running.release == barn.current
    assert [request.models for request in barn.asked] == [False]
    content = [path for path in farm.fetched[fetched:] if path.startswith("targets/m")]
    assert [path.split("/")[1] for path in content] == ["means"]


def test_nothing_new_costs_no_content_and_no_trial(barn: Barn, farm: Farm) -> None:
    barn.look()
    fetched = len(farm.fetched)
    rev = read_journal(barn.root).rev
    barn.look()
    assert not [path for path in farm.fetched[fetched:] if path.startswith("targets/m")]
    assert barn.asked == []
    assert read_journal(barn.root).rev == rev + 2  # checking, and idle again


def test_class_means_of_another_embedder_are_left_out_and_told(barn: Barn, farm: Farm) -> None:
    before = barn.current
    farm.embedders["another"] = "d" * 64
    farm.means("another", "cow001", scope="device/barn-7")
    report = barn.look()
    assert (barn.current, report.phase, report.means) == (before, "idle", 0)
    assert "another embedder" in report.text


def test_going_back_is_the_old_bundle_under_a_higher_seq(barn: Barn, farm: Farm) -> None:
    first = barn.current
    farm.assign("all", farm.bundle("two", "cow001"))
    barn.look()
    seq = farm.assign("all", farm.first)
    barn.look()
    assert barn.current == release_name(farm.first, seq)
    assert barn.current != first
    assert barn.floor.assignment == seq


def test_the_same_class_means_under_a_higher_seq_are_installed_already(
    barn: Barn, farm: Farm
) -> None:
    farm.means(farm.first, "cow001", "cow005")
    barn.look()
    current = barn.current
    again = farm.means(farm.first, "cow001", "cow005", scope="device/barn-7")
    report = barn.look()
    assert (barn.current, report.means) == (current, again)
    assert len(barn.asked) == 1


def test_what_is_not_wanted_any_more_goes(barn: Barn, farm: Farm) -> None:
    names = [barn.current]
    for embedder in ("two", "three"):
        farm.assign("all", farm.bundle(embedder, "cow001"))
        barn.look()
        barn.spend(5)
        names.append(barn.current)
    barn.look()
    assert Store(barn.root).releases() == sorted(names[1:])  # current, and the one before
    blobs = [path for path in (barn.root / "blobs").rglob("*") if path.is_file()]
    # Detector and self-test are shared; each has an embedder and means; one signed manifest.
    assert len(blobs) == 2 + 2 * 2 + 1


def test_a_newer_release_in_the_next_channel_is_found(barn: Barn, farm: Farm) -> None:
    stale = farm.twin()
    bundle = farm.bundle("two", "cow001")
    seq = farm.assign("all", bundle)
    barn.channels[:] = [stale, farm]
    barn.start_updater()
    barn.look()
    assert barn.current == release_name(bundle, seq)


def test_a_channel_that_is_away_is_told_and_tried_again_soon(barn: Barn, farm: Farm) -> None:
    class Away:
        name = "https://away.example"

        def fetch(self, path: str, *, offset: int = 0, limit: int) -> object:
            raise ChannelError(f"{self.name}: nobody answers")

    barn.channels[:] = [Away()]  # type: ignore[list-item]
    barn.start_updater()
    report = barn.settle()
    assert (report.phase, report.reason) == ("idle", "no-channel")
    assert "nobody answers" in report.text
    assert 0 < barn.updater.step() <= 30


def test_an_agent_that_is_away_is_waited_for(barn: Barn, farm: Farm) -> None:
    before = barn.current
    barn.agent.away = True
    barn.spend(60)
    farm.assign("all", farm.bundle("two", "cow001"))
    report = barn.look()
    assert (report.phase, report.reason, barn.current) == ("deferred", "no-agent", before)
    assert barn.rejected == {}
    barn.agent.away = False
    barn.spend(10)
    assert barn.look().phase == "idle"
    assert barn.current != before
    assert len(barn.asked) == 1  # the gate was passed before


def test_without_an_agent_the_gate_decides(barn: Barn, farm: Farm) -> None:
    before = barn.current
    barn.agent.away = True
    barn.spend(60)
    barn.with_agent = False
    barn.start_updater()
    farm.assign("all", farm.bundle("two", "cow001"))
    assert barn.look().phase == "idle"
    assert barn.current != before


def test_progress_is_told_while_content_comes(barn: Barn, farm: Farm) -> None:
    farm.assign("all", farm.bundle("two", "cow001"))
    barn.look()
    told = [report.progress for report in barn.reports if report.phase == "downloading"]
    assert None not in told[1:]
    assert told[1:] == sorted(told[1:])
    assert len(told) <= 12
    assert {report.channel for report in barn.reports if report.phase == "trial"} == {farm.name}
