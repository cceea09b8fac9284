"""Uploads to a real sshd: resumed, checked, paced."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.fleet.inventory import Device
from deploy.fleet.pace import Pace
from deploy.fleet.ssh import DeviceError, Keyring, SshSession
from deploy.fleet.target import Target
from deploy.fleet.upload import Upload, Uploader

pytestmark = pytest.mark.slow
MIB = 1 << 20
CONTENT = hashlib.shake_256(b"a model").digest(5 * MIB + 321)


@pytest.fixture
def device(sshd) -> Device:
    return Device(
        host="127.0.0.1",
        port=sshd.port,
        user=sshd.user,
        key=str(sshd.key),
        known_hosts=str(sshd.known_hosts),
    )


@pytest.fixture
def upload(tmp_path) -> Upload:
    source = tmp_path / "model.tflite"
    source.write_bytes(CONTENT)
    (tmp_path / "there").mkdir()
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return Upload(source, str(tmp_path / "there" / "model.tflite"), sha256, len(CONTENT))


@pytest.fixture
def send(device) -> Callable[..., int]:
    """Call with an upload, and who is told of bytes that arrived: returns how many were sent."""

    def send(
        upload: Upload, told: Callable[[int], None] = lambda size: None, pace: float | None = None
    ) -> int:
        async def main() -> int:
            async with Keyring().connect("barn-7", device) as session:
                return await Uploader(session, "barn-7", Pace(pace), told).send([upload])

        return asyncio.run(main())

    return send


def test_a_file_arrives_whole_with_its_mode(send, upload):
    told: list[int] = []
    assert send(upload, told.append) == len(CONTENT)
    assert sum(told) == len(CONTENT)
    there = Path(upload.target)
    assert there.read_bytes() == CONTENT
    assert there.stat().st_mode & 0o777 == 0o644
    assert list(there.parent.iterdir()) == [there]


def test_after_a_cut_connection_it_goes_on_where_it_was(send, upload, sshd):
    arrived = 0

    def cut(size: int) -> None:
        nonlocal arrived
        arrived += size
        if arrived > 3 * MIB:
            sshd.cut()

    with pytest.raises(DeviceError, match=r"^barn-7.*connection was lost; run it again"):
        send(upload, cut)
    part = Path(upload.target + ".part")
    assert part.stat().st_size >= 3 * MIB
    assert not Path(upload.target).exists()
    sent = send(upload)
    assert 0 < sent <= len(CONTENT) - 3 * MIB
    assert Path(upload.target).read_bytes() == CONTENT
    assert not part.exists()


def test_a_hole_where_the_line_was_cut_is_filled(send, upload):
    part = Path(upload.target + ".part")
    kept = CONTENT[: 3 * MIB]
    # Of what was under way at the cut, a later block has arrived and an earlier one has not.
    part.write_bytes(kept + bytes(MIB // 2) + CONTENT[3 * MIB + MIB // 2 : 4 * MIB])
    assert send(upload) == len(CONTENT) - len(kept)
    assert Path(upload.target).read_bytes() == CONTENT


@pytest.mark.parametrize("there", [b"of another release", CONTENT[1:], bytes(9 * MIB), b""])
def test_a_part_of_something_else_is_no_beginning(send, upload, there):
    Path(upload.target + ".part").write_bytes(there)
    assert send(upload) == len(CONTENT)
    assert Path(upload.target).read_bytes() == CONTENT


def test_a_part_that_is_whole_is_only_put_in_its_place(send, upload):
    Path(upload.target + ".part").write_bytes(CONTENT)
    assert send(upload) == 0
    assert Path(upload.target).read_bytes() == CONTENT


def test_a_source_that_has_changed_is_not_sent(send, upload):
    upload.source.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(DeviceError, match="is damaged here"):
        send(upload)
    assert not Path(upload.target).exists()


def test_the_bandwidth_is_kept(send, upload):
    begin = time.monotonic()
    send(upload, pace=2.5 * MIB)
    # The last piece of a quarter of a second may go as fast as it likes.
    assert time.monotonic() - begin >= len(CONTENT) / (2.5 * MIB) - 0.3


@pytest.fixture
def on(device) -> Callable[..., object]:
    """Call with a coroutine function: it gets a session on the device."""

    def run(work: Callable[[SshSession], object]) -> object:
        async def main() -> object:
            async with Keyring().connect("barn-7", device) as session:
                return await work(session)

        return asyncio.run(main())

    return run


def test_what_a_program_says_is_told_by_its_last_line(on):
    script = "echo out; echo first >&2; printf 'bad \\033[31mthing\\n' >&2; exit 3"
    answer = on(lambda session: session.run(["sh", "-c", script]))
    assert (answer.code, answer.out, answer.error) == (3, b"out\n", "bad [31mthing")


def test_arguments_are_not_read_by_the_shell(on):
    odd = ["$HOME", "a b", "'", ";exit 1", "*"]
    answer = on(lambda session: session.run(["printf", "%s\\n", *odd]))
    assert answer.out.decode().splitlines() == odd


def test_a_program_that_takes_too_long_is_given_up(on):
    with pytest.raises(DeviceError, match=r"sleep: no end after 0\.2 s"):
        on(lambda session: session.run(["sleep", "600"], timeout_s=0.2))


def test_a_key_that_is_refused_and_a_port_where_nobody_listens(device, tmp_path, sshd):
    import asyncssh
    import msgspec

    other = tmp_path / "other"
    other.write_bytes(asyncssh.generate_private_key("ssh-ed25519").export_private_key())

    async def connect(one: Device) -> None:
        async with Keyring().connect("barn-7", one):
            pass

    with pytest.raises(DeviceError, match="refused the key"):
        asyncio.run(connect(msgspec.structs.replace(device, key=str(other))))
    sshd.stop()
    with pytest.raises(DeviceError, match="nothing listens there"):
        asyncio.run(connect(device))


def test_the_users_own_ssh_config_counts_jump_hosts_too(device, sshd, tmp_path):
    import msgspec

    config = tmp_path / "config"
    config.write_text(
        f"""
