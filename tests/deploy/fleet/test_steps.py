"""What steps do to a real device's accounts and services, told by stand-ins for its programs."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.fleet.inventory import Device
from deploy.fleet.pace import Pace
from deploy.fleet.places import Places
from deploy.fleet.plan import Plan
from deploy.fleet.ssh import Answer, DeviceError, last_line
from deploy.fleet.steps import Work, account, services
from deploy.fleet.target import Target

# Each notes how it was called; what it answers lies in a file of its name, and `<name>.code`.
STAND_IN = """#!/bin/sh
here=$(dirname -- "$0")
echo "$(basename -- "$0") $*" >>"$here/calls"
name="$here/answers/$(basename -- "$0")-$1-$2"
[ ! -e "$name" ] || cat -- "$name"
[ -e "$name" ] || [ ! -e "$here/answers/$(basename -- "$0")-fails" ]
"""
PROGRAMS = (
    *("getent", "useradd", "usermod", "userdel", "id", "sudo"),
    *("systemctl", "systemd-tmpfiles", "udevadm"),
)


class Host:
    """A shell on this machine that finds stand-ins first."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        (self.bin / "answers").mkdir(parents=True)
        for name in PROGRAMS:
            (self.bin / name).write_text(STAND_IN)
            (self.bin / name).chmod(0o755)
        self.root = folder / "root"
        self.root.mkdir()

    def answers(self, call: str, text: str) -> None:
        (self.bin / "answers" / call.replace(" ", "-")).write_text(text)

    @property
    def calls(self) -> list[str]:
        path = self.bin / "calls"
        return path.read_text().splitlines() if path.exists() else []

    def forget(self) -> None:
        (self.bin / "calls").unlink(missing_ok=True)

    async def run(
        self,
        arguments: Sequence[str],
        *,
        data: bytes = b"",
        timeout_s: float = 60.0,
        held: bool = False,
    ) -> Answer:
        done = await asyncio.to_thread(
            subprocess.run,
            arguments,
            input=data,
            capture_output=True,
            env={**os.environ, "PATH": f"{self.bin}:{os.environ['PATH']}"},
        )
        return Answer(done.returncode, done.stdout, last_line(done.stderr))

    async def sftp(self):
        raise AssertionError("nothing is uploaded here")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    # A device below a folder has neither accounts nor services; this one is looked at as if it had.
    monkeypatch.setattr(Places, "real", True)
    return Host(tmp_path)


def target(host: Host, *, dry: bool = False, user: str = "root") -> Target:
    device = Device(host="barn-7", root=str(host.root), user=user)
    return Target(host, "barn-7", device, dry=dry)


def work() -> Work:
    async def gather(machine, extras):
        raise AssertionError("no packages are needed here")

    return Work(Plan(b"", {}), gather, Pace(None), told=lambda size: None, total=lambda size: None)


def changes(calls: list[str]) -> list[str]:
    """The calls that change something."""
    asking = ("getent", "id", "systemctl is-", "sudo")
    return [call for call in calls if not call.startswith(asking)]


def test_an_account_is_made_once(host):
    host.answers("getent-fails", "")
    host.answers("getent group video", "video:x:44:")
    one = target(host)
    asyncio.run(account.apply(one, work()))
    assert one.changes == ["account earmark made", "earmark is in group video"]
    [made, added] = changes(host.calls)
    assert made.startswith("useradd --system --user-group --no-create-home ")
    assert made.endswith("--shell /usr/sbin/nologin earmark")
    assert added == "usermod -aG video earmark"

    host.forget()
    host.answers("getent passwd earmark", "earmark:x:980:")
    host.answers("id -nG earmark", "earmark video")
    again = target(host)
    asyncio.run(account.apply(again, work()))
    assert (again.changes, changes(host.calls)) == ([], [])


def test_an_account_goes_only_with_what_is_its_own(host):
    one = target(host)
    asyncio.run(account.remove(one, False))
    assert (one.changes, host.calls) == ([], [])
    asyncio.run(account.remove(one, True))
    assert changes(host.calls) == ["userdel earmark"]


