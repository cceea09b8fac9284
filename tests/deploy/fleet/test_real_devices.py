"""From nothing to three flashed devices: signed repository, sshd, the real updater."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.release.manifest import decode_manifest
from edge.release.store import Store

pytestmark = pytest.mark.slow
PROJECT = Path(__file__).parents[3]
BUNDLE = PROJECT / "models" / "demo" / "bundle"
NAMES = ("barn-1", "barn-2", "barn-3")
# Installing waits for a clock that is set; this machine's may not be.
SETTINGS = {
    "cameras": [{"name": "pen-3", "source": "/dev/video0"}],
    "broker": {"url": "mqtt://127.0.0.1:1883"},
    "clock": "system",
}
LAUNCHER = f"""#!{sys.executable}
import sys
sys.path.insert(0, {str(PROJECT)!r})
from edge.cli import entry
entry()
"""


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """The Python environment that runs these tests, as an inventory names one."""
    program = tmp_path / "environment" / "bin" / "earmark-edge"
    program.parent.mkdir(parents=True)
    program.write_text(LAUNCHER)
    program.chmod(0o755)
    return program.parents[1]


@pytest.fixture
def repo(tmp_path: Path, deploy: Callable[..., subprocess.CompletedProcess[str]]):
    """Call with arguments of `earmark-deploy repo`; a signed repository at `repo`."""
    secret = tmp_path / "passphrase"
    secret.write_text("a long passphrase for nothing\n")

    def run(action: str, *arguments: object) -> str:
        where = [] if action == "init" else ["--dir", tmp_path / "repo"]
        done = deploy("repo", action, *arguments, *where, "--passphrase-file", secret)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init", tmp_path / "repo")
    return run


def current(root: Path) -> str:
    found = Store(root / "var/lib/earmark").current()
    assert found is not None
    return found.name


def test_from_nothing_to_three_flashed_devices(tmp_path, environment, repo, make_inventory, deploy):
    bundle = decode_manifest((BUNDLE / "manifest.json").read_bytes(), "manifest.json").id
    repo("publish", BUNDLE)
    repo("assign", bundle[:12], "--all")
    roots = tmp_path / "roots"
    for name in NAMES:
        (roots / name).mkdir(parents=True)
    inventory = make_inventory(environment, *NAMES, config=SETTINGS)

    provisioned = deploy("provision", inventory, "--repo", tmp_path / "repo")
    assert provisioned.returncode == 0, provisioned.stdout + provisioned.stderr
    again = deploy("provision", inventory, "--repo", tmp_path / "repo")
    assert [line for line in again.stdout.splitlines() if not line.startswith("  ")] == [
        f"{name}: unchanged" for name in NAMES
    ]

    # Somebody has swapped the root of one device: it trusts nobody whom we know.
    trusted = roots / "barn-2/var/lib/earmark/trust/root.json"
    whom = json.loads(trusted.read_text())
    whom["signed"]["expires"] = "2001-01-01T00:00:00Z"
    trusted.write_text(json.dumps(whom))
    flashed = deploy("flash", inventory, "--repo", tmp_path / "repo")
    assert flashed.returncode == 1
    assert "2 updated, 1 failed" in flashed.stdout
    [row] = [line for line in flashed.stdout.splitlines() if "│ barn-2" in line]
    assert "rejected" in row
    assert Store(roots / "barn-2/var/lib/earmark").current() is None
    assert current(roots / "barn-1") == current(roots / "barn-3")
    assert current(roots / "barn-1").startswith(bundle[:12])
    assert Store(roots / "barn-1/var/lib/earmark").verify(current(roots / "barn-1")).id == bundle

    # Provisioning does not heal it behind somebody's back either.
    refused = deploy("provision", inventory, "--repo", tmp_path / "repo", "--only", "barn-2")
    assert refused.returncode == 1
    assert "it trusts another repository" in refused.stdout

    second = deploy("flash", inventory, "--repo", tmp_path / "repo", "--only", "barn-1", "barn-3")
    assert second.returncode == 0, second.stdout
    assert "2 unchanged" in second.stdout

    # Signed anew, content as it was: the devices hear of it, and nothing changes.
    repo("renew")
    renewed = deploy("flash", inventory, "--repo", tmp_path / "repo", "--only", "barn-3")
    assert renewed.returncode == 0, renewed.stdout
    assert "1 unchanged" in renewed.stdout
    settings = roots / "barn-3/etc/earmark/agent.yaml"
    status = subprocess.run(
        [environment / "bin/earmark-edge", "update", "status", "--json", "--config", settings],
        capture_output=True,
        check=True,
    )
    assert json.loads(status.stdout)["phase"] == "idle"


def test_a_stick_is_taken_and_a_second_time_changes_nothing(
    tmp_path, environment, repo, make_inventory, deploy
):
    bundle = decode_manifest((BUNDLE / "manifest.json").read_bytes(), "manifest.json").id
    repo("publish", BUNDLE)
    repo("assign", bundle[:12], "--device", "barn-1")
    (tmp_path / "roots/barn-1").mkdir(parents=True)
    inventory = make_inventory(environment, "barn-1", config=SETTINGS)
    assert deploy("provision", inventory, "--repo", tmp_path / "repo").returncode == 0
    stick = tmp_path / "stick"
    stick.mkdir()
    arguments = ("usb", stick, "--repo", tmp_path / "repo", "--device", "barn-1")
    written = deploy(*arguments)
    assert written.returncode == 0, written.stderr
    assert "read again and right" in written.stdout
    assert bundle[:12] in (stick / "EARMARK.txt").read_text()
    again = deploy(*arguments)
    assert "0 files written" in again.stdout
    root = tmp_path / "roots/barn-1"
    # As earmark-stick@.service has it, but for the agent that does not run here.
    command = [root / "opt/earmark/bin/earmark-edge", "update", "--once", "--without-agent"]
    taken = subprocess.run(
        [
            *command,
            "--from",
            f"file://{stick}/earmark",
            "--config",
            root / "etc/earmark/agent.yaml",
        ],
        capture_output=True,
        text=True,
    )
    assert taken.returncode == 0, taken.stderr
    assert current(root).startswith(bundle[:12])
