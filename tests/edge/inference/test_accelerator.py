from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import UsageError
from edge.inference import coral_present, parse_accelerator, plan_backends


@pytest.mark.parametrize(
    ("text", "kind", "library", "options"),
    [
        ("auto", "auto", "", {}),
        ("cpu", "cpu", "", {}),
        ("gpu", "gpu", "", {}),
        ("edgetpu", "edgetpu", "libedgetpu.so.1", {}),
        ("edgetpu:usb", "edgetpu", "libedgetpu.so.1", {"device": "usb"}),
        ("edgetpu:pci:1", "edgetpu", "libedgetpu.so.1", {"device": "pci:1"}),
        ("delegate:/opt/lib.so", "delegate", "/opt/lib.so", {}),
        ("delegate:lib.so?a=1&b=x%20y&c=", "delegate", "lib.so", {"a": "1", "b": "x y", "c": ""}),
    ],
)
def test_settings_that_can_be(text: str, kind: str, library: str, options: dict[str, str]) -> None:
    found = parse_accelerator(text)
    assert (found.kind, found.library, dict(found.options)) == (kind, library, options)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tpu",
        "CPU",
        "cpu:1",
        "auto:",
        "gpu:0",
        "edgetpu:",
        "edgetpu:usb:",
        "edgetpu:usb:x",
        "delegate",
        "delegate:",
        "delegate:?a=1",
        "delegate:lib.so?behaviour",
    ],
)
def test_settings_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError, match="give auto, cpu, edgetpu"):
        parse_accelerator(text)


@pytest.mark.parametrize(
    ("text", "require", "compiled", "coral", "kinds", "expected"),
    [
        ("cpu", False, True, True, ["cpu"], False),
        ("auto", False, False, False, ["cpu"], False),
        # Something says that there ought to be a Coral.
        ("auto", False, True, False, ["edgetpu", "cpu"], True),
        ("auto", False, False, True, ["edgetpu", "cpu"], True),
        ("auto", True, False, False, ["edgetpu"], True),
        ("edgetpu:usb", False, False, False, ["edgetpu", "cpu"], True),
        ("gpu", False, False, False, ["gpu", "cpu"], True),
        ("gpu", True, False, False, ["gpu"], True),
        ("delegate:x.so", True, False, False, ["delegate"], True),
    ],
)
def test_what_is_tried(
    text: str, require: bool, compiled: bool, coral: bool, kinds: list[str], expected: bool
) -> None:
    plan = plan_backends(parse_accelerator(text), require=require, compiled=compiled, coral=coral)
    assert [backend.kind for backend in plan.backends] == kinds
    assert plan.expected is expected


def test_a_coral_is_seen_by_its_usb_ids_or_its_device_node(tmp_path: Path) -> None:
    assert not coral_present(tmp_path)
    for number, (vendor, product) in enumerate([("1d6b", "0002"), ("18d1", "4ee7")]):
        device = tmp_path / "sys/bus/usb/devices" / f"1-{number}"
        device.mkdir(parents=True)
        (device / "idVendor").write_text(vendor + "\n")
        (device / "idProduct").write_text(product + "\n")
    assert not coral_present(tmp_path)
    for product, vendor in (("089a", "1a6e"), ("9302", "18d1")):
        (tmp_path / "sys/bus/usb/devices/1-1/idVendor").write_text(vendor + "\n")
        (tmp_path / "sys/bus/usb/devices/1-1/idProduct").write_text(product + "\n")
        assert coral_present(tmp_path)
    (tmp_path / "sys/bus/usb/devices/1-1/idProduct").unlink()
    assert not coral_present(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/apex_0").touch()
    assert coral_present(tmp_path)
