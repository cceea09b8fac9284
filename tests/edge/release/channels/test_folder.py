"""A repository in a folder, which may be somebody else's stick."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edge.release.channels import ChannelError, ChannelMissingError
from edge.release.channels.folder import FolderChannel, InboxChannel

PATH = "metadata/timestamp.json"


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    folder = tmp_path / "stick"
    (folder / "metadata").mkdir(parents=True)
    (folder / PATH).write_bytes(bytes(range(256)) * 1000)
    return folder


def read(folder: Path, path: str = PATH, offset: int = 0, limit: int = 1 << 20) -> bytes:
    return b"".join(FolderChannel(folder).fetch(path, offset=offset, limit=limit))


def test_files_from_any_offset_up_to_any_limit(stick: Path) -> None:
    data = (stick / PATH).read_bytes()
    assert read(stick) == data
    assert read(stick, offset=100_000) == data[100_000:]
    assert read(stick, offset=7, limit=100_000) == data[7:100_007]
    assert read(stick, offset=len(data)) == b""
    assert read(stick, offset=len(data) + 5) == b""
    assert read(stick, limit=0) == b""


def test_a_file_that_is_not_there(stick: Path) -> None:
    with pytest.raises(ChannelMissingError, match="has no metadata/2"):
        read(stick, "metadata/2.root.json")


def test_a_stick_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="stick") as caught:
        read(tmp_path / "stick")
    assert not isinstance(caught.value, ChannelMissingError)


def test_nothing_has_come_over_the_broker(tmp_path: Path) -> None:
    with pytest.raises(ChannelError, match="broker"):
        list(InboxChannel(tmp_path / "inbox").fetch(PATH, limit=10))


def test_a_stick_pulled_while_it_is_read(stick: Path) -> None:
    chunks = FolderChannel(stick).fetch(PATH, limit=1 << 20)
    next(chunks)
    shutil.rmtree(stick)
    # What is open can be read on; what is not is gone.
    with pytest.raises(ChannelError, match="pulled"):
        read(stick)


def test_an_input_error_says_that_the_stick_was_pulled(stick: Path) -> None:
    chunks = FolderChannel(stick).fetch(PATH, limit=1 << 20)
    next(chunks)
    # What the channel reads on is a folder now, which the kernel refuses as it does a dead disk.
    opened = [path for path in Path("/proc/self/fd").iterdir() if path.resolve() == stick / PATH]
    folder = os.open(stick, os.O_RDONLY)
    os.dup2(folder, int(opened[0].name))
    os.close(folder)
    shutil.rmtree(stick)
    with pytest.raises(ChannelError, match="pulled") as caught:
        next(chunks)
    assert not isinstance(caught.value, ChannelMissingError)


def test_links_out_of_the_stick_lead_nowhere(stick: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"root:x:0:0")
    (stick / PATH).unlink()
    (stick / PATH).symlink_to(tmp_path / "secret")
    with pytest.raises(ChannelError, match="out of the folder"):
        read(stick)
    shutil.rmtree(stick / "metadata")
    (stick / "metadata").symlink_to(tmp_path)
    (tmp_path / "timestamp.json").write_bytes(b"{}")
    with pytest.raises(ChannelError, match="out of the folder"):
        read(stick)


def test_links_within_the_stick_are_followed(stick: Path) -> None:
    (stick / "metadata" / "2.root.json").symlink_to("timestamp.json")
    assert read(stick, "metadata/2.root.json") == read(stick)


@pytest.mark.parametrize("kind", ["folder", "pipe", "loop"])
def test_what_is_no_file_is_not_waited_for(stick: Path, kind: str) -> None:
    path = stick / PATH
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(path.name)
    with pytest.raises(ChannelError) as caught:
        read(stick)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "metadata/../x.json", ""])
def test_nothing_but_a_repositorys_files_is_opened(stick: Path, path: str) -> None:
    with pytest.raises(ChannelError, match="no file of a repository"):
        read(stick, path)