Host barn-7.inside
    HostName 127.0.0.1
    ProxyJump jump
Host jump
    HostName 127.0.0.1
    Port {sshd.port}
    User {sshd.user}
    IdentityFile {sshd.key}
    UserKnownHostsFile {sshd.known_hosts}
"""
    )
    inside = msgspec.structs.replace(device, host="barn-7.inside")
    log = sshd.folder / "log"
    before = log.read_text().count("Accepted publickey")

    async def main() -> bytes:
        keyring = Keyring(ssh_config=config)
        async with keyring.connect("barn-7", inside) as session:
            return (await session.run(["sh", "-c", "echo $SSH_CONNECTION"])).out

    assert asyncio.run(main()).split()[3] == str(sshd.port).encode()
    # Once as the jump host, and once behind it.
    assert log.read_text().count("Accepted publickey") == before + 2


def test_files_are_compared_before_they_are_written(on, device, tmp_path):
    path = str(tmp_path / "there" / "unit")
    device_here = device

    async def work(session: SshSession) -> tuple[list[bool], list[str]]:
        import msgspec

        target = Target(session, "barn-7", msgspec.structs.replace(device_here, root=str(tmp_path)))
        results = [
            await target.write(path, b"one"),
            await target.write(path, b"one"),
            await target.write(path, b"one", mode=0o600),
            await target.write(path, b"two", mode=0o600),
        ]
        target.dry = True
        results += [await target.write(path, b"three"), await target.remove(path)]
        return results, target.changes

    results, changes = on(work)
    assert results == [True, False, True, True, True, True]
    assert [change.rpartition(" ")[2] for change in changes] == [
        *("written", "changed", "changed", "changed", "removed")
    ]
    assert Path(path).read_bytes() == b"two"
    assert list(Path(path).parent.iterdir()) == [Path(path)]
