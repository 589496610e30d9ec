"""Masks to polygons and layout files: GDSII, OASIS and SVG."""
