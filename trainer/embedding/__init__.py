"""The embedder: MobileNetV2 cut at a tap, losses, training."""
