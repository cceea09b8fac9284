"""Measures of a trained bundle, and the report that shows them."""
