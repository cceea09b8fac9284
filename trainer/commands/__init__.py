"""The commands of `earmark-trainer`, a module each; heavy libraries load when one runs."""
