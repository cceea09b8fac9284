"""Which channel a URL means, and which URLs mean none."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import UsageError
from edge.release.channels import open_channel
from edge.release.channels.folder import FolderChannel, InboxChannel
from edge.release.channels.https import HttpsChannel

INBOX = Path("/nowhere/inbox")


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://farm.example/repo", HttpsChannel),
        ("https://farm.example:8443/", HttpsChannel),
        ("http://127.0.0.1:8000/repo", HttpsChannel),
        ("http://[::1]:8000/repo", HttpsChannel),
        ("file:///media/stick", FolderChannel),
        ("file:///media/my%20stick", FolderChannel),
        ("mqtt:", InboxChannel),
    ],
)
def test_channels_by_their_urls(url: str, kind: type) -> None:
    channel = open_channel(url, inbox=INBOX)
    assert type(channel) is kind
    assert channel.name


def test_a_space_in_a_folders_name(tmp_path: Path) -> None:
    folder = tmp_path / "my stick" / "metadata"
    folder.mkdir(parents=True)
    (folder / "timestamp.json").write_bytes(b"{}")
    url = folder.parent.as_uri()
    assert "%20" in url
    channel = open_channel(url, inbox=INBOX)
    assert list(channel.fetch("metadata/timestamp.json", limit=10)) == [b"{}"]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/media/stick",
        "http://farm.example/repo",
        "http://127.0.0.1.farm.example/repo",
        "https:///repo",
        "https://farm.example:99999/",
        "https://[::1",
        "https://alice:secret@farm.example/",
        "https://farm.example/?token=secret",
        "file://host/share",
        "file:stick",
        "mqtt://broker",
        "ftp://farm.example/",
    ],
)
def test_urls_that_mean_no_channel(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_channel(url, inbox=INBOX)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)
