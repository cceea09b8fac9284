"""Keras models to int8 TFLite, and how well the two agree."""
