"""Cameras, videos and folders of images, each a source of frames."""

from edge.capture.address import blank_credentials
from edge.capture.link import Grade, Link, LinkReport
from edge.capture.opening import open_source
from edge.capture.source import Source, SourceOptions, Status, StatusListener

__all__ = [
    "Grade",
    "Link",
    "LinkReport",
    "Source",
    "SourceOptions",
    "Status",
    "StatusListener",
    "blank_credentials",
    "open_source",
]
