"""Which messages a device gets: all that it must see, in order, and nothing that is too large."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import deploy.means.letters
from deploy.means.letters import devices_of, letters_for, scope_that_serves
from deploy.means.push import Fate, in_words
from deploy.repo.creating import create_repository
from deploy.repo.keys import KeyRing
from deploy.repo.passphrases import GivenPassphrases
from deploy.repo.repository import Repository
from edge.errors import UsageError
from edge.messaging.events import UpdateReport
from edge.release.channels.folder import InboxChannel
from edge.release.inbox import Inbox
from edge.release.state import Floor
from edge.release.trust import Trust
from tests.deploy.means.farm import DEMO, PASSPHRASE

MEANS = DEMO / "bundle" / "means.npz"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """The demo's bundle for everybody; class means for all, the north, and barn-7."""
    folder = tmp_path_factory.mktemp("farm") / "repo"
    ring = KeyRing([folder / "keys"], GivenPassphrases(PASSPHRASE))
    repository = create_repository(folder, ring)
    repository.assign("all", repository.publish(DEMO / "bundle"))
    repository.regroup("north", ["barn-7", "barn-8"])
    for scope in ("all", "group/north", "device/barn-7"):
        repository.publish_means(MEANS, scope)
    repository.rotate("timestamp")
    return repository


def test_what_a_device_gets_is_all_that_it_needs(published: Repository, tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "inbox")
    letters = letters_for(published.state(), "barn-7")
    for letter in letters:
        assert inbox.put(letter.path, letter.data)
    assert letters[-1].path == "metadata/timestamp.json"
    paths = [letter.path for letter in letters]
    assert [path.split("/")[1] for path in paths[:3]] == ["models", "means", "assignments"]
    assert not [path for path in paths if path.endswith(".tflite")]
    # A device that knows the first root believes it, and is told what to run.
    (tmp_path / "trust").mkdir()
    (tmp_path / "trust" / "root.json").write_bytes((published.folder / "root.json").read_bytes())
    trust = Trust(tmp_path / "trust", "barn-7", clock=lambda: datetime.now(UTC))
    wanted = trust.refresh(InboxChannel(tmp_path / "inbox"), Floor())
    assert wanted is not None
    assert wanted.means is not None
    assert wanted.means.path in paths
    assert wanted.files["manifest.json"].path in paths


def test_the_nearest_class_means_serve(published: Repository) -> None:
    state = published.state()
    fleet = state.fleet()
    assert fleet is not None
    found = [scope_that_serves(state, fleet, d) for d in ("barn-7", "barn-8", "barn-9")]
    assert found == ["device/barn-7", "group/north", "all"]
    assert devices_of(fleet, "group/north") == ["barn-7", "barn-8"]
    assert devices_of(fleet, "device/barn-1") == ["barn-1"]
    assert devices_of(fleet, "all") == ["barn-7", "barn-8"]


def test_what_is_too_large_for_a_broker_is_told(
    published: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy.means.letters, "MESSAGE_LIMIT_BYTES", 8_000)
    with pytest.raises(UsageError, match=r"means.*too many for a broker"):
        letters_for(published.state(), "barn-7")


def test_a_device_that_runs_nothing_gets_nothing(tmp_path: Path) -> None:
    ring = KeyRing([tmp_path / "repo" / "keys"], GivenPassphrases(PASSPHRASE))
    repository = create_repository(tmp_path / "repo", ring)
    with pytest.raises(UsageError, match="no bundle is assigned to it"):
        letters_for(repository.state(), "barn-7")


# -- what became of it -----------------------------------------------------------------------------


def reports(**changes: object) -> Iterator[UpdateReport]:
    fields = {
        "schema": 1,
        "device": "barn-7",
        "rev": 5,
        "phase": "idle",
        "release": None,
        "assignment": 1,
        "means": 1,
        "clock": "synced",
    }
    yield UpdateReport(**{**fields, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "outcome", "told"),
    [
        ({"means": 7}, "applied", "barn-7: applied after 1.5 s"),
        ({"means": 6}, "silent", "barn-7: no word yet"),
        (
            {"phase": "rejected", "reason": "shadow", "text": "3 of 20"},
            "refused",
            "barn-7: refused: shadow: 3 of 20",
        ),
        ({"phase": "rejected", "rev": 4}, "silent", "barn-7: no word yet"),  # from before
        ({"closed": True, "text": "torn"}, "refused", "barn-7: refused: idle: torn"),
        (
            {"phase": "deferred", "reason": "clock", "text": "not set"},
            "silent",
            "barn-7: no word yet (put off: clock: not set)",
        ),
    ],
)
def test_what_a_report_says_of_it(changes: dict[str, object], outcome: str, told: str) -> None:
    fate = Fate("barn-7", online=True)
    for report in reports(**changes):
        fate.hear(report, 7, 4, 1.5)
    assert (fate.outcome, in_words(fate)) == (outcome, told)
