"""The commands of `earmark-edge`, a module a command."""
