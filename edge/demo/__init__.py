"""`make demo`: the whole way from a clip to MQTT subscribers, held against the truth."""
