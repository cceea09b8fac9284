"""`earmark-deploy command`: what is sent, what is printed, and a whole agent at the other end."""

from __future__ import annotations

import base64
import io
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
import yaml

from deploy.cli import main
from deploy.command import (
    CommandOptions,
    NoReplyError,
    check_arguments,
    command,
    in_words,
    parse_argument,
    save_picture,
)
from edge.console import run_command
from edge.errors import EarmarkError, UsageError
from edge.files import sha256_file
from edge.identity.means import load_means, save_means
from edge.messaging.broker import BrokerOptions, BrokerRefused
from edge.messaging.connection import Connection, Message, Terms, open_connection
from edge.messaging.events import Command, Reply, Sighting, StateReport, decode, encode
from edge.messaging.local_broker import Mosquitto, free_port
from edge.messaging.topics import Topics
from edge.release.manifest import content_id, decode_manifest, encode_manifest

DEMO = Path(__file__).parents[2] / "models" / "demo"
ENTRY = "from edge.cli import entry; entry()"
TOPICS = Topics("barn-7")
slow = pytest.mark.slow


def reply(**changes: Any) -> Reply:
    fields: dict[str, Any] = {"device": "barn-7", "boot": "b7", "id": "a-1", "ok": True}
    return Reply(schema=1, **{**fields, **changes})


# -- arguments and words ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("level=debug", ("level", "debug")),
        ("width=640", ("width", 640)),
        ("loud=true", ("loud", True)),
        ("share=0.5", ("share", 0.5)),
        ("camera=pen-3", ("camera", "pen-3")),
        ("name=a=b", ("name", "a=b")),
        ("name=", ("name", "")),
        ("name=null", ("name", "null")),
        ("name=[1]", ("name", "[1]")),
        ("name=NaN", ("name", "NaN")),
        ('name="7"', ("name", '"7"')),
    ],
)
def test_an_argument_is_what_it_looks_like(text: str, read: tuple[str, object]) -> None:
    key, value = parse_argument(text)
    assert (key, value, type(value)) == (*read, type(read[1]))


@pytest.mark.parametrize("text", ["", "level", "=debug"])
def test_an_argument_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="KEY=VALUE"):
        parse_argument(text)


def test_arguments_of_known_commands_are_checked_before_anything_is_sent() -> None:
    check_arguments("set_log_level", {"level": "debug"})
    check_arguments("of_a_newer_device", {"anything": 1})
    with pytest.raises(UsageError, match="it takes level"):
        check_arguments("set_log_level", {"level": "loud"})
    with pytest.raises(UsageError, match="it takes no arguments"):
        check_arguments("restart", {"now": True})


def test_a_reply_in_words_names_results_but_no_picture() -> None:
    done = reply(text="told", result={"sightings": 5, "changed": ["naming", "log"]})
    assert in_words(done) == "barn-7: done (told)\n  sightings: 5\n  changed: naming, log"
    assert in_words(reply(ok=False, error="busy")) == "barn-7: refused: busy"
    still = reply(result={"camera": "pen", "jpeg": "A" * 1000})
    assert "AAAA" not in in_words(still)
    assert "--out FILE" in in_words(still)
    assert in_words(still, Path("still.jpg")).endswith("jpeg: still.jpg")


def test_the_picture_of_a_reply_is_saved(tmp_path: Path) -> None:
    path = tmp_path / "still.jpg"
    save_picture(reply(result={"jpeg": base64.b64encode(b"picture").decode()}), path)
    assert path.read_bytes() == b"picture"
    save_picture(reply(ok=False, error="not-allowed"), tmp_path / "none.jpg")
    assert not (tmp_path / "none.jpg").exists()
    for result in ({}, {"jpeg": 7}, {"jpeg": "no base64!"}):
        with pytest.raises(EarmarkError, match="not written"):
            save_picture(reply(result=result), path)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["earmark-deploy", "command", *arguments])
    return run_command(main, "earmark-deploy")


def test_wrong_usage_is_one_line_and_code_2(monkeypatch, capsys) -> None:
    for arguments, words in (
        (["Barn 7", "identify"], "device id 'Barn 7'"),
        (["barn-7", "snapshot", "--arg", "width=9"], "it takes camera, width"),
    ):
        url = f"mqtt://127.0.0.1:{free_port()}"
        assert run(monkeypatch, *arguments, "--broker", url) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1