def test_services_of_a_running_machine_are_started_and_then_left_alone(host):
    (host.root / "run/systemd/system").mkdir(parents=True)
    (host.root / "run/earmark").mkdir()
    (host.root / "var/lib/earmark/run").mkdir(parents=True)
    (host.root / "var/lib/earmark/run/update.json").touch()
    one, first = target(host), work()
    asyncio.run(services.apply(one, first))
    assert changes(host.calls) == [
        "systemctl daemon-reload",
        "udevadm control --reload",
        "udevadm trigger --subsystem-match=usb --subsystem-match=apex",
        "systemctl restart systemd-journald",
        "systemctl enable -- earmark-agent.service",
        "systemctl restart --no-block -- earmark-agent.service",
        "systemctl enable -- earmark-updater.service",
        "systemctl restart --no-block -- earmark-updater.service",
    ]
    assert (host.root / "var/lib/earmark/run").readlink() == host.root / "run/earmark"

    host.forget()
    host.answers("systemctl is-enabled --", "enabled")
    host.answers("systemctl is-active --", "active")
    again = target(host)
    asyncio.run(services.apply(again, work()))
    assert (again.changes, changes(host.calls)) == ([], [])

    # Other settings, packages or certificates: the services alone are started anew.
    restarted, changed = target(host), work()
    changed.restart = True
    asyncio.run(services.apply(restarted, changed))
    assert restarted.changes == [
        "earmark-agent.service started anew",
        "earmark-updater.service started anew",
    ]


def test_in_an_image_services_are_enabled_and_not_started(host):
    (host.root / "run/earmark").mkdir(parents=True)
    (host.root / "var/lib/earmark").mkdir(parents=True)
    asyncio.run(services.apply(target(host), work()))
    assert changes(host.calls) == [
        "systemctl enable -- earmark-agent.service",
        "systemctl enable -- earmark-updater.service",
    ]


def test_a_dry_run_asks_and_changes_nothing(host):
    (host.root / "run/systemd/system").mkdir(parents=True)
    host.answers("getent-fails", "")
    one = target(host, dry=True)
    asyncio.run(account.apply(one, work()))
    asyncio.run(services.apply(one, work()))
    assert len(one.changes) > 10
    assert changes(host.calls) == []
    assert not (host.root / "etc").exists()
    assert not (host.root / "var").exists()


def test_services_are_stopped_before_their_files_go(host):
    (host.root / "run/systemd/system").mkdir(parents=True)
    (host.root / "run/earmark").mkdir()
    (host.root / "var/lib/earmark").mkdir(parents=True)
    asyncio.run(services.apply(target(host), work()))
    host.forget()
    one = target(host)
    asyncio.run(services.remove(one, False))
    assert changes(host.calls)[:2] == [
        "systemctl disable --now -- earmark-agent.service",
        "systemctl disable --now -- earmark-updater.service",
    ]
    assert not [path for path in host.root.rglob("*") if not path.is_dir()]
    again = target(host)
    asyncio.run(services.remove(again, False))
    assert again.changes == []


def test_what_a_program_refuses_is_told(host):
    (host.bin / "useradd").write_text("#!/bin/sh\necho 'useradd: cannot lock' >&2; exit 10\n")
    host.answers("getent-fails", "")
    with pytest.raises(DeviceError, match=r"barn-7 \(root@barn-7:22\): useradd: cannot lock"):
        asyncio.run(account.apply(target(host), work()))


def test_a_user_who_is_not_root_asks_by_sudo(host):
    (host.bin / "sudo").write_text('#!/bin/sh\necho "sudo $*" >>"$(dirname "$0")/calls"\nexit 1\n')
    answer = asyncio.run(target(host, user="pi").ask("true"))
    assert answer.code == 1
    assert host.calls == ["sudo -n -- sh -c true sh"]
    asyncio.run(target(host, user="pi").as_account(["true"]))
    assert host.calls[-1] == "sudo -n -u earmark -- true"
