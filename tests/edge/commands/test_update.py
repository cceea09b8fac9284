"""`earmark-edge update`: by hand, on a store beside a repository in a folder."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import edge.updating
from edge.cli import main
from edge.console import in_one_line
from edge.errors import EarmarkError
from edge.release import install
from edge.release.gate import Answer, Request
from edge.release.inbox import wake_path
from edge.release.report import read_report
from edge.release.state import Boot, read_boot, read_journal
from edge.release.store import Store, release_name
from edge.release.turn import turn
from tests.edge.release.barn import Farm


class Device:
    """Settings, a store, and a repository that lies in a folder and is good until 2100."""

    def __init__(self, folder: Path) -> None:
        self.farm = Farm(days=27_000)
        self.root, self.repo = folder / "store", folder / "repo"
        (self.root / "trust").mkdir(parents=True)
        (self.root / "trust" / "root.json").write_bytes(self.farm.root)
        self.config = folder / "agent.yaml"
        self.settings: dict[str, Any] = {
            "bundle": "store/current",
            "device": "barn-7",
            "clock": "system",
            "cameras": [{"name": "pen", "source": "rtsp://camera/x"}],
            "updates": {"store": "store", "channels": [f"file://{self.repo}"]},
        }
        self.configure()

    def configure(self, **updates: Any) -> None:
        self.settings["updates"] |= updates
        self.config.write_text(yaml.safe_dump(self.settings))

    def assign(self, embedder: str = "one") -> str:
        """Publish a bundle and assign it; return the release's name."""
        bundle = self.farm.bundle(embedder, "cow001")
        name = release_name(bundle, self.farm.assign("all", bundle))
        self.publish()
        return name

    def publish(self) -> None:
        shutil.rmtree(self.repo, ignore_errors=True)
        self.farm.write_to(self.repo)

    def __call__(self, *arguments: str) -> int:
        return main([*arguments, "--config", str(self.config)])

    @property
    def current(self) -> str | None:
        folder = Store(self.root).current()
        return None if folder is None else folder.name


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    """The gate says yes to everything."""
    monkeypatch.setattr(edge.updating, "check_release", lambda request, alive: Answer())
    return Device(tmp_path)


def failure(act: Callable[[], int]) -> str:
    with pytest.raises(EarmarkError) as caught:
        act()
    text, code = in_one_line(caught.value)
    assert code in (1, 2)
    return text


def test_a_release_is_installed_and_the_status_tells_of_it(
    device: Device, capsys: pytest.CaptureFixture[str]
) -> None:
    name = device.assign()
    assert device("update") == 0
    assert device.current == name
    assert f"up to date: release {name}" in capsys.readouterr().out
    assert device("update", "status") == 0
    told = capsys.readouterr().out
    assert f"release    {name}" in told
    assert "assignment 1, class means 0" in told
    assert device("update", "status", "--json") == 0
    assert f'"release":"{name}"' in capsys.readouterr().out


