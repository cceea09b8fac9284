"""`earmark-deploy repo`, as it is typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.cli import main
from deploy.repo import checking, keys
from deploy.repo.passphrases import VARIABLE
from deploy.repo.status import expiring, read_status
from edge.errors import UsageError
from tests.deploy.repo.conftest import PASSPHRASE, Operator

Bundles = Callable[..., Path]


@pytest.fixture
def repo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Call with arguments: what `earmark-deploy repo` prints; the code must be 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, PASSPHRASE)
    monkeypatch.setattr(keys, "COST", 2)
    monkeypatch.setattr(checking, "has_runtime", lambda: False)

    def call(*arguments: str, code: int = 0) -> str:
        assert main(["repo", *arguments]) == code
        return capsys.readouterr().out

    return call


def test_a_group_of_which_nothing_is_said_is_not_signed_anew(
    repo: Callable[..., str], tmp_path: Path
) -> None:
    repo("init")
    before = (tmp_path / "repo" / "public" / "metadata" / "timestamp.json").read_bytes()
    with pytest.raises(UsageError, match="--add DEVICE"):
        repo("group", "cows")
    assert (tmp_path / "repo" / "public" / "metadata" / "timestamp.json").read_bytes() == before


def test_from_nothing_to_a_release(
    repo: Callable[..., str], bundle: Bundles, means: Bundles, tmp_path: Path
) -> None:
    said = repo("init")
    assert "repo/public" in said
    assert "root.json" in said
    published = repo("publish", str(bundle("first"))).split()[1]
    assert "assignment 1" in repo("assign", published[:12], "--all")
    assert "barn-7, barn-8" in repo("group", "cows", "--add", "barn-8", "barn-7")
    assert "means" in repo("publish-means", str(means()), "--group", "cows")
    repo("publish-means", str(means()), "--device", "barn-9")
    said = repo("status")
    assert f"bundle {published[:12]}" in said
    assert "all (1)" in said
    assert "group/cows" in said
    assert "device/barn-9" in said
    assert "1 of 1" in said
    assert "!" not in said
    assert "files copied" in repo("copy", str(tmp_path / "stick"), "--assigned")
    assert (tmp_path / "stick" / "metadata" / "timestamp.json").exists()
    assert "delete it" in repo("rotate", "models")
    repo("withdraw-means", "--device", "barn-9")
    repo("assign", "none", "--all")
    assert published in repo("withdraw", published[:12])
    assert "nobody, and gone" in repo("group", "cows", "--remove", "barn-7", "barn-8")
    said = repo("renew")
    assert "snapshot, timestamp" in said


def test_status_as_json(repo: Callable[..., str], bundle: Bundles) -> None:
    repo("init")
    published = repo("publish", str(bundle("first"))).split()[1]
    status = json.loads(repo("status", "--json"))
    assert [one["id"] for one in status["bundles"]] == [published]
    roles = {one["role"]: one for one in status["roles"]}
    assert roles["timestamp"]["days_left"] in (89, 90)
    assert roles["root"]["threshold"] == 1


def test_days_by_role(repo: Callable[..., str]) -> None:
    repo("init", "--days", "timestamp=30", "means=400")
    roles = {one["role"]: one for one in json.loads(repo("status", "--json"))["roles"]}
    assert roles["timestamp"]["days_left"] in (29, 30)
    assert roles["means"]["days_left"] in (399, 400)


def test_keys_elsewhere(repo: Callable[..., str], tmp_path: Path) -> None:
    repo("init", "farm", "--keys", str(tmp_path / "stick"))
    assert not (tmp_path / "farm" / "keys").exists()
    with pytest.raises(UsageError, match="--keys"):
        repo("renew", "--dir", "farm")
    repo("renew", "--dir", "farm", "--keys", str(tmp_path / "none"), "--keys", "stick")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["publish"],
        ["assign", "abc"],
        ["assign", "abc", "--all", "--device", "barn-7"],
        ["rotate", "everything"],
        ["init", "--days", "timestamp=0"],
        ["init", "--days", "clock=3"],
    ],
)
def test_wrong_usage(repo: Callable[..., str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        repo(*arguments)
    assert caught.value.code == 2


def test_a_role_that_there_is_not(repo: Callable[..., str]) -> None:
    repo("init")
    with pytest.raises(UsageError, match="no such role"):
        repo("renew", "clock")


def test_a_machine_without_a_runtime_says_what_it_has_not_checked(
    repo: Callable[..., str], bundle: Bundles
) -> None:
    repo("init")
    assert "golden questions were not asked" in repo("publish", str(bundle("first")))


# Warnings.


def warnings(operator: Operator) -> list[str]:
    return read_status(operator.repository, operator.now).warnings


def test_what_expires_is_told_in_time_and_renewed(operator: Operator) -> None:
    assert warnings(operator) == []
    operator.now += timedelta(days=59)
    assert warnings(operator) == []
    operator.now += timedelta(days=2)
    assert [text.split()[0] for text in warnings(operator)] == ["snapshot", "timestamp"]
    assert "in 29 days" in warnings(operator)[0]
    assert expiring(operator.repository, operator.now) == ["snapshot", "timestamp"]
    operator.repository.renew(["snapshot", "timestamp"])
    assert warnings(operator) == []


def test_what_has_expired_is_told_with_what_it_means(operator: Operator) -> None:
    operator.now += timedelta(days=91)
    assert any(
        "timestamp has expired: devices install nothing" in one for one in warnings(operator)
    )


def test_a_role_that_is_good_for_a_few_days_is_not_always_late(operator: Operator) -> None:
    settings = json.loads((operator.folder / "repository.json").read_bytes())
    settings["days"]["timestamp"] = 9
    (operator.folder / "repository.json").write_text(json.dumps(settings))
    operator.repository = operator.open()
    operator.repository.renew(["timestamp"])
    assert warnings(operator) == []
    operator.now += timedelta(days=7)
    assert "timestamp expires in 2 days" in warnings(operator)[0]


def test_what_expires_ends_status_with_1(
    repo: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repo("init", "--days", "timestamp=1")
    later = datetime.now(UTC) + timedelta(days=2)
    monkeypatch.setattr("deploy.repo.command._now", lambda: later)
    assert "! timestamp has expired" in repo("status", code=1)


def test_a_device_in_two_groups_is_told(operator: Operator) -> None:
    operator.repository.regroup("pigs", add=["barn-7"])
    operator.repository.regroup("cows", add=["barn-7", "barn-8"])
    assert warnings(operator) == ["barn-7 is in cows, pigs: cows comes first"]


def test_means_that_fit_nobody_are_told(
    operator: Operator, bundle: Bundles, means: Bundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator.repository.assign("all", operator.repository.publish(bundle("first")))
    operator.repository.publish_means(means(), "all")
    assert warnings(operator) == []
    monkeypatch.setattr(
        "deploy.repo.repository.checked_means", lambda file, state: (b"x", "e" * 64)
    )
    operator.repository.publish_means(means(), "device/barn-7")
    operator.repository.publish_means(means(), "all")
    assert [text.split()[3] for text in warnings(operator)] == ["all", "device/barn-7"]


def test_a_rotation_that_was_broken_off_is_told(
    operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0

    def stop(path: Path, data: bytes) -> None:
        nonlocal written
        written += 1
        if path.name == "3.root.json":
            raise KeyboardInterrupt
        path.write_bytes(data)

    monkeypatch.setattr("deploy.repo.change.write_durably", stop)
    with pytest.raises(KeyboardInterrupt):
        operator.repository.rotate("timestamp")
    assert written > 1
    monkeypatch.undo()
    assert warnings(operator) == [
        "timestamp has an old key still: earmark-deploy repo rotate timestamp"
    ]
    operator.open().rotate("timestamp")
    assert warnings(operator) == []
