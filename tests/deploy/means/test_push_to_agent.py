"""A running agent on the demo's clip: class means pushed to it, and whoever would like to."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from deploy.cli import main
from deploy.means.letters import Letter, letters_for
from deploy.means.push import push
from deploy.repo.creating import create_repository
from deploy.repo.keys import KeyRing
from deploy.repo.passphrases import GivenPassphrases
from edge.errors import EarmarkError
from edge.identity.means import load_means, save_means
from edge.messaging.connection import open_connection
from edge.messaging.events import Sighting, UpdateReport, decode
from edge.messaging.local_broker import Mosquitto
from edge.messaging.topics import Topics
from edge.release.report import report_path
from tests.deploy.means.farm import (
    DEMO,
    PASSPHRASE,
    Farm,
    Running,
    bundle_without,
    indices,
    renewed,
    sign_again,
)

pytestmark = pytest.mark.slow
NEWCOMER = "pig09"
MEANS = DEMO / "bundle" / "means.npz"
# What the issue asks for, on a loopback.
APPLIED_S = 3.0


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundle_without(NEWCOMER, tmp_path_factory.mktemp("base") / "bundle")


@pytest.fixture
def farm(tmp_path: Path, bundle: Path, mosquitto: Mosquitto) -> Farm:
    """A device whose first release is installed; nothing runs yet."""
    farm = Farm(tmp_path, bundle, mosquitto.url)
    done = farm.edge("update", "--from", farm.public, "--once")
    assert done.returncode == 0, done.stderr
    return farm


@pytest.fixture
def updater(farm: Farm, wait_until: Callable[..., None]) -> Iterator[subprocess.Popen[str]]:
    """The farm's updater, when it has looked once."""
    before = report_path(farm.store).stat().st_ino
    process = farm.start_updater()
    try:
        wait_until(lambda: report_path(farm.store).stat().st_ino != before, timeout_s=60)
        yield process
    finally:
        process.terminate()
        code = process.wait(30)
    assert code == 0


@pytest.fixture
def agent(
    farm: Farm, updater: subprocess.Popen[str], wait_until: Callable[..., None]
) -> Iterator[Running]:
    """The farm's agent, when it has named somebody."""
    running = Running(farm.config)
    try:
        wait_until(lambda: running.names() or running.errors, timeout_s=90)
        assert running.errors == []
        yield running
    finally:
        running.stop()


def sightings_of(subscriber: Any) -> list[Sighting]:
    return [decode(payload, Sighting) for payload in subscriber.payloads("sighting")]


def report_of(subscriber: Any) -> UpdateReport:
    return decode(subscriber.payloads("update")[-1], UpdateReport)


