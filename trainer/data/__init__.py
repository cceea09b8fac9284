"""Images in: crops folders, COCO frames, splits by session, batches, and the herd simulator."""