# -- against a broker ------------------------------------------------------------------------------


class Answering:
    """A device that answers commands as it is told, in a thread of its own."""

    def __init__(self, url: str, answer: Callable[[Command, Message], list[Reply]]) -> None:
        self.heard: list[Message] = []
        self._answer = answer
        self._waiting: list[tuple[Reply, bytes | None]] = []
        self._connection: Connection = open_connection(
            BrokerOptions(url), "barn-7", on_message=self._hear
        )
        self._connection.subscribe(TOPICS.command)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _hear(self, message: Message) -> None:
        self.heard.append(message)
        said = decode(message.payload, Command)
        self._waiting += [(one, message.correlation) for one in self._answer(said, message)]

    def _run(self) -> None:
        while not self._stop.is_set():
            self._connection.turn(0.05)
            while self._waiting:
                one, correlation = self._waiting.pop(0)
                terms = Terms(correlation=correlation)
                self._connection.publish(TOPICS.reply, encode(one), retain=False, terms=terms)
        self._connection.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(20)


@pytest.fixture
def answering(mosquitto: Mosquitto) -> Iterator[Callable[..., Answering]]:
    made: list[Answering] = []

    def start(answer: Callable[[Command, Message], list[Reply]]) -> Answering:
        made.append(Answering(mosquitto.url, answer))
        return made[-1]

    yield start
    for one in made:
        one.close()


@slow
def test_the_reply_of_the_same_id_is_printed_and_decides_the_code(
    mosquitto: Mosquitto, answering: Callable[..., Answering]
) -> None:
    def answer(said: Command, message: Message) -> list[Reply]:
        refused = reply(id=said.id, ok=False, error="busy")
        return [reply(id="somebody-else"), reply(id=said.id) if said.args else refused]

    device = answering(answer)
    broker = BrokerOptions(mosquitto.url)
    out = io.StringIO()
    options = CommandOptions("barn-7", "set_log_level", {"level": "info"}, timeout_s=20)
    assert command(broker, options, out) == 0
    assert out.getvalue() == "barn-7: done\n"
    out = io.StringIO()
    other = CommandOptions("barn-7", "restart", timeout_s=20, as_json=True)
    assert command(broker, other, out) == 1
    assert json.loads(out.getvalue())["error"] == "busy"

    first = device.heard[0]
    said = decode(first.payload, Command)
    assert (said.name, said.args) == ("set_log_level", {"level": "info"})
    assert first.expires_s is not None
    assert 0 < first.expires_s <= 20
    assert first.response_topic == TOPICS.reply
    assert first.correlation == said.id.encode()
    assert not first.retained


@slow
def test_without_an_answer_it_says_what_may_be_wrong(
    mosquitto: Mosquitto, answering: Callable[..., Answering], monkeypatch, capsys
) -> None:
    options = ("--broker", mosquitto.url, "--timeout", "0.3")
    assert run(monkeypatch, "barn-7", "identify", *options) == 1
    error = capsys.readouterr().err
    assert "barn-7: no reply within 0.3 s (nobody listens there)" in error
    assert error.count("\n") == 1
    answering(lambda said, message: [])
    with pytest.raises(NoReplyError, match="it is away, or takes no commands"):
        command(BrokerOptions(mosquitto.url), CommandOptions("barn-7", "identify", timeout_s=0.3))


