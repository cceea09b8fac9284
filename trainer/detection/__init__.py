"""The detector: SSDLite MobileNetV2, anchors, matching, loss, training."""
