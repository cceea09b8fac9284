"""Cameras, videos and folders of images, each a source of frames."""
