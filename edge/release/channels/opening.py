"""Which channel a URL means."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from edge.errors import UsageError
from edge.release.channels.channel import Channel
from edge.release.channels.folder import FolderChannel, InboxChannel
from edge.release.channels.https import HttpsChannel

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def open_channel(url: str, *, inbox: Path, ca_file: Path | None = None) -> Channel:
    """Return the channel of a URL; nothing is connected or read yet.

    https://HOST[:PORT]/PATH, file:///FOLDER, or mqtt: for what the agent took from the broker,
    which lies in `inbox`. ca_file: the authority that a web server's certificate is of, PEM;
    without, the system's. http:// is for this machine only. UsageError for everything else.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url}: not a URL: {error}") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(f"{parts.scheme}://…: a channel has no user, password, query or fragment")
    match parts.scheme:
        case "https" | "http" if parts.hostname:
            if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
                raise UsageError(f"{url}: write https://; http:// is for this machine only")
            return HttpsChannel(url, parts.scheme, parts.hostname, port, parts.path, ca_file)
        case "file" if parts.netloc in ("", "localhost") and parts.path.startswith("/"):
            return FolderChannel(Path(unquote(parts.path)))
        case "mqtt" if not parts.netloc and not parts.path:
            return InboxChannel(inbox)
    raise UsageError(f"{url}: not a channel; write https://HOST/PATH, file:///FOLDER or mqtt:")
