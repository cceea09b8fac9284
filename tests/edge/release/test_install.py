from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import durable
from edge.errors import BundleError, UsageError
from edge.release import install, state
from edge.release.install import Finished
from edge.release.selection import peek, select
from edge.release.state import Boot, Floor, Journal, StateDamagedError
from edge.release.store import Store
from tests.edge.release import acts
from tests.edge.release.acts import NEW, OLD, OTHER

Given = Callable[[Path], None]


@pytest.fixture
def make(tmp_path: Path) -> Callable[[Given], Path]:
    """Call with a state of `acts`: a store in it."""

    def make(given: Given) -> Path:
        given(tmp_path / "store")
        return tmp_path / "store"

    return make


def current(root: Path) -> str | None:
    folder = Store(root).current()
    return folder.name if folder else None


def test_finishing_a_fresh_store_makes_it(tmp_path: Path) -> None:
    assert install.finish(tmp_path / "new") == Finished("nothing")
    assert state.read_journal(tmp_path / "new") == Journal()


def test_a_trial_and_its_commit(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_staged)
    before = state.read_journal(root)
    install.begin_trial(root, NEW.name)
    assert state.read_journal(root).phase == "trial"
    assert state.read_boot(root) == Boot(trial=NEW.name)
    assert install.finish(root) == Finished("trial", NEW.name)
    install.commit(
        root,
        NEW.name,
        4,
        40,
        bundle="ab" * 32,
        means_sha256="cd" * 32,
        seen=Floor(root=3, timestamp=30, snapshot=20),
    )
    assert current(root) == NEW.name
    assert state.read_boot(root) == Boot()
    assert state.read_floor(root) == Floor(
        assignment=4,
        means=40,
        # The versions that OLD was committed under, where they are higher.
        root=3,
        timestamp=30,
        snapshot=20,
        bundle="ab" * 32,
        means_sha256="cd" * 32,
    )
    journal = state.read_journal(root)
    assert (journal.phase, journal.release, journal.previous) == ("idle", NEW.name, OLD.name)
    assert (journal.assignment, journal.means, journal.reason) == (4, 40, None)
    assert journal.rev > before.rev
    assert install.finish(root) == Finished("nothing", NEW.name)


