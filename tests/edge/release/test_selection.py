from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.errors import BundleError
from edge.release import install
from edge.release.selection import Selected, peek, select
from edge.release.state import Boot, read_boot, write_boot
from edge.release.store import Store
from tests.edge.release import acts
from tests.edge.release.acts import NEW, OLD


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """OLD is current, NEW is on trial."""
    acts.given_trial(tmp_path / "store")
    return tmp_path / "store"


def of(root: Path, name: str, *, trial: bool = False) -> Selected:
    return Selected(Store(root).release(name), name, trial)


def test_a_release_on_trial_is_started_twice_and_each_try_is_counted_before(root: Path) -> None:
    for tries in (1, 2):
        assert select(root) == of(root, NEW.name, trial=True)
        assert read_boot(root) == Boot(trial=NEW.name, tries=tries)
    assert select(root) == of(root, OLD.name)
    assert read_boot(root).tries == 2


def test_without_a_trial_it_is_the_current_one(root: Path) -> None:
    install.roll_back(root, "no good")
    assert select(root) == of(root, OLD.name)


def test_a_trial_that_is_not_whole_is_not_started(root: Path) -> None:
    (Store(root).release(NEW.name) / "means.npz").unlink()
    assert select(root) == of(root, OLD.name)
    assert read_boot(root).tries == 0


def test_a_try_that_cannot_be_counted_is_not_made(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    assert select(root) == of(root, OLD.name)
    assert "the current release is started" in caplog.text


def test_before_the_first_release_one_line_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"current: no release was installed.*earmark-") as caught:
        select(tmp_path)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_looking_counts_nothing_and_lets_a_last_try_go_on(root: Path) -> None:
    assert peek(root, OLD.name) == of(root, NEW.name, trial=True)
    assert read_boot(root).tries == 0
    select(root)
    select(root)
    # The agent that made the last try goes on with it; another that runs the old one stays there.
    assert peek(root, NEW.name) == of(root, NEW.name, trial=True)
    assert peek(root, OLD.name) == of(root, OLD.name)
    install.roll_back(root, "no good")
    assert peek(root, NEW.name) == of(root, OLD.name)


def test_after_a_commit_what_was_tried_goes_on(root: Path) -> None:
    select(root)
    acts.commit(root, NEW)
    assert peek(root, NEW.name) == select(root) == of(root, NEW.name)


def test_looking_at_a_damaged_file_shows_the_current_one(root: Path) -> None:
    (root / "state" / "boot.json").write_bytes(b"{")
    assert peek(root, NEW.name) == of(root, OLD.name)


def test_a_trial_without_a_current_release_is_tried_and_then_there_is_none(tmp_path: Path) -> None:
    root = tmp_path / "store"
    acts.given_nothing(root)
    write_boot(root, Boot(trial=OLD.name))
    for _ in range(2):
        assert select(root) == of(root, OLD.name, trial=True)
    with pytest.raises(BundleError):
        select(root)
