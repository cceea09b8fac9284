"""The units as systemd reads them: without complaints, and hardened."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from deploy.fleet.places import Places
from deploy.fleet.steps.services import FILES, SERVICES, STICK, rendered
from edge.config import check_config

UNITS = (*SERVICES, STICK)
_SYSTEM = Path("/usr/lib/systemd/system")

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None or not _SYSTEM.is_dir(),
    reason="systemd is not installed: apt-get install systemd",
)


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A file system with systemd's own units, ours, and the programs that they name."""
    shutil.copytree(_SYSTEM, tmp_path / "usr/lib/systemd/system", symlinks=True)
    files = {path: data for path, data in rendered(Places()).items() if path.endswith(".service")}
    for path, data in files.items():
        place = tmp_path / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        for program in re.findall(rb"^Exec\w+=[+@!-]*(/\S+)", data, re.MULTILINE):
            program_file = tmp_path / program.decode().lstrip("/")
            program_file.parent.mkdir(parents=True, exist_ok=True)
            program_file.touch(mode=0o755)
    return tmp_path


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_has_nothing_to_complain_of(machine, unit):
    name = unit.replace("@.", "@sda1.")
    result = subprocess.run(
        ["systemd-analyze", "verify", f"--root={machine}", name], capture_output=True, text=True
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@needs_systemd
@pytest.mark.parametrize("unit", UNITS)
def test_the_exposure_is_at_most_four(machine, unit):
    file = machine / "etc/systemd/system" / unit
    result = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=40", file],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    [level] = re.findall(r"exposure level for \S+: ([0-9.]+)", result.stdout)
    assert float(level) <= 4.0


@pytest.mark.parametrize("unit", SERVICES)
def test_services_are_what_the_agent_counts_on(unit):
    text = rendered(Places())[f"/etc/systemd/system/{unit}"].decode()
    for line in (
        *("NoNewPrivileges=yes", "ProtectSystem=strict", "PrivateTmp=yes", "Restart=always"),
        *("RestartForceExitStatus=75", "StateDirectory=earmark", "User=earmark", "Type=notify"),
        *("RuntimeDirectory=earmark", "RuntimeDirectoryPreserve=yes"),
    ):
        assert line in text.splitlines()
    assert re.search(r"^WatchdogSec=\d+$", text, re.MULTILINE)
    # It takes adjtimex away, by which the agent asks whether its clock is right.
    assert "ProtectClock=yes" not in text


def test_everything_lies_below_the_root():
    files = rendered(Places("/srv/barn-7/"))
    assert len(files) == len(FILES)
    assert all(path.startswith("/srv/barn-7/etc/") for path in files)
    agent = files["/srv/barn-7/etc/systemd/system/earmark-agent.service"].decode()
    assert "ExecStart=/srv/barn-7/opt/earmark/bin/earmark-edge run --config " in agent
    assert "${root}" not in b"".join(files.values()).decode()


def test_a_coral_is_known_before_and_after_its_firmware():
    rules = rendered(Places())["/etc/udev/rules.d/60-earmark-coral.rules"].decode()
    lines = [line for line in rules.splitlines() if line and not line.startswith("#")]
    ids = re.findall(r'ATTR\{idVendor\}=="(\w+)", ATTR\{idProduct\}=="(\w+)"', rules)
    assert ids == [("1a6e", "089a"), ("18d1", "9302")]
    assert any('SUBSYSTEM=="apex"' in line for line in lines)
    assert all('GROUP="earmark", MODE="0660"' in line for line in lines)


def test_a_stick_starts_its_unit():
    files = rendered(Places())
    rule = files["/etc/udev/rules.d/99-earmark-stick.rules"].decode()
    assert 'ENV{SYSTEMD_WANTS}+="earmark-stick@%k.service"' in rule
    unit = files["/etc/systemd/system/earmark-stick@.service"].decode()
    assert "mount -o ro,nosuid,nodev,noexec,umask=0022 /dev/%I" in unit
    assert "update --once --from file:///run/earmark-stick/%i/earmark" in unit


def test_the_settings_that_the_units_name_are_valid():
    places = Places()
    check_config(
        {
            "cameras": [{"name": "pen-1", "source": "/dev/video0"}],
            "bundle": f"{places.store}/current",
            "updates": {"store": places.store},
        },
        "agent.yaml",
    )
