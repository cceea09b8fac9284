from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge.config import AgentConfig, CameraConfig, InferenceConfig
from edge.doctor.accelerators import backend, coral
from edge.doctor.verdict import Host, Verdict
from edge.errors import BundleError, EarmarkError
from edge.messaging import Outbox
from edge.serving import Serving, serve_bundle

DEMO = Path(__file__).resolve().parents[3] / "models" / "demo" / "bundle"


def plug_in(root: Path, product: str = "9302", vendor: str = "18d1", speed: str = "5000") -> None:
    device = root / "sys/bus/usb/devices/2-1"
    device.mkdir(parents=True)
    facts = {"idVendor": vendor, "idProduct": product, "busnum": "2", "devnum": "7"}
    for name, value in {**facts, "speed": speed}.items():
        (device / name).write_text(value + "\n")
    node = root / "dev/bus/usb/002/007"
    node.parent.mkdir(parents=True)
    node.touch()


def examined(
    root: Path,
    accelerator: str = "auto",
    *,
    compiled: bool = False,
    library: str | None = "libedgetpu.so.1",
    allowed: bool = True,
) -> list[Verdict]:
    def access(path: Path, mode: int) -> bool:
        assert mode == os.R_OK | os.W_OK
        return allowed and path.exists()

    return list(
        coral(
            Host(root, lambda command: None),
            accelerator,
            compiled=compiled,
            find_library=lambda name: library,
            access=access,
        )
    )


def test_a_barn_without_a_coral_is_fine(tmp_path: Path) -> None:
    for setting in ("auto", "cpu", "gpu"):
        assert examined(tmp_path, setting) == []


def test_a_coral_that_ought_to_be_there_is_missed(tmp_path: Path) -> None:
    (verdict,) = examined(tmp_path, compiled=True)
    assert (verdict.level, verdict.text[:22]) == ("warn", "no Coral is plugged in")
    assert examined(tmp_path, "edgetpu", compiled=True)[0].level == "fail"
    assert examined(tmp_path, "cpu", compiled=True) == []


def test_a_coral_in_order(tmp_path: Path) -> None:
    plug_in(tmp_path)
    (verdict,) = examined(tmp_path, compiled=True)
    assert (verdict.level, verdict.text) == ("ok", "Coral at /dev/bus/usb/002/007, in use")


def test_a_slow_port_is_told(tmp_path: Path) -> None:
    plug_in(tmp_path, product="089a", vendor="1a6e", speed="480")
    (verdict,) = examined(tmp_path, compiled=True)
    assert verdict.text.endswith("not yet used since it was plugged in, on a slow USB 2 port")


def test_what_stands_in_its_way(tmp_path: Path) -> None:
    plug_in(tmp_path)
    (tmp_path / "dev/apex_0").touch()
    verdicts = examined(tmp_path, "edgetpu", library=None, allowed=False)
    assert [verdict.level for verdict in verdicts] == ["fail", "fail", "fail", "warn"]
    assert "group apex" in verdicts[0].advice
    assert "group plugdev" in verdicts[1].advice
    assert "libedgetpu.so.1 is not installed" in verdicts[2].text
    assert "no files compiled" in verdicts[3].text


def settings(state: Path, **inference: Any) -> AgentConfig:
    return AgentConfig(
        bundle=str(DEMO),
        cameras=[CameraConfig(name="pen", source="pen.mp4")],
        threads=1,
        state_dir=str(state),
        inference=InferenceConfig(**inference),
    )


@pytest.mark.slow
def test_the_backend_that_serves_is_named(tmp_path: Path) -> None:
    (verdict,) = backend(settings(tmp_path, accelerator="cpu", require=True))
    assert verdict.level == "ok"
    assert verdict.text.startswith("cpu (")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("accelerator", "require", "level", "words"),
    [
        ("delegate:/nope.so", True, "fail", "the library cannot be loaded"),
        ("delegate:/nope.so", False, "warn", "cpu serves instead"),
        ("auto", True, "fail", "no files compiled for it"),
        ("edgetpu", False, "warn", "no files compiled for it"),
        ("delegate:DOUBLE?behaviour=hang", True, "fail", "has not answered for 8 s"),
        ("delegate:DOUBLE?behaviour=hang", False, "warn", "has not answered for 8 s"),
    ],
)
def test_doctor_says_what_the_agent_would_do(
    accelerator: str,
    require: bool,
    level: str,
    words: str,
    tmp_path: Path,
    delegate_library: str,
) -> None:
    wanted = accelerator.replace("DOUBLE", delegate_library)
    config = settings(tmp_path, accelerator=wanted, require=require, stuck_s=8.0)
    # Enough for a child to load, and for one that hangs not to cost a minute.
    (verdict,) = backend(config, partial(serve_bundle, start_s=8.0))
    assert verdict.level == level
    assert words in verdict.text
    assert ("require: false" in verdict.advice) is require


def test_an_agent_that_holds_the_accelerator_is_thought_of(tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Serving:
        raise EarmarkError("Edge TPU refuses")

    config = settings(tmp_path, accelerator="edgetpu", require=True)
    with Outbox(tmp_path / "outbox.db"):
        (verdict,) = backend(config, refuse)
        assert verdict.advice.startswith("an agent runs and may hold it: stop that")
    (verdict,) = backend(config, refuse)
    assert verdict.advice.startswith("mend that")


def test_a_broken_bundle_is_told_once(tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Serving:
        raise BundleError("detector.tflite: altered")

    assert list(backend(settings(tmp_path), refuse)) == []
