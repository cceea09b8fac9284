"""The whole examination, of this machine, with a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edge.cli import main
from edge.doctor.models import bundle
from edge.doctor.storage import storage
from edge.errors import BundleError
from edge.messaging import Outbox
from edge.messaging.local_broker import Mosquitto, free_port

DEMO = Path(__file__).resolve().parents[3] / "models" / "demo"


@pytest.fixture
def examined(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, dict[str, list[dict[str, Any]]]]]:
    def run(**changes: Any) -> tuple[int, dict[str, list[dict[str, Any]]]]:
        settings = {
            "bundle": str(DEMO / "bundle"),
            "device": "barn-1",
            "cameras": [{"name": "clip", "source": str(DEMO / "pen.mp4")}],
            "state_dir": str(tmp_path / "state"),
            **changes,
        }
        path = tmp_path / "agent.yaml"
        path.write_text(yaml.safe_dump(settings))
        capsys.readouterr()
        code = main(["doctor", "--config", str(path), "--json"])
        topics: dict[str, list[dict[str, Any]]] = {}
        for line in capsys.readouterr().out.splitlines():
            row = json.loads(line)
            topics.setdefault(row["topic"], []).append(row)
        return code, topics

    return run


def levels(rows: list[dict[str, Any]]) -> set[str]:
    return {row["level"] for row in rows}


@pytest.mark.slow
def test_a_device_in_order(examined: Callable[..., Any], mosquitto: Mosquitto) -> None:
    code, topics = examined(broker={"url": mosquitto.url})
    assert code == 0
    wanted = {"versions", "runtime", "memory", "clock", "storage", "bundle", "class means"}
    assert wanted | {"accelerator", "camera clip", "broker"} <= set(topics)
    assert levels(topics["broker"]) == {"ok"}
    assert "MQTT 5" in topics["broker"][0]["text"]
    assert topics["broker"][1]["text"] == "takes events of barn-1"


@pytest.mark.slow
def test_a_device_with_everything_wrong(examined: Callable[..., Any], tmp_path: Path) -> None:
    code, topics = examined(
        bundle=str(tmp_path / "none"),
        broker={"url": f"mqtt://127.0.0.1:{free_port()}"},
        cameras=[{"name": "gone", "source": str(tmp_path / "gone.mp4")}],
    )
    assert code == 1
    for topic in ("bundle", "camera gone", "broker"):
        assert levels(topics[topic]) == {"fail"}, topic
    assert "nothing listens there" in topics["broker"][0]["text"]


@pytest.mark.slow
def test_a_broker_that_does_not_let_this_device_publish(
    examined: Callable[..., Any],
    start_mosquitto: Callable[..., Mosquitto],
    tmp_path: Path,
) -> None:
    rules = tmp_path / "acl"
    rules.write_text("topic write earmark/v1/barn-2/up/#\n")
    broker = start_mosquitto(f"acl_file {rules}")
    code, topics = examined(broker={"url": broker.url})
    assert code == 1
    assert [row["level"] for row in topics["broker"]] == ["ok", "fail"]
    assert "refuses events of barn-1" in topics["broker"][1]["text"]
    code, topics = examined(broker={"url": broker.url}, device="barn-2")
    assert code == 0


def test_a_broken_bundle_says_what_the_agent_would_say() -> None:
    def load(path: Path, threads: int) -> Any:
        raise BundleError("detector.tflite: altered")

    (verdict,) = bundle(Path("x"), 2, load=load)
    assert (verdict.level, verdict.text) == ("fail", "detector.tflite: altered")


def test_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (verdict,) = storage(tmp_path / "to" / "be" / "made")
    assert verdict.level == "ok"
    with Outbox(tmp_path / "outbox.db"):
        (_, held) = storage(tmp_path)
        assert (held.level, held.text[:6]) == ("ok", "in use")
    assert [v.text for v in storage(tmp_path)][1:] == ["0 events wait"]
    (tmp_path / "outbox.db").write_bytes(b"no database at all, and long enough to be looked at")
    assert [v.level for v in storage(tmp_path)] == ["ok", "warn"]
    monkeypatch.setattr("edge.doctor.storage._writable", lambda folder: False)
    assert [v.level for v in storage(tmp_path)] == ["fail"]
