"""From the broker into a database: every sighting once, acknowledged to the device when stored."""
