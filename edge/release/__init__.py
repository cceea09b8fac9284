"""What a device runs: the bundle's manifest, its verification and its loading."""