def test_class_means_reach_a_running_agent_within_seconds(
    farm: Farm,
    agent: Running,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    subscriber = subscribe(mosquitto.port)
    before = agent.release
    assert NEWCOMER not in agent.names()
    seq = farm.repository.publish_means(MEANS, f"device/{farm.device}")
    letters = letters_for(farm.repository.state(), farm.device)

    began_s = time.monotonic()
    swapped_s: list[float] = []

    def look(frame: object, result: object) -> None:
        if not swapped_s and agent.agent._served.release.bundle != before:
            swapped_s.append(time.monotonic() - began_s)

    agent.agent._observers.append(look)
    (fate,) = push(farm.config.broker.options(), {farm.device: letters}, seq, 30.0)
    assert (fate.outcome, fate.why) == ("applied", "")
    assert swapped_s[0] < APPLIED_S
    place = next(n for n, (_, release, _) in enumerate(agent.results) if release != before)

    # The newcomer is named in the next sightings, which tell of the new release.
    after = agent.release
    wait_until(lambda: len(agent.results) > place + 24, timeout_s=60)
    assert NEWCOMER in agent.names(place)
    wait_until(
        lambda: any(
            (event.animal, event.release) == (NEWCOMER, after) for event in sightings_of(subscriber)
        ),
        timeout_s=30,
    )
    report = report_of(subscriber)
    assert (report.phase, report.means) == ("idle", seq)
    assert report.release == farm.current

    # No frame was lost, and no track broken.
    assert indices(agent.results) == list(range(len(agent.results)))
    results = [result for _, _, result in agent.results[place - 3 : place + 4]]
    for one, following in pairwise(results):
        seen = {track.id for track in one.tracks if track.seen}
        assert seen <= {track.id for track in following.tracks}
    assert agent.said == []


def test_whoever_has_the_brokers_password_changes_nothing_that_runs(
    farm: Farm,
    agent: Running,
    tmp_path: Path,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
) -> None:
    subscriber = subscribe(mosquitto.port)
    before, release = farm.current, agent.release
    genuine = letters_for(farm.repository.state(), farm.device)
    # A repository of the thief's own, with class means in which everybody has another's name.
    ring = KeyRing([tmp_path / "theirs" / "keys"], GivenPassphrases(PASSPHRASE))
    theirs = create_repository(tmp_path / "theirs", ring)
    swapped = with_other_names(tmp_path / "swapped")
    theirs.assign("all", theirs.publish(swapped))
    theirs.publish_means(swapped / "means.npz", f"device/{farm.device}")
    for _ in range(20):
        theirs.renew(["timestamp"])
    stolen = letters_for(theirs.state(), farm.device)
    repo = Topics(farm.device).repo
    connection = open_connection(farm.config.broker.options(), "thief")

    def publish(topic: str, data: bytes) -> None:
        ticket = connection.publish(topic, data, retain=True)
        while ticket not in [ack.ticket for ack in connection.turn(1.0)]:
            pass

    for letter in stolen:
        publish(f"{repo}/{letter.path}", letter.data)
    wait_until(lambda: report_of(subscriber).reason == "signature", timeout_s=60)
    # What is no file of a repository, and what no reader should choke on.
    for name, data in {
        "../../state/floor.json": b"{}",
        "metadata/../../current": b"x",
        "metadata/timestamp.json": b"[" * 100_000,
        "metadata/9.snapshot.json": b"\xff" * 1000,
        "targets/means/x.npz": b"x",
    }.items():
        publish(f"{repo}/{name}", data)
    # The genuine files under one another's names.
    for letter, other in zip(genuine, reversed(genuine), strict=True):
        publish(f"{repo}/{letter.path}", other.data)
    frames = len(agent.results)
    wait_until(lambda: len(agent.results) > frames + 24, timeout_s=60)
    report = report_of(subscriber)
    assert (report.phase, report.release) == ("rejected", before)
    assert not report.closed
    assert (farm.current, agent.release) == (before, release)
    assert agent.errors == []
    assert {one for _, one, _ in agent.results} == {release}
    inside = [path for path in (farm.store / "inbox").rglob("*") if path.is_file()]
    assert {path.relative_to(farm.store / "inbox").parts[0] for path in inside} <= {
        "metadata",
        "targets",
    }
    connection.close()

    # What the operator has signed comes through all the same, and tidies up.
    seq = farm.repository.publish_means(MEANS, f"device/{farm.device}")
    letters = letters_for(farm.repository.state(), farm.device)
    (fate,) = push(farm.config.broker.options(), {farm.device: letters}, seq, 60.0)
    assert (fate.outcome, fate.why) == ("applied", "")
    assert agent.release != release


def with_other_names(folder: Path) -> Path:
    """Return the demo's bundle with everybody under another's name."""
    bundle_without(NEWCOMER, folder)
    means = load_means(folder / "means.npz")
    save_means(replace(means, animals=means.animals[::-1]), folder / "means.npz")
    sign_again(folder)
    return folder


def test_class_means_wait_at_the_broker_for_a_device_that_is_away(
    farm: Farm,
    capsys: pytest.CaptureFixture[str],
    wait_until: Callable[..., None],
) -> None:
    before = farm.current
    code = main(
        [
            "means",
            "push",
            "--device",
            farm.device,
            str(MEANS),
            "--repo",
            str(farm.folder / "repo"),
            "--passphrase-file",
            str(farm.folder / "passphrase"),
            "--broker",
            farm.config.broker.url,
        ]
    )
    assert code == 0
    assert f"{farm.device}: away; it takes them when it connects" in capsys.readouterr().out
    running = Running(farm.config)
    updater = farm.start_updater()
    try:
        wait_until(lambda: farm.current != before, timeout_s=90)
        wait_until(lambda: running.results and running.release != before[:12], timeout_s=30)
    finally:
        running.stop()
        updater.send_signal(signal.SIGTERM)
        updater.wait(30)
    assert running.errors == []


def test_a_devices_class_means_are_pulled_and_compared(
    farm: Farm,
    agent: Running,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "pulled.npz"
    pull = ["means", "pull", "--device", farm.device, "--out", str(out)]
    assert main([*pull, "--broker", farm.config.broker.url]) == 0
    assert out.read_bytes() == (farm.store / "current" / "means.npz").read_bytes()
    capsys.readouterr()
    assert main(["means", "diff", str(out), str(MEANS), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["means"]
    assert (found["new"], found["gone"], found["moved"]) == ([NEWCOMER], [], [])


def test_a_rejected_push_is_told_with_its_reason(
    farm: Farm, agent: Running, tmp_path: Path, wait_until: Callable[..., None]
) -> None:
    wait_until((farm.store / "run" / "embeddings.npz").exists, timeout_s=60)
    means = load_means(farm.store / "current" / "means.npz")
    turned = tmp_path / "turned.npz"
    save_means(replace(renewed(means, 9), animals=means.animals[::-1]), turned)
    # There must be something to hold them against.
    wait_until(lambda: len(agent.results) > 120, timeout_s=90)
    seq = farm.repository.publish_means(turned, "all")
    letters = letters_for(farm.repository.state(), farm.device)
    (fate,) = push(farm.config.broker.options(), {farm.device: letters}, seq, 60.0)
    assert fate.outcome == "refused"
    assert "shadow" in fate.why
    assert "another animal's name" in fate.why


def test_a_user_who_may_not_publish_is_told(
    farm: Farm, start_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read earmark/v1/#\n")
    broker = start_mosquitto(f"acl_file {rules}")
    letters = [Letter("metadata/timestamp.json", b"{}")]
    options = farm.config.broker.options()
    with pytest.raises(EarmarkError, match="may not publish"):
        push(type(options)(broker.url), {farm.device: letters}, 1, 1.0)
