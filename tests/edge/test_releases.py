"""What the agent does for the updater: files from the broker, its report, its alarms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.identity.means import ClassMeans
from edge.messaging.connection import Message
from edge.messaging.discovery import ALARM_KINDS
from edge.messaging.events import UpdateReport, decode
from edge.release.heartbeat import read_heartbeat
from edge.release.inbox import wake_path
from edge.release.recent import read_recent, recent_path
from edge.release.report import report_path, write_report
from edge.releases import Releases

REPO = "earmark/v1/barn-7/down/repo"


class Post:
    """A messenger that keeps what it is given."""

    def __init__(self) -> None:
        self.notices: dict[str, bytes] = {}
        self.alarms: list[tuple[str, str]] = []

    def set_notice(self, topic: str, payload: bytes) -> None:
        self.notices[topic] = payload

    def alarm(self, kind: str, text: str) -> None:
        self.alarms.append((kind, text))


class Agent:
    """Releases at work; time stands still."""

    def __init__(self, root: Path, means: ClassMeans, **options: Any) -> None:
        self.root, self.now_s = root, 100.0
        self.post: Any = Post()
        embedder = SimpleNamespace(sha256="c" * 64)
        bundle = SimpleNamespace(means=means, manifest=SimpleNamespace(embedder=embedder))
        self.served: Any = SimpleNamespace(backend="cpu", degraded=False, bundle=bundle)
        self.releases = Releases(
            root, "barn-7", "boot-1", print, clock=lambda: self.now_s, **options
        )

    def tick(self) -> None:
        self.releases.tick(self.post, self.served)

    def hear(self, topic: str, payload: bytes = b"{}") -> None:
        handlers: Mapping[str, Any] = self.releases.handlers
        (one,) = [
            handler
            for wanted, handler in handlers.items()
            if wanted == topic or (wanted.endswith("/#") and topic.startswith(wanted[:-1]))
        ]
        one(Message(topic, payload, True))


@pytest.fixture
def agent(tmp_path: Path, herd_means: ClassMeans) -> Agent:
    return Agent(tmp_path, herd_means)


def report(rev: int, **changes: Any) -> UpdateReport:
    fields: dict[str, Any] = {
        "schema": 1,
        "device": "barn-7",
        "rev": rev,
        "phase": "idle",
        "release": None,
        "assignment": 0,
        "means": 0,
        "clock": "synced",
    }
    return UpdateReport(**{**fields, **changes})


def test_files_from_the_broker_go_into_the_inbox_and_wake_the_updater(agent: Agent) -> None:
    agent.hear(f"{REPO}/metadata/timestamp.json")
    assert (agent.root / "inbox" / "metadata" / "timestamp.json").read_bytes() == b"{}"
    woken = wake_path(agent.root).read_bytes()
    # The same again, as at every connection, and what is none of it, wake nobody.
    agent.hear(f"{REPO}/metadata/timestamp.json")
    agent.hear(f"{REPO}/../../etc/passwd")
    agent.hear(f"{REPO}/")
    assert wake_path(agent.root).read_bytes() == woken


def test_a_flood_of_files_costs_the_disk_little(agent: Agent) -> None:
    for number in range(1, 1000):
        agent.hear(f"{REPO}/metadata/{number}.root.json", b"%d" % number)
    files = list((agent.root / "inbox").rglob("*.json"))
    assert len(files) == 64
    agent.now_s += 3600
    agent.hear(f"{REPO}/metadata/timestamp.json")
    assert (agent.root / "inbox" / "metadata" / "timestamp.json").exists()


def test_without_the_channel_nothing_is_taken_in(tmp_path: Path, herd_means: ClassMeans) -> None:
    agent = Agent(tmp_path, herd_means, spool=False)
    assert set(agent.releases.handlers) == {"earmark/v1/barn-7/down/hint"}


def test_a_hint_and_the_command_wake_the_updater(agent: Agent) -> None:
    agent.hear("earmark/v1/barn-7/down/hint", b"anything at all \xff")
    woken = wake_path(agent.root).read_bytes()
    assert "nothing yet" in agent.releases.check_update()
    assert wake_path(agent.root).read_bytes() != woken
    write_report(agent.root, report(3, phase="deferred", reason="clock", text="no clock"))
    assert "deferred, no clock" in agent.releases.check_update()


def test_the_updaters_report_is_published_when_it_changes(agent: Agent) -> None:
    agent.tick()
    assert agent.post.notices == {}
    write_report(agent.root, report(1, phase="trial", candidate="aaaaaaaaaaaa-1"))
    assert agent.releases.changed()
    agent.tick()
    payload = agent.post.notices["earmark/v1/barn-7/up/update"]
    assert decode(payload, UpdateReport).candidate == "aaaaaaaaaaaa-1"
    assert not agent.releases.changed()
    agent.post.notices.clear()
    agent.tick()
    assert agent.post.notices == {}
    assert agent.post.alarms == []


@pytest.mark.parametrize("data", [b"", b"{", b"\xff" * 100, b"[" * 20_000])
def test_a_report_that_cannot_be_read_is_not_published(agent: Agent, data: bytes) -> None:
    report_path(agent.root).parent.mkdir(parents=True)
    report_path(agent.root).write_bytes(data)
    agent.tick()
    assert agent.post.notices == {}


def test_another_devices_report_is_not_published(agent: Agent) -> None:
    write_report(agent.root, report(1, device="barn-8"))
    agent.tick()
    assert agent.post.notices == {}


def test_a_failure_is_an_alarm_once(agent: Agent, herd_means: ClassMeans) -> None:
    failed = {"phase": "rolled_back", "candidate": "aaaaaaaaaaaa-1", "reason": "dies"}
    write_report(agent.root, report(1, **failed, text="the agent did not survive"))
    agent.tick()
    assert agent.post.alarms == [("update-failed", "the agent did not survive")]
    # Told again by the updater, and by an agent that was restarted because of it.
    write_report(agent.root, report(5, **failed, text="the agent did not survive"))
    agent.tick()
    other = Agent(agent.root, herd_means)
    other.tick()
    assert len(agent.post.alarms) == 1
    assert other.post.alarms == []
    # When it went well meanwhile, the same failure is one to hear of.
    write_report(agent.root, report(7))
    agent.tick()
    write_report(agent.root, report(9, **failed))
    agent.tick()
    assert len(agent.post.alarms) == 2


def test_a_store_that_is_closed_is_an_alarm(agent: Agent) -> None:
    write_report(agent.root, report(1, closed=True, text="floor.json: torn; repair it"))
    agent.tick()
    assert agent.post.alarms == [("updates-closed", "floor.json: torn; repair it")]
    assert {kind for kind, _ in agent.post.alarms} <= set(ALARM_KINDS)
    assert "update-failed" in ALARM_KINDS


def test_recent_embeddings_are_left_now_and_then(agent: Agent) -> None:
    agent.tick()
    assert read_recent(recent_path(agent.root)) is None

    class Red:
        size, dimension, letterbox_colour = 8, 3, (0, 0, 0)

        def embed(self, crops: np.ndarray) -> np.ndarray:
            return np.tile(np.float32([1, 0, 0]), (len(crops), 1))

    embedder: Any = Red()
    remembering = agent.releases.remembering(embedder)
    remembering.embed(np.zeros((2, 8, 8, 3), np.uint8))
    agent.tick()
    recent = read_recent(recent_path(agent.root))
    assert recent is not None
    assert len(recent.embeddings) == 2
    assert recent.embedder_sha256 == "c" * 64
    written = recent_path(agent.root).stat().st_ino
    remembering.embed(np.zeros((1, 8, 8, 3), np.uint8))
    agent.tick()
    assert recent_path(agent.root).stat().st_ino == written
    agent.now_s += 60
    agent.tick()
    recent = read_recent(recent_path(agent.root))
    assert recent is not None
    assert len(recent.embeddings) == 3


def test_a_disk_that_is_full_stops_no_agent(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "run").write_bytes(b"a file in its place")
    agent.tick()
    assert read_heartbeat(tmp_path) is None
