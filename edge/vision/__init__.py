"""From pixels to boxes, crops and embeddings: geometry, runtime, detector, embedder, crop gates."""