def test_the_status_of_an_empty_store(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    assert device("update", "status") == 0
    assert "none yet" in capsys.readouterr().out
    assert "no updater has reported" in failure(lambda: device("update", "status", "--json"))


def test_another_channel_by_hand(device: Device, tmp_path: Path) -> None:
    name = device.assign()
    stick = tmp_path / "stick"
    shutil.move(device.repo, stick)
    assert "nothing was installed: no-channel" in failure(lambda: device("update", "--once"))
    assert device.current is None
    assert device("update", "--from", stick.as_uri()) == 0
    assert device.current == name


@pytest.mark.parametrize(
    ("settings", "arguments", "told"),
    [
        ({"channels": []}, [], "no channel"),
        ({"channels": ["ftp://x"]}, [], "ftp://x"),
        ({}, ["--from", "http://far.example/repo"], "write https://"),
    ],
)
def test_what_is_no_channel_is_one_line(
    device: Device, settings: dict[str, Any], arguments: list[str], told: str
) -> None:
    device.configure(**settings)
    assert told in failure(lambda: device("update", *arguments))


def test_without_a_store_there_is_nothing_to_update(device: Device) -> None:
    device.settings["bundle"] = "/somewhere"
    device.configure(store="")
    assert "updates.store is not set" in failure(lambda: device("update"))


def test_an_update_that_is_refused_says_why(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.assign()
    stranger = Farm(days=27_000)
    (device.root / "trust" / "root.json").write_bytes(stranger.root)
    assert "nothing was installed: " in failure(lambda: device("update", "--once"))
    report = read_report(device.root)
    assert report is not None
    assert report.phase == "rejected"


def test_one_that_is_put_off_has_an_exit_code_of_its_own(
    device: Device, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    device.assign()
    assert device("update") == 0
    name = device.assign("two")
    now_s = [0.0]
    monkeypatch.setattr(edge.updating.time, "monotonic", lambda: now_s[0])

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    monkeypatch.setattr("edge.commands.update.time.sleep", sleep)
    monkeypatch.setattr("edge.commands.update.time.monotonic", lambda: now_s[0])
    assert device("update", "--once") == 3
    assert "put off: no-agent" in capsys.readouterr().err
    assert device.current != name
    # Where no agent is to be, the gate decides.
    assert device("update", "--without-agent") == 0
    assert device.current == name


def test_back_to_the_release_before(device: Device, capsys: pytest.CaptureFixture[str]) -> None:
    first = device.assign()
    device("update", "--without-agent")
    second = device.assign("two")
    device("update", "--without-agent")
    assert device.current == second
    woken = wake_path(device.root)
    assert not woken.exists()
    assert device("update", "rollback") == 0
    assert f"release {first} runs again" in capsys.readouterr().out
    assert device.current == first
    assert woken.exists()
    assert "operator: taken back by hand" in failure(
        lambda: device("update", "--without-agent", "--once")
    )
    assert device.current == first
    assert "nothing to go back to" in failure(lambda: device("update", "rollback"))


def test_back_from_a_trial_that_is_going_on(device: Device) -> None:
    first = device.assign()
    device("update", "--without-agent")
    name = device.assign("two")
    device("update", "--without-agent")  # so that its content is there
    device("update", "rollback")
    install.begin_trial(device.root, name)
    assert device("update", "rollback") == 0
    assert read_boot(device.root) == Boot()
    assert read_journal(device.root).phase == "rolled_back"
    assert device.current == first


@pytest.mark.parametrize("answer", ["y\n", "n\n", ""])
def test_a_repair_asks_first(
    device: Device, answer: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name = device.assign()
    device("update")
    (device.root / "state" / "floor.json").write_bytes(b"{")
    assert "update repair" in failure(lambda: device("update", "--once"))
    assert device("update", "status") == 0
    assert "closed" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    if answer != "y\n":
        assert "not repaired" in failure(lambda: device("update", "repair"))
        assert (device.root / "state" / "floor.json").read_bytes() == b"{"
        return
    assert device("update", "repair") == 0
    assert "repaired: assignment 1" in capsys.readouterr().out
    assert device("update") == 0
    assert device.current == name


def test_who_works_already_is_waited_for(
    device: Device, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("edge.commands.update._TURN_S", 0.2)
    with turn(device.root):
        assert "has been under way" in failure(lambda: device("update"))
    assert "waiting for it" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_works_as_the_stores_owner(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    os.chown(device.root, 12345, 12346)
    became: dict[str, Any] = {}
    for name in ("setgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda value, name=name: became.setdefault(name, value))
    device("update", "status")
    assert became == {"setgroups": [], "setgid": 12346, "setuid": 12345}
    assert list(became) == ["setgroups", "setgid", "setuid"]


def test_the_gates_question_is_of_the_staged_release(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []

    def check(request: Request, alive: object) -> Answer:
        asked.append(request)
        return Answer()

    monkeypatch.setattr(edge.updating, "check_release", check)
    name = device.assign()
    device("update")
    assert [Path(request.release).name for request in asked] == [name]
    assert asked[0].models
