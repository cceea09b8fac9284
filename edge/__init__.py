"""The light agent that runs on a barn device: cameras in, named animals out over MQTT."""

__version__ = "0.1.0"