def test_the_journal_is_written_before_each_act_and_the_swap_before_the_floor(
    make: Callable[[Given], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make(acts.given_trial)
    kept: list[str] = []

    def look(point: str) -> None:
        if point.endswith(": kept"):
            kept.append(point.removesuffix(": kept"))

    monkeypatch.setattr(durable, "observer", look)
    acts.commit(root, NEW)
    assert kept == [
        ".committed.json",
        "journal.json",
        "current",
        "floor.json",
        "boot.json",
        "journal.json",
    ]
    kept.clear()
    install.return_to_previous(root, "asked for")
    assert kept == ["journal.json", "current", "journal.json"]
    assert install.finish(root).done == "nothing"


@pytest.mark.parametrize(("assignment", "means"), [(2, 30), (3, 29)])
def test_what_is_older_than_what_ran_here_is_not_committed(
    make: Callable[[Given], Path], assignment: int, means: int
) -> None:
    root = make(acts.given_staged)
    before = state.read_journal(root)
    with pytest.raises(BundleError, match=r"older than what ran here \(3 and 30\)"):
        install.commit(root, NEW.name, assignment, means)
    assert (current(root), state.read_journal(root)) == (OLD.name, before)


def test_means_of_the_bundle_itself_have_no_seq_and_lower_no_floor(
    make: Callable[[Given], Path],
) -> None:
    root = make(acts.given_staged)
    install.commit(root, NEW.name, 4, 0)
    assert state.read_floor(root).means == 30


def test_a_release_that_is_not_whole_is_neither_tried_nor_committed(
    make: Callable[[Given], Path],
) -> None:
    root = make(acts.given_staged)
    before = state.read_journal(root)
    (Store(root).release(NEW.name) / "embedder.tflite").unlink()
    for act in (acts.commit, lambda root, release: install.begin_trial(root, release.name)):
        with pytest.raises(BundleError, match=r"embedder\.tflite: missing"):
            act(root, NEW)
    assert (current(root), state.read_journal(root)) == (OLD.name, before)


def test_the_same_release_under_higher_means_only_raises_the_floor(
    make: Callable[[Given], Path],
) -> None:
    root = make(acts.given_updated)
    install.commit(root, NEW.name, 4, 77)
    assert current(root) == NEW.name
    assert state.read_floor(root).means == 77
    assert state.read_journal(root).previous == OLD.name


def test_a_trial_that_failed_is_remembered_and_over(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_trial)
    floor = state.read_floor(root)
    install.roll_back(root, "it hung" + "x" * 1000)
    journal = state.read_journal(root)
    assert (journal.phase, journal.release) == ("rolled_back", NEW.name)
    assert journal.rejected[NEW.name].startswith("it hung")
    assert state.read_boot(root) == Boot()
    assert state.read_floor(root) == floor
    assert select(root).release == OLD.name
    assert install.finish(root) == Finished("nothing", NEW.name)
    with pytest.raises(UsageError, match="no release is on trial"):
        install.roll_back(root, "again")


def test_what_is_refused_before_it_was_tried_is_remembered(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_staged)
    install.reject(root, NEW.name, "means with NaN")
    journal = state.read_journal(root)
    assert (journal.phase, journal.reason) == ("rejected", "means with NaN")
    assert journal.rejected == {NEW.name: "means with NaN"}
    assert current(root) == OLD.name


@pytest.mark.parametrize("phase", ["checking", "downloading", "verifying", "staged"])
def test_what_was_only_begun_starts_anew(make: Callable[[Given], Path], phase: state.Phase) -> None:
    root = make(acts.given_fetched)
    rev = install.enter(root, phase, release=NEW.name).rev
    part = Store(root).part("ab" * 32)
    part.write_bytes(b"half")
    assert install.finish(root) == Finished("started_anew", NEW.name, f"was {phase}")
    assert state.read_journal(root).phase == "idle"
    assert state.read_journal(root).rev == rev + 1
    assert part.read_bytes() == b"half"


@pytest.mark.parametrize("phase", ["idle", "rolled_back", "rejected", "deferred"])
def test_what_is_at_rest_stays_as_it_is(make: Callable[[Given], Path], phase: state.Phase) -> None:
    root = make(acts.given_running)
    journal = install.enter(root, phase, reason="because")
    state.write_boot(root, Boot(trial=OLD.name))
    assert install.finish(root).done == "nothing"
    assert state.read_journal(root) == journal
    assert state.read_boot(root) == Boot()


def test_a_trial_whose_tries_are_used_up_is_rolled_back_offline(
    make: Callable[[Given], Path],
) -> None:
    root = make(acts.given_trial)
    select(root)
    assert install.finish(root).done == "trial"
    select(root)
    finished = install.finish(root)
    assert (finished.done, finished.release) == ("rolled_back", NEW.name)
    assert "started 2 times" in finished.text
    assert NEW.name in state.read_journal(root).rejected
    assert select(root).release == OLD.name


def test_a_trial_that_is_not_whole_any_more_is_rolled_back(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_trial)
    (Store(root).release(NEW.name) / "means.npz").unlink()
    assert install.finish(root) == Finished("rolled_back", NEW.name, "not whole any more")


def test_a_trial_that_nobody_could_start_yet_starts_anew(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_trial)
    state.write_boot(root, Boot())
    assert install.finish(root) == Finished("started_anew", NEW.name, "was trial")


def test_a_commit_that_lost_its_release_is_given_up(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_committing)
    (Store(root).release(NEW.name) / "means.npz").unlink()
    finished = install.finish(root)
    assert finished.done == "rolled_back"
    assert "means.npz: missing" in finished.text
    assert (current(root), state.read_journal(root).phase) == (OLD.name, "rolled_back")


def test_a_commit_that_lost_its_release_after_the_swap_goes_back(
    make: Callable[[Given], Path],
) -> None:
    root = make(acts.given_committing)
    Store(root).commit(NEW.name)
    (Store(root).release(NEW.name) / "means.npz").unlink()
    assert install.finish(root).done == "rolled_back"
    assert current(root) == OLD.name


def test_going_back_to_what_ran_before_keeps_the_floor_and_needs_no_network(
    make: Callable[[Given], Path],
) -> None:
    root = make(acts.given_updated)
    floor = state.read_floor(root)
    assert install.return_to_previous(root, "asked for") == OLD.name
    assert current(root) == OLD.name
    assert state.read_floor(root) == floor
    journal = state.read_journal(root)
    assert (journal.phase, journal.reason, journal.previous) == ("rolled_back", "asked for", None)
    assert journal.rejected[NEW.name] == "asked for"
    with pytest.raises(BundleError, match="nothing to go back to"):
        install.return_to_previous(root, "again")
    # Old content under a higher seq, or something newer, can still come.
    acts.install_all(root, OTHER)
    assert current(root) == OTHER.name


def test_going_back_to_what_is_not_whole_changes_nothing(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_updated)
    before = state.read_journal(root)
    (Store(root).release(OLD.name) / "means.npz").unlink()
    with pytest.raises(BundleError, match="missing"):
        install.return_to_previous(root, "asked for")
    assert (current(root), state.read_journal(root)) == (NEW.name, before)


def test_a_repair_takes_the_floor_from_what_the_releases_were_committed_with(
    make: Callable[[Given], Path],
) -> None:
    root = make(acts.given_damaged)
    assert install.finish(root).done == "closed"
    expected = acts.floor_of(NEW)
    assert install.repair(root, rev=500) == expected == state.read_floor(root)
    assert state.read_journal(root) == Journal(rev=501)
    assert install.finish(root) == Finished("nothing")
    assert install.repair(root, Floor(snapshot=99)).snapshot == 99


def test_without_a_record_a_repair_has_the_seq_in_the_name(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_damaged)
    for name in (OLD.name, NEW.name):
        (Store(root).release(name) / ".committed.json").unlink()
    assert install.repair(root) == Floor(assignment=NEW.seq)


def test_who_removes_what_is_remembered_gets_no_floor_of_nought(
    make: Callable[[Given], Path],
) -> None:
    root = make(acts.given_updated)
    floor = state.read_floor(root)
    shutil.rmtree(root / "state")
    assert install.finish(root).done == "closed"
    with pytest.raises(StateDamagedError, match="missing"):
        install.begin_trial(root, OTHER.name)
    assert current(root) == NEW.name
    repaired = install.repair(root)
    assert (repaired.assignment, repaired.means) == (floor.assignment, floor.means)
    assert install.finish(root) == Finished("nothing")
    (root / "state" / "floor.json").unlink()
    assert install.finish(root).done == "closed"


def test_a_repair_of_what_is_whole_keeps_what_is_remembered(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_updated)
    before = state.read_journal(root)
    install.repair(root)
    after = state.read_journal(root)
    assert (after.rejected, after.previous) == (before.rejected, OLD.name)
    assert (after.phase, after.rev) == ("idle", before.rev + 1)


def test_while_closed_nothing_begins(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_damaged)
    with pytest.raises(StateDamagedError):
        install.begin_trial(root, OTHER.name)
    with pytest.raises(StateDamagedError):
        install.return_to_previous(root, "asked for")
    assert current(root) == NEW.name


def test_a_trial_that_nobody_can_judge_any_more_is_over(make: Callable[[Given], Path]) -> None:
    root = make(acts.given_trial)
    assert peek(root, NEW.name).release == NEW.name
    (root / "state" / "journal.json").write_bytes(b"{")
    assert install.finish(root).done == "closed"
    assert peek(root, NEW.name).release == OLD.name
    assert select(root).release == OLD.name
