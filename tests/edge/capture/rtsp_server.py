"""A real RTSP camera that plays one MP4 clip for ever: `/usr/bin/python3 rtsp_server.py CLIP PORT`.

It needs the system's own Python, whose GStreamer bindings no virtual environment has; so nothing of
earmark is imported here. Prints `ready` when it listens; the stream is `/pen`.
"""

from __future__ import annotations

import sys
from typing import Any

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

_READ = "filesrc name=file ! qtdemux ! appsink name=out sync=false"
_SERVE = (
    "( appsrc name=clip is-live=true format=time ! rtph264pay name=pay0 pt=96 config-interval=-1 )"
)
_QUEUE_BYTES = 4 << 20


def read_clip(path: str) -> list[Any]:
    """Return the clip's samples, one picture each, with their times."""
    pipeline = Gst.parse_launch(_READ)
    pipeline.get_by_name("file").set_property("location", path)
    pipeline.set_state(Gst.State.PLAYING)
    sink = pipeline.get_by_name("out")
    samples = []
    while (sample := sink.emit("pull-sample")) is not None:
        samples.append(sample)
    pipeline.set_state(Gst.State.NULL)
    if not samples:
        sys.exit(f"{path}: no H.264 video that GStreamer can read")
    return samples


class Player:
    """Feeds the samples to one viewer, again and again, as fast as it asks."""

    def __init__(self, samples: list[Any]) -> None:
        self._samples = samples
        first, last = samples[0].get_buffer(), samples[-1].get_buffer()
        self._length = last.dts + last.duration - first.dts
        self._next = 0

    def feed(self, source: Any, _: int) -> None:
        """Push the next picture."""
        rounds, at = divmod(self._next, len(self._samples))
        self._next += 1
        kept = self._samples[at].get_buffer()
        buffer = kept.copy_deep()
        buffer.pts = kept.pts + rounds * self._length
        buffer.dts = kept.dts + rounds * self._length
        source.emit("push-buffer", buffer)


def main() -> None:
    """Serve until killed."""
    path, port = sys.argv[1:]
    Gst.init(None)
    samples = read_clip(path)

    def configure(_: Any, media: Any) -> None:
        source = media.get_element().get_by_name("clip")
        source.set_property("caps", samples[0].get_caps())
        source.set_property("max-bytes", _QUEUE_BYTES)
        source.connect("need-data", Player(samples).feed)

    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(_SERVE)
    factory.set_shared(True)
    factory.connect("media-configure", configure)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    server.get_mount_points().add_factory("/pen", factory)
    if not server.attach(None):
        sys.exit(f"port {port}: cannot be listened on")
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
