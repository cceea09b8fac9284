"""Ways by which a repository reaches a device: a web server, a folder or stick, the broker.

None of them is trusted: what comes is checked against signatures and hashes by who asked for it.
"""

from edge.release.channels.channel import Channel, ChannelError, ChannelMissingError
from edge.release.channels.opening import open_channel

__all__ = ["Channel", "ChannelError", "ChannelMissingError", "open_channel"]
