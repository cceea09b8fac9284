from __future__ import annotations

import os
from pathlib import Path

from edge.doctor.accelerators import coral
from edge.doctor.verdict import Host, Verdict


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
        (verdict,) = examined(tmp_path, setting)
        assert verdict.level == "ok"


def test_a_coral_that_ought_to_be_there_is_missed(tmp_path: Path) -> None:
    (verdict,) = examined(tmp_path, compiled=True)
    assert (verdict.level, verdict.text[:22]) == ("warn", "no Coral is plugged in")
    assert examined(tmp_path, "edgetpu", compiled=True)[0].level == "fail"
    assert examined(tmp_path, "cpu", compiled=True)[0].level == "ok"


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
