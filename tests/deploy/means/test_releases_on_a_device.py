"""Other models on a device: agent and updater as processes, started again as systemd would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import deploy.repo.checking
from edge.messaging.local_broker import Mosquitto
from edge.release.heartbeat import read_heartbeat
from edge.release.report import read_report
from edge.release.state import read_boot, read_journal
from tests.deploy.means.farm import DEMO, ENTRY, Farm, sign_again

pytestmark = pytest.mark.slow
# An agent that dies when it loads a bundle that begins so.
AGENT = """
import os
import edge.served
real = edge.served.serve_bundle
def serve_bundle(directory, **options):
    if os.environ["DIES_BY"] and directory.name.startswith(os.environ["DIES_BY"]):
        os.abort()
    return real(directory, **options)
edge.served.serve_bundle = serve_bundle
from edge.cli import entry
entry()
"""


class Supervisor:
    """Starts an agent again whenever it ends. codes: how it ended, each time."""

    def __init__(self, farm: Farm, dies_by: str = "") -> None:
        self.codes: list[int] = []
        self._farm, self._dies_by = farm, dies_by
        self._ending = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        command = [sys.executable, "-c", AGENT, "run", "--config", str(self._farm.config_file)]
        while not self._ending:
            self._process = subprocess.Popen(
                command,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "DIES_BY": self._dies_by},
            )
            self.codes.append(self._process.wait())

    def stop(self) -> None:
        self._ending = True
        if self._process is not None:
            self._process.terminate()
        self._thread.join(60)
        assert not self._thread.is_alive()


@pytest.fixture
def farm(tmp_path: Path, mosquitto: Mosquitto) -> Farm:
    """A device whose first release is installed. A trial is short."""
    farm = Farm(tmp_path, DEMO / "bundle", mosquitto.url, soak_s=2.0, soak_frames=10)
    done = farm.edge("update", "--from", farm.public, "--once")
    assert done.returncode == 0, done.stderr
    return farm


@pytest.fixture
def other_models(tmp_path: Path) -> Path:
    """The demo's bundle with a detector that is another file and answers the same."""
    folder = Path(shutil.copytree(DEMO / "bundle", tmp_path / "other"))
    with (folder / "detector.tflite").open("ab") as model:
        model.write(bytes(16))
    sign_again(folder)
    return folder


@pytest.fixture
def supervise(farm: Farm, wait_until: Callable[..., None]) -> Iterator[Callable[..., Supervisor]]:
    """Call for an agent that runs the first release."""
    started: list[Supervisor] = []

    def start(dies_by: str = "") -> Supervisor:
        started.append(Supervisor(farm, dies_by))
        wait_until(lambda: (beat := read_heartbeat(farm.store)) and beat.frames > 20, 90)
        return started[-1]

    yield start
    for one in started:
        one.stop()


def test_other_models_are_tried_and_kept_and_taken_back_by_hand(
    farm: Farm,
    other_models: Path,
    supervise: Callable[..., Supervisor],
    wait_until: Callable[..., None],
) -> None:
    first = farm.current
    supervisor = supervise()
    bundle = farm.repository.publish(other_models)
    seq = farm.repository.assign("all", bundle)
    done = farm.edge("update", "--from", farm.public)
    assert done.returncode == 0, done.stderr
    assert farm.current == f"{bundle[:12]}-{seq}"
    assert supervisor.codes == [75]
    beat = read_heartbeat(farm.store)
    assert beat is not None
    assert beat.release == farm.current
    second = farm.current
    status = farm.edge("update", "status").stdout
    assert f"release    {second}" in status
    assert f"before     {first}" in status

    # Back by hand, without a network; the agent follows, and it stays so.
    assert farm.edge("update", "rollback").returncode == 0
    assert farm.current == first
    wait_until(lambda: (b := read_heartbeat(farm.store)) and b.release == first, 60)
    assert supervisor.codes == [75, 75]
    refused = farm.edge("update", "--from", farm.public, "--once")
    assert refused.returncode == 1
    assert "taken back by hand" in refused.stderr
    assert farm.current == first


def test_an_agent_that_dies_twice_by_a_release_is_back_without_the_updater(
    farm: Farm,
    other_models: Path,
    supervise: Callable[..., Supervisor],
    wait_until: Callable[..., None],
) -> None:
    first = farm.current
    bundle = farm.repository.publish(other_models)
    supervisor = supervise(dies_by=bundle[:12])
    before = read_heartbeat(farm.store)
    assert before is not None
    farm.repository.assign("all", bundle)
    look = ["update", "--from", farm.public, "--config", str(farm.config_file)]
    update = subprocess.Popen([sys.executable, "-c", ENTRY, *look], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: read_boot(farm.store).trial is not None, 90)
    finally:
        update.kill()  # the updater is gone before anybody has tried the release
        update.wait()
    wait_until(lambda: len(supervisor.codes) >= 3, 90)
    assert supervisor.codes[:3] == [75, -6, -6]
    wait_until(lambda: (beat := read_heartbeat(farm.store)) and beat.boot != before.boot, 90)
    beat = read_heartbeat(farm.store)
    assert beat is not None
    assert (beat.release, beat.trial) == (first, False)
    assert len(supervisor.codes) == 3
    assert read_boot(farm.store).tries == 2

    # The updater comes back, says so, and does not try it again.
    done = farm.edge("update", "--from", farm.public, "--once")
    assert done.returncode == 1
    assert read_boot(farm.store).trial is None
    assert f"{bundle[:12]}-" in " ".join(read_journal(farm.store).rejected)
    report = read_report(farm.store)
    assert report is not None
    assert (report.phase, report.reason, farm.current) == ("rolled_back", "dies", first)


def test_a_second_agent_says_so_and_ends(farm: Farm, supervise: Callable[..., Supervisor]) -> None:
    supervise()
    second = farm.edge("run")
    assert second.returncode == 1
    assert "another agent runs here already" in second.stderr
    assert second.stderr.count("\n") == 1


def test_a_store_without_a_release_starts_no_agent(farm: Farm) -> None:
    (farm.store / "current").unlink()
    done = farm.edge("run")
    assert done.returncode == 1
    assert "no release was installed" in done.stderr


def test_models_that_answer_wrongly_never_reach_the_agent(
    farm: Farm,
    other_models: Path,
    supervise: Callable[..., Supervisor],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = farm.current
    supervisor = supervise()
    path = other_models / "selftest.npz"
    with np.load(path) as archive:
        held = {name: archive[name] for name in archive.files}
    np.savez_compressed(path, **{**held, "embeddings": -held["embeddings"]})
    sign_again(other_models)
    # The repository's own check would refuse it; somebody has a models key and no scruples.
    monkeypatch.setattr(deploy.repo.checking, "has_runtime", lambda: False)
    farm.repository.assign("all", farm.repository.publish(other_models))
    done = farm.edge("update", "--from", farm.public, "--once")
    assert done.returncode == 1
    assert "self-test" in done.stderr
    assert (farm.current, supervisor.codes) == (first, [])
