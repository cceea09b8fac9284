"""Provision and flash of devices under a real sshd, with a stand-in for their updater."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
BUNDLE = Path(__file__).parents[3] / "models" / "demo" / "bundle"
COMMAND = [sys.executable, "-c", "from deploy.cli import entry; entry()"]
NAMES = ("barn-1", "barn-2", "barn-3")


@pytest.fixture
def roots(devices) -> Path:
    return devices.roots


@pytest.fixture
def inventory(make_inventory, devices) -> Path:
    """Three devices that are provisioned."""
    return make_inventory(devices.environment, *devices.names, roots=devices.roots)


def tree(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything below a folder: what is in it, since when, and its mode."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
            b"" if path.is_dir() else path.read_bytes(),
        )
        for path in sorted(folder.rglob("*"))
    }


def status(root: Path) -> dict[str, object]:
    return dict(json.loads((root / "var/lib/earmark/fake.json").read_text()))


def test_three_devices_then_nothing_to_do(inventory, roots, deploy, repository):
    flashed = deploy("flash", inventory, "--repo", repository.folder)
    assert flashed.returncode == 0, flashed.stderr + flashed.stdout
    assert "3 updated" in flashed.stdout
    [bundle] = repository.bundles
    for name in NAMES:
        assert status(roots / name)["release"] == f"{bundle[:12]}-1"
        staged = roots / name / "var/cache/earmark/repository"
        assert not list(staged.glob("targets/models/**/*.tflite"))
    before = tree(roots)
    again = deploy("flash", inventory, "--repo", repository.folder)
    assert again.returncode == 0
    assert "3 unchanged" in again.stdout
    assert tree(roots) == before
    provisioned = deploy("provision", inventory, "--repo", repository.folder)
    assert provisioned.returncode == 0
    assert [line for line in provisioned.stdout.splitlines() if not line.startswith(" ")] == [
        f"{name}: unchanged" for name in NAMES
    ]
    assert tree(roots) == before


def test_only_what_is_missing_is_copied(inventory, roots, deploy, repository):
    assert deploy("flash", inventory, "--repo", repository.folder).returncode == 0
    repository.assign(all=repository.publish(b"<!-- another report -->"))
    again = deploy("flash", inventory, "--only", "barn-2", "--repo", repository.folder)
    assert again.returncode == 0
    [line] = [line for line in again.stderr.splitlines() if "copying" in line]
    size_mb = float(line.split()[2])
    sizes = {path.name: path.stat().st_size / 1e6 for path in BUNDLE.iterdir()}
    assert sizes["report.html"] <= size_mb + 0.05 < sizes["report.html"] + 0.1
    assert sum(sizes.values()) > sizes["report.html"] + 0.2
    assert "1 updated" in again.stdout
    assert status(roots / "barn-2")["assignment"] == 2
    assert status(roots / "barn-1")["assignment"] == 1


def test_a_broken_device_is_reported_and_the_others_finish(inventory, roots, deploy, repository):
    (roots / "barn-2/var/lib/earmark/fault").write_text("crashed")
    flashed = deploy("flash", inventory, "--repo", repository.folder)
    assert flashed.returncode == 1
    assert "2 updated, 1 failed" in flashed.stdout
    [row] = [line for line in flashed.stdout.splitlines() if "barn-2" in line]
    assert "rolled_back: crashed: the agent died twice" in row
    assert status(roots / "barn-3")["assignment"] == 1


def test_a_canary_that_fails_keeps_the_others_as_they_were(inventory, roots, deploy, repository):
    (roots / "barn-1/var/lib/earmark/fault").write_text("crashed")
    flashed = deploy("flash", inventory, "--repo", repository.folder, "--canary", "1")
    assert flashed.returncode == 1
    assert "1 failed, 2 not begun" in flashed.stdout
    assert not (roots / "barn-2/var/cache/earmark/repository/metadata").exists()


def test_a_dry_run_touches_nothing(inventory, roots, deploy, repository):
    before = tree(roots)
    dry = deploy("flash", inventory, "--repo", repository.folder, "--dry-run")
    assert dry.returncode == 0
    assert "3 would be updated" in dry.stdout
    assert tree(roots) == before


def test_ctrl_c_ends_what_runs_there_and_leaves_the_devices_as_they_were(
    inventory, roots, repository, wait_until
):
    for name in NAMES:
        (roots / name / "var/lib/earmark/fault").write_text("hang")
    process = subprocess.Popen(
        [*COMMAND, "flash", str(inventory), "--repo", str(repository.folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    pids = [roots / name / "var/lib/earmark/pid" for name in NAMES]
    wait_until(lambda: all(path.exists() and path.read_text() for path in pids), timeout_s=60)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.splitlines()[-1] == "earmark-deploy: error: interrupted"
    for path in pids:
        wait_until(lambda path=path: not Path(f"/proc/{path.read_text()}").exists())
    assert all(not (roots / name / "var/lib/earmark/fake.json").exists() for name in NAMES)


def test_a_host_whose_key_has_changed_is_refused(inventory, roots, deploy, repository, sshd):
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    before = tree(roots)
    for more in ((), ("--accept-new",)):
        flashed = deploy("flash", inventory, "--repo", repository.folder, *more)
        assert flashed.returncode == 1
        assert "3 failed" in flashed.stdout
        assert flashed.stdout.count("the host's key is not the one in") == 3
    assert tree(roots) == before


def test_a_host_that_is_not_known_is_asked_for(inventory, deploy, repository, sshd):
    sshd.known_hosts.write_text("")
    refused = deploy("flash", inventory, "--repo", repository.folder, "--dry-run")
    assert refused.returncode == 1
    assert "is not in" in refused.stdout
    assert sshd.known_hosts.read_text() == ""
    taken = deploy("flash", inventory, "--repo", repository.folder, "--dry-run", "--accept-new")
    assert taken.returncode == 0
    again = deploy("flash", inventory, "--repo", repository.folder, "--dry-run")
    assert again.returncode == 0
    assert sshd.known_hosts.read_text().startswith(f"[127.0.0.1]:{sshd.port} ssh-ed25519 ")


def test_a_device_that_is_not_provisioned_or_assigned_says_so(
    roots, deploy, repository, make_inventory, fake_environment
):
    path = make_inventory(fake_environment, "barn-1", "barn-9", roots=roots)
    repository.assign(barn_9=next(iter(repository.bundles)))
    flashed = deploy("flash", path, "--repo", repository.folder)
    assert flashed.returncode == 1
    assert "barn-1: nothing is assigned to it; earmark-deploy repo assign" in flashed.stdout
    assert "is it provisioned?" in flashed.stdout
    assert not (roots / "barn-9").exists()


def test_a_damaged_repository_is_found_before_any_device_is_asked(inventory, deploy, repository):
    [path] = repository.folder.glob("targets/models/*/*.detector.tflite")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    flashed = deploy("flash", inventory, "--repo", repository.folder)
    assert flashed.returncode == 1
    assert flashed.stderr.count("\n") == 1
    assert "damaged; restore the repository" in flashed.stderr


def test_uninstall_keeps_releases_unless_asked(inventory, roots, deploy, repository):
    assert deploy("flash", inventory, "--repo", repository.folder).returncode == 0
    dry = deploy("provision", inventory, "--uninstall", "--dry-run")
    assert (roots / "barn-1/etc/earmark/agent.yaml").exists()
    assert dry.returncode == 0
    gone = deploy("provision", inventory, "--uninstall")
    assert gone.returncode == 0, gone.stderr
    files = {path for path in tree(roots / "barn-1") if not (roots / "barn-1" / path).is_dir()}
    assert files
    assert all(path.startswith("var/lib/earmark/") for path in files)
    assert "barn-1: unchanged" in deploy("provision", inventory, "--uninstall").stdout
    assert deploy("provision", inventory, "--uninstall", "--purge").returncode == 0
    assert not [path for path in roots.rglob("*") if not path.is_dir()]