@slow
def test_who_may_not_command_is_told_so(
    start_mosquitto: Callable[..., Mosquitto], tmp_path: Path
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic read earmark/v1/+/up/#\n")
    broker = start_mosquitto(f"acl_file {rules}")
    with pytest.raises(BrokerRefused, match="may not command barn-7"):
        command(BrokerOptions(broker.url), CommandOptions("barn-7", "restart", timeout_s=20))


# -- a whole agent ---------------------------------------------------------------------------------


class Agent:
    """`earmark-edge run` on the demo's clip, as a process; its bundle is a copy."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.bundle = Path(shutil.copytree(DEMO / "bundle", folder / "bundle"))
        self.config = folder / "agent.yaml"
        self.settings: dict[str, Any] = {
            "bundle": str(self.bundle),
            "cameras": [
                {"name": "pen", "source": str(DEMO / "pen.mp4"), "realtime": True, "loop": True}
            ],
            "device": "barn-7",
            "state_dir": str(folder / "state"),
            "threads": 1,
            "inference": {"accelerator": "cpu"},
            "broker": {"url": url},
            "commands": {"snapshots": True},
            "sightings": {"update_every_s": 3600},
        }
        self.write()
        arguments = [sys.executable, "-c", ENTRY, "run", "--config", str(self.config)]
        self.process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)

    def write(self) -> None:
        self.config.write_text(yaml.safe_dump(self.settings))

    def raise_means(self) -> int:
        """Give the bundle class means with a higher seq; return it."""
        means = load_means(self.bundle / "means.npz")
        header = msgspec.structs.replace(means.header, seq=means.header.seq + 1)
        save_means(replace(means, header=header), self.bundle / "means.npz")
        path = self.bundle / "manifest.json"
        raw = json.loads(path.read_bytes())
        raw["files"]["means.npz"]["sha256"] = sha256_file(self.bundle / "means.npz")
        raw["files"]["means.npz"]["size"] = (self.bundle / "means.npz").stat().st_size
        manifest = decode_manifest(json.dumps(raw).encode(), "test")
        raw["id"] = content_id(manifest.files)
        path.write_bytes(encode_manifest(decode_manifest(json.dumps(raw).encode(), "test")))
        return header.seq

    def tell(self, name: str, *, out: Path | None = None, **args: Any) -> Reply:
        said = io.StringIO()
        options = CommandOptions("barn-7", name, args, timeout_s=60, as_json=True, out=out)
        code = command(BrokerOptions(self.url), options, said)
        answer = decode(said.getvalue().encode(), Reply)
        assert code == (0 if answer.ok else 1)
        return answer

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


@pytest.fixture
def agent(mosquitto: Mosquitto, tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path, mosquitto.url)
    yield agent
    agent.close()


@slow
def test_an_agent_does_what_it_is_told_until_it_is_told_to_restart(
    agent: Agent,
    mosquitto: Mosquitto,
    subscribe: Callable[..., Any],
    wait_until: Callable[..., None],
    tmp_path: Path,
) -> None:
    subscriber = subscribe(mosquitto.port)

    def sightings() -> list[Sighting]:
        return [decode(data, Sighting) for data in subscriber.payloads("sighting")]

    def states() -> list[StateReport]:
        return [decode(data, StateReport) for data in subscriber.payloads("state")]

    wait_until(lambda: [one for one in sightings() if one.animal is not None], timeout_s=90)

    told = agent.tell("identify")
    assert told.ok
    count = told.result["sightings"]
    assert isinstance(count, int)
    assert count >= 1
    wait_until(lambda: sum(one.type == "update" for one in sightings()) >= count)

    picture = tmp_path / "still.jpg"
    assert agent.tell("snapshot", out=picture, width=320).ok
    still = cv2.imdecode(np.frombuffer(picture.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert still.shape[1] == 320

    assert agent.tell("set_log_level", level="error").ok
    assert agent.tell("check_update").error == "unsupported"

    seq = agent.raise_means()
    agent.settings["naming"] = {"min_votes": 2}
    agent.write()
    reloaded = agent.tell("reload")
    assert reloaded.ok, reloaded.text
    assert reloaded.result["changed"] == ["naming", "bundle"]
    assert reloaded.result["means_seq"] == seq
    told = agent.tell("identify")
    wait_until(lambda: any(one.means_seq == seq for one in sightings()))
    tracks = {one.track for one in sightings() if one.means_seq == seq}
    assert tracks & {one.track for one in sightings() if one.means_seq < seq}

    agent.settings["threads"] = 2
    agent.write()
    assert agent.tell("reload").error == "needs-restart"

    assert agent.tell("restart").ok
    assert agent.process.wait(60) == 75
    wait_until(lambda: subscriber.payloads("availability"))
    assert json.loads(subscriber.payloads("availability")[-1])["status"] == "stopped"
    assert states()[-1].means_seq == seq
