"""Devices over SSH and by stick: provision them, flash releases to them, see how they are."""
