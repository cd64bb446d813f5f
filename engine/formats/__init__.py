"""Bytes to graphs and back: the API format, pictures that carry a workflow, and what is derived from the catalogue."""
